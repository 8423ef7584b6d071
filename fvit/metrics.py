"""Measures on explanation maps."""

import numpy as np
import torch

from fvit.checks import check_k


def top_k(maps, k: int) -> torch.Tensor:
    """Indices of the k greatest values of each map, greatest first; ties by lowest index.

    maps      (B, h, w) or (B, n), tensor or array, without NaN
    returns   (B, k) int64, positions in the flattened map
    """
    flat = torch.as_tensor(maps).flatten(1)  # (B, n)
    check_k(k, flat.shape[1])
    if flat.isnan().any():
        raise ValueError("maps hold NaN, which has no rank; look at maps.isnan()")
    return flat.argsort(dim=1, descending=True, stable=True)[:, :k]


def topk_overlap(a, b, k: int):
    """Share of the k greatest tokens that two maps have in common, per image: len(S & S') / k.

    a, b      (B, h, w) or (B, n), of one shape; tensors or arrays
    returns   (B,) float64 in [0, 1]; an array if both are arrays, else a tensor

    Raises ValueError for unlike shapes, NaN, or k outside 1..n. Ties break by the lowest index.
    Source: Hu et al. 2024, V_k.
    """
    arrays = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise ValueError(f"maps of shapes {tuple(a.shape)} and {tuple(b.shape)}, wanted one shape, (B, h, w) or (B, n)")
    shared = (top_k(a, k)[:, :, None] == top_k(b, k).to(a.device)[:, None, :]).sum((1, 2))  # (B,)
    overlap = shared.double() / k
    return overlap.cpu().numpy() if arrays else overlap
