"""Does a map rank pixels by what the model uses? Remove them in its order and see how long the prediction holds."""

import numpy as np
import torch

from fvit.base.checks import (
    check_choice,
    check_classes,
    check_classifier,
    check_count,
    check_images,
    check_logits,
    check_tensor,
)
from fvit.metrics.maps import to_pixels

TENTHS = range(11)  # of the pixels removed: 0, 10, ..., 100 %


def perturbation_curve(vit, x, y, map, kind: str = "positive", batch_size: int = 64) -> torch.Tensor:
    """Is the prediction still right once 0, 10, ..., 100 % of the pixels are black, in the order of the map?

    vit       a model, images (B, 3, H, W) in [0, 1] -> logits (B, C)
    x, y      (B, 3, H, W) in [0, 1], the images that lose pixels, whatever the maps were made from; (B,) true classes
    map       (B, h, w) or (B, H, W), any real values; a coarse map is first interpolated to the image's size
    kind      "positive": greatest values go first, a good map falls early; "negative": least first, it falls late
    returns   (B, 11) float64 on the CPU: 1 where the greatest logit is that of y, else 0

    At each step int(H * W * share) pixels are set to 0 in all channels, black before normalisation. Ties in the map
    break by the lowest index: a constant map removes the image from its top. `batch_size` does not change the result.

    Raises ValueError for images outside [0, 1], classes the model has not, other shapes, NaN, or an unknown kind.
    Source: Chefer et al. 2021, evaluation code, whose steps are 10 ... 90 % (docs/reference-code.md, 3.2).
    """
    check_choice(kind, ("positive", "negative"), "kind of perturbation")
    if not callable(vit):
        raise ValueError(f"vit is a {type(vit).__name__}, wanted a model: images (B, 3, H, W) -> logits (B, C)")
    check_classifier(getattr(vit, "num_classes", None), "perturbation_curve, which follows a prediction,")
    pixels = to_pixels(map, tuple(check_images(x, size=getattr(vit, "image_size", None)).shape[2:]))
    if len(pixels) != len(x):
        raise ValueError(f"{len(x)} images and {len(pixels)} maps, wanted one map for each image")
    y, batch_size = check_classes(y, len(x), name="y").cpu(), min(check_count(batch_size, "batch_size"), len(x))
    parts = zip(*(values.split(batch_size) for values in (x, y, pixels)), strict=True)
    with torch.no_grad():
        return torch.cat([_hits(vit, *part, kind) for part in parts])


def _hits(vit, x, y, pixels, kind):
    order = pixels.flatten(1).argsort(dim=1, descending=kind == "positive", stable=True)  # (B, H * W)
    rank = order.argsort(dim=1).view(len(x), 1, *x.shape[2:]).to(x.device)  # of each pixel, 0 goes first
    hits = []
    for tenths in TENTHS:
        removed = rank < rank[0].numel() * tenths // 10
        hits.append(check_logits(vit(x.masked_fill(removed, 0)), y).argmax(1).cpu() == y)
    return torch.stack(hits, 1).double()


def curve_auc(hits, convention: str):
    """Area under perturbation curves, by one of the two definitions in use; numbers of both never share a column.

    hits         (B, 11), or a mean curve (11,): at 0, 10, ..., 100 % removed; tensor or array
    convention   "mean_height": trapezoids over 10 ... 90 %, divided by that width, as in the reproduction (Kurek et al.
                 2025); "unit_interval": trapezoids over 0 ... 100 %, which is what Chefer et al.'s numbers fit
    returns      (B,), or a scalar for one curve, float64 in [0, 1]; an array for an array, else a tensor

    Raises ValueError for another number of steps, values outside [0, 1] and an unknown convention.
    Source: docs/reference-code.md, 8.3.
    """
    check_choice(convention, ("mean_height", "unit_interval"), "convention")
    curve = check_tensor(hits, "hits").cpu().double()
    if curve.ndim not in (1, 2) or curve.shape[-1] != len(TENTHS):
        raise ValueError(f"hits have shape {tuple(curve.shape)}, wanted (B, 11) or (11,): 0, 10, ..., 100 % removed")
    if not ((curve >= 0) & (curve <= 1)).all():
        raise ValueError("hits have values that are NaN or outside [0, 1], wanted hits or their means; divide per cent")
    inner = convention == "mean_height"
    area = torch.trapezoid(curve[..., 1:10] if inner else curve, dx=1 / 8 if inner else 1 / 10)
    return area.numpy() if isinstance(hits, np.ndarray) else area
