"""Divergences between distributions, in float64 and without torch; certificates and noise bounds join them here."""

import numpy as np
from scipy.special import logsumexp


def renyi_divergence(p, q, order: float) -> np.ndarray:
    """Renyi divergence D_order(p || q) in nats: 0 where p = q, growing as p puts mass where q has little.

    p, q     (B, n) rows that sum to 1 within 1e-4; they are made to sum to 1 exactly, in float64. Tensors are welcome.
    order    in (0, inf]. 1 is Kullback-Leibler, sum p log(p/q); inf is log max p/q; otherwise
             log(sum p^order q^(1 - order)) / (order - 1). Non-decreasing in the order.
    returns  (B,) float64 in [0, inf]; inf where q = 0 < p (order >= 1) or where p and q share no token (any order)

    Raises ValueError for ill-shaped, negative or non-finite rows, rows that are not distributions, and order <= 0.
    Source: Renyi 1961; limits in van Erven and Harremoes 2014.
    """
    p, q = _distributions(p, "p"), _distributions(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"p has shape {p.shape}, q {q.shape}; wanted two (B, n) of the same shape")
    if not order > 0:
        raise ValueError(f"order={order}, wanted a number in (0, inf]; 1 is Kullback-Leibler")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_ratio = np.where(p > 0, np.log(p) - np.log(q), 0.0)  # (B, n); +inf where q = 0 < p, no weight where p = 0
        if order == 1:
            divergence = (p * log_ratio).sum(axis=1)
        elif order == np.inf:
            divergence = np.where(p > 0, log_ratio, -np.inf).max(axis=1)
        else:
            divergence = _log_moment(p, log_ratio, order - 1) / (order - 1)
    return np.maximum(divergence, 0.0)  # a divergence is never negative, its rounding may be


def _log_moment(p, log_ratio, s):
    """log sum p (p/q)^s, keeping its digits as s -> 0 (the sum is then 1 plus a trifle) and from overflow."""
    trifle = (p * np.expm1(s * log_ratio)).sum(axis=1)
    direct = logsumexp(np.where(p > 0, np.log(p) + s * log_ratio, -np.inf), axis=1)
    return np.where(np.abs(trifle) < 0.5, np.log1p(trifle), direct)


def _distributions(rows, name):
    rows = rows.detach().cpu().double() if hasattr(rows, "detach") else rows  # a tensor, whatever its device and dtype
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} has shape {rows.shape}, wanted (B, n); flatten maps: {name}.reshape(len({name}), -1)")
    if not (np.isfinite(rows).all() and (rows >= 0).all()):
        got = f"{name} has negative, NaN or infinite entries"
        raise ValueError(f"{got}, wanted probabilities in [0, 1]; if they are logits, apply a softmax")
    sums = rows.sum(axis=1, keepdims=True)
    worst = np.abs(sums - 1).max(initial=0.0)
    if worst > 1e-4:
        raise ValueError(f"a row of {name} sums to 1 +- {worst:.3g}, wanted 1 within 1e-4; divide each row by its sum")
    return rows / sums
