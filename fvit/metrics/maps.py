"""Measures on explanation maps against each other: what a perturbation of the image changes in them."""

import numpy as np
import torch
from scipy import stats
from torch.nn.functional import interpolate

from fvit.base.checks import check_count, check_ids, check_images, check_k, check_number, check_tensor
from fvit.base.rng import numpy_generator


def topk_overlap(a, b, k: int):
    """Share of the k greatest tokens that two maps have in common, per image: len(S & S') / k.

    a, b      (B, h, w) or (B, n), of one shape; tensors or arrays
    returns   (B,) float64 in [0, 1], on the CPU; an array if both are arrays, else a tensor

    Raises ValueError for unlike shapes, NaN, or k outside 1..n. Ties break by the lowest index.
    Source: Hu et al. 2024, V_k.
    """
    a, b, arrays = _two_maps(a, b)
    tops = [torch.zeros_like(m.flatten(1), dtype=torch.bool).scatter_(1, top_k(m, k), True) for m in (a, b)]  # (B, n)
    overlap = (tops[0] & tops[1]).sum(1).double() / check_k(k, a[0].numel() if len(a) else k)
    return overlap.numpy() if arrays else overlap


def rank_correlation(a, b):
    """Spearman's rank correlation of two maps, per image; ties share their mean rank.

    returns   (B,) float64 in [-1, 1], NaN where a map is constant (or has one value); arguments and errors as
              `topk_overlap`

    Source: Spearman 1904; for maps Adebayo et al. 2018.
    """
    a, b, arrays = _two_maps(a, b)
    ranks = [stats.rankdata(m.double().flatten(1).numpy(), axis=1) for m in (a, b)]  # 2 x (B, n)
    varied = np.logical_and(*(np.ptp(r, axis=1) > 0 for r in ranks))
    rho = np.full(len(a), np.nan)
    if varied.any():
        rho[varied] = stats.pearsonr(ranks[0][varied], ranks[1][varied], axis=1).statistic
    return rho if arrays else torch.from_numpy(rho)


def l2_change(a, b):
    """Euclidean distance of two maps, per image, in the units of the maps: at most sqrt(2) for heatmaps of sum 1.

    Arguments, result, (B,) float64, and errors as `topk_overlap`.
    """
    a, b, arrays = _two_maps(a, b)
    change = (a.double() - b.double()).flatten(1).norm(dim=1)
    return change.numpy() if arrays else change


def max_sensitivity(explainer, x, eps=8 / 255, n_samples: int = 10, seed: int = 0, ids=None):
    """Largest l2 change of the map over random perturbations within `eps` (l-infinity) of each image.

    explainer   callable: images -> maps (B, h, w), tensor or array, e.g. `lambda x: fvit.explain(vit, x, "rollout")`
    x           (B, 3, H, W) in [0, 1]; perturbed images are clipped to [0, 1]
    eps         radius in [0, 1] pixel units; draws are uniform in the cube, one stream for each (seed, id, draw)
    returns     (B,) float64 on the CPU: a lower bound on the supremum that the measure is defined by, and never smaller
                with more draws. An attack finds more

    Raises ValueError for images outside [0, 1], eps that is negative or above 1, or n_samples < 1.
    Source: Yeh et al. 2019, not divided by the norm of the map.
    """
    ids = check_ids(ids, len(check_images(x)))
    eps = check_number(eps, "eps", "[0, 1]", "for images in [0, 1]")
    n_samples = check_count(n_samples, "n_samples")
    heat, changes = torch.as_tensor(explainer(x)), []
    for draw in range(n_samples):
        delta = np.stack([numpy_generator(seed, "sensitivity", i, draw).uniform(-eps, eps, x.shape[1:]) for i in ids])
        moved = x + torch.from_numpy(delta).to(x.dtype).to(x.device)
        changes.append(l2_change(heat, explainer(moved.clamp(0, 1))))
    return torch.stack(changes).amax(0)


def to_pixels(maps, size: tuple[int, int]) -> torch.Tensor:
    """Maps (B, h, w) on the patch grid as attributions (B, H, W): bilinear, corners not aligned.

    maps      any real values, tensor or array; maps that have the `size` (H, W) already are not interpolated
    returns   on the CPU, in the precision of the maps (integers as float64), detached; constant maps stay so to the bit

    Raises ValueError for other shapes, maps finer than `size`, and values that are complex, NaN or infinite.
    Source: Chefer et al. 2021, with a scale factor of 16 (docs/reference-code.md, 1.10).
    """
    maps = check_tensor(maps, "map").detach().cpu()
    (height, width), sides = size, maps.shape[1:]
    if maps.ndim != 3 or 0 in maps.shape or sides[0] > height or sides[1] > width:
        wanted = f"real (B, h, w), each side at least 1 and no more than {tuple(size)}"
        raise ValueError(f"map is {maps.dtype} of shape {tuple(maps.shape)}, wanted {wanted}; give one map an image")
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32 if maps.is_floating_point() else torch.float64))
    if not maps.isfinite().all():
        raise ValueError("map has NaN or infinite values, wanted finite ones; fvit.explain gives no others")
    if tuple(sides) == tuple(size):
        return maps
    pixels = interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]  # (B, H, W)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(low == high, low, pixels)  # interpolation of a constant is one up to rounding only


def _two_maps(a, b):
    arrays = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    a, b = check_tensor(a, "a").detach().cpu(), check_tensor(b, "b").detach().cpu()
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise ValueError(f"maps of shapes {tuple(a.shape)} and {tuple(b.shape)}, wanted one shape, (B, h, w) or (B, n)")
    return _ranked(a), _ranked(b), arrays


def _ranked(maps):
    if maps.isnan().any():
        raise ValueError("maps hold NaN, which has no rank; look at maps.isnan()")
    return maps


def normalise_map(values: torch.Tensor, grid: tuple[int, int] | None = None) -> torch.Tensor:
    """Heatmap: pixels pooled to `grid` by sums, negatives clamped to 0, divided by the sum; all zero becomes uniform.

    values   (B, h, w) on the grid, or (B, H, W) pixels
    returns  (B, h, w), sums to 1 per image, float32 at least. Raises ValueError for NaN or infinite values: no map
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if not values.isfinite().all():
        raise ValueError("map has NaN or infinite values, wanted finite ones; make it in float64: vit.double()")
    if grid is not None and tuple(values.shape[1:]) != tuple(grid):
        (height, width), (h, w) = values.shape[1:], grid
        values = values.reshape(-1, h, height // h, w, width // w).sum((2, 4))  # (B, h, w)
    positive = values.clamp(min=0)
    total = positive.sum((1, 2), keepdim=True)
    uniform = torch.full_like(positive, 1 / positive[0].numel())
    return torch.where(total > 0, positive / total.where(total > 0, 1), uniform)  # no 0/0, also not in the gradient


def top_k(maps, k: int) -> torch.Tensor:
    """Indices of the k greatest values of each map, greatest first; ties by lowest index.

    maps      (B, h, w) or (B, n), tensor or array, without NaN
    returns   (B, k) int64, positions in the flattened map
    """
    maps = check_tensor(maps, "maps")
    if maps.ndim < 2:
        raise ValueError(f"maps have shape {tuple(maps.shape)}, wanted (B, h, w) or (B, n); one map becomes maps[None]")
    flat = maps.flatten(1)  # (B, n)
    k = check_k(k, flat.shape[1])
    return _ranked(flat).argsort(dim=1, descending=True, stable=True)[:, :k]
