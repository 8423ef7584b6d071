"""Measures on explanation maps."""

import numpy as np
import torch

from fvit.explanations import top_k


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
