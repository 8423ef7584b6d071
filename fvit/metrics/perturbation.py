"""Does a map rank pixels by what the model uses? Remove them in its order and see how long the prediction holds."""

import numpy as np
import torch
import torch.nn.functional as F

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


def perturbation_curve(vit, x, y, map, kind: str = "positive", batch_size: int = 64, fill="black",
                       patch: int = 1) -> torch.Tensor:
    """Is the prediction still right once 0, 10, ..., 100 % of the pixels are gone, in the order of the map?

    vit       a model, images (B, 3, H, W) in [0, 1] -> logits (B, C)
    x, y      (B, 3, H, W) in [0, 1], the images that lose pixels, whatever the maps were made from; (B,) true classes
    map       (B, h, w) or (B, H, W), any real values; a coarse map is first interpolated to the image's size
    kind      "positive": greatest values go first, a good map falls early; "negative": least first, it falls late
    fill      what stands in their place, a name of FILLS: "black" before normalisation, "mean" (the image's mean
              colour), "blur" (the image, blurred over an eighth of its height), "inpaint" (drawn in from the pixels
              that are left). Or a function of x and of the places removed, (B, 1, H, W) bool, to images as x
    patch     side of the squares in which pixels go, by the mean of the map over each
    returns   (B, 11) float64 on the CPU: 1 where the greatest logit is that of y, else 0

    At each step int(n * share) of the n pixels, or squares, are replaced in all channels. Ties in the map break by the
    lowest index: a constant map removes the image from its top. `batch_size` does not change the result.

    Raises ValueError for images outside [0, 1], classes the model has not, other shapes, NaN, an unknown kind or fill,
    and a patch that does not divide the image.
    Source: Chefer et al. 2021, evaluation code, black and by pixels, whose steps are 10 ... 90 %
    (docs/reference-code.md, 3.2). Other fills in the line of Rong et al. 2022 (ROAD); theirs is another one.
    """
    check_choice(kind, ("positive", "negative"), "kind of perturbation")
    replace = fill if callable(fill) else FILLS[check_choice(fill, FILLS, "fill")]
    if not callable(vit):
        raise ValueError(f"vit is a {type(vit).__name__}, wanted a model: images (B, 3, H, W) -> logits (B, C)")
    check_classifier(getattr(vit, "num_classes", None), "perturbation_curve, which follows a prediction,")
    size = tuple(check_images(x, size=getattr(vit, "image_size", None)).shape[2:])
    pixels, patch = to_pixels(map, size), check_count(patch, "patch")
    if len(pixels) != len(x):
        raise ValueError(f"{len(x)} images and {len(pixels)} maps, wanted one map for each image")
    if any(side % patch for side in size):
        raise ValueError(f"patch={patch} does not divide images of {size} pixels; wanted a divisor of both sides")
    if patch > 1:
        pixels = F.avg_pool2d(pixels[:, None], patch)[:, 0]
    y, batch_size = check_classes(y, len(x), name="y").cpu(), min(check_count(batch_size, "batch_size"), len(x))
    parts = zip(*(values.split(batch_size) for values in (x, y, pixels)), strict=True)
    with torch.no_grad():
        return torch.cat([_hits(vit, *part, kind, replace) for part in parts])


def _hits(vit, x, y, pixels, kind, replace):
    order = pixels.flatten(1).argsort(dim=1, descending=kind == "positive", stable=True)  # (B, h * w)
    rank = order.argsort(dim=1).view(len(x), 1, *pixels.shape[1:]).to(x.device)  # of each square, 0 goes first
    hits = []
    for tenths in TENTHS:
        removed = rank < rank[0].numel() * tenths // 10
        patch = x.shape[2] // pixels.shape[1]
        removed = removed.repeat_interleave(patch, 2).repeat_interleave(patch, 3)  # (B, 1, H, W)
        left = check_images(torch.where(removed, replace(x, removed), x), "images once filled")
        hits.append(check_logits(vit(left), y).argmax(1).cpu() == y)
    return torch.stack(hits, 1).double()


def _blurred(x, removed):
    """Gaussian, std an eighth of the height, edges repeated."""
    width = x.shape[2] / 8
    reach = min(round(3 * width), *(side - 1 for side in x.shape[2:]))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
    kernel = (weights / weights.sum()).to(x).expand(3, 1, 1, -1)
    rows = F.conv2d(F.pad(x, (reach,) * 4, mode="replicate"), kernel, groups=3)
    return F.conv2d(rows, kernel.transpose(2, 3), groups=3)


def _inpainted(x, removed):
    """What is left, drawn into what is not: means over ever larger squares, then interpolated back ("pull and push",
    Gortler et al. 1996); the image's mean colour where nothing is left at all."""
    return _drawn_in(x, ~removed, x.mean((2, 3), keepdim=True))


def _drawn_in(x, known, otherwise):
    if not known.any() or max(x.shape[2:]) == 1:
        return torch.where(known, x, otherwise)
    half = [-(-side // 2) for side in x.shape[2:]]
    weight = F.adaptive_avg_pool2d(known.to(x), half)
    means = F.adaptive_avg_pool2d(x * known, half) / weight.clamp_min(torch.finfo(x.dtype).tiny)
    coarse = _drawn_in(means, weight > 0, otherwise)
    return torch.where(known, x, F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False))


FILLS = {"black": lambda x, removed: torch.zeros_like(x), "blur": _blurred, "inpaint": _inpainted,
         "mean": lambda x, removed: x.mean((2, 3), keepdim=True).expand_as(x)}


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
