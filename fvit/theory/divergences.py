"""Divergences between distributions, and the least one that breaks a top-k, in float64 and without torch."""

import math
from fractions import Fraction

import numpy as np
from scipy.special import logsumexp

from fvit.base.checks import as_integer, check_array, check_choice, check_count, check_k, check_number

ORDER = "order", "(0, inf]", "1 is Kullback-Leibler"
DIRECTIONS = ("clean_to_attacked", "attacked_to_clean")


def renyi_divergence(p, q, order: float) -> np.ndarray:
    """Renyi divergence D_order(p || q) in nats: 0 where p = q, growing as p puts mass where q has little.

    p, q     (B, n) or maps (B, h, w), each of sum 1 within 1e-4, arrays or tensors; made to sum to 1 in float64
    order    in (0, inf]. 1 is Kullback-Leibler, sum p log(p/q); inf is log max p/q; otherwise
             log(sum p^order q^(1 - order)) / (order - 1). Non-decreasing in the order.
    returns  (B,) float64 in [0, inf]; inf where q = 0 < p (order >= 1) or where p and q share no token (any order)

    Raises ValueError for ill-shaped, negative or non-finite rows, rows that are not distributions, and order <= 0.
    Source: Renyi 1961; limits in van Erven and Harremoes 2014.
    """
    if np.shape(p) != np.shape(q):
        raise ValueError(f"p has shape {tuple(np.shape(p))}, q {tuple(np.shape(q))}; wanted two of one shape, "
                         "(B, n) or (B, h, w)")
    p, q = _distributions(p, "p"), _distributions(q, "q")
    order = check_number(order, *ORDER)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_ratio = np.where(p > 0, np.log(p) - np.log(q), 0.0)  # (B, n); +inf where q = 0 < p, no weight where p = 0
        if order == 1:
            divergence = (p * log_ratio).sum(axis=1)
        elif order >= 1e300:  # the limit to the last digit; order * log_ratio would overflow
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
    rows = check_array(rows, name)
    if rows.ndim not in (2, 3) or 0 in rows.shape[1:]:
        raise ValueError(f"{name} has shape {rows.shape}, wanted (B, n) or (B, h, w); one row becomes {name}[None]")
    rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    if not (np.isfinite(rows).all() and (rows >= 0).all()):
        raise ValueError(f"{name} has negative, NaN or infinite entries, wanted probabilities in [0, 1]; if they are "
                         "logits, apply a softmax")
    sums = rows.sum(axis=1, keepdims=True)
    worst = np.abs(sums - 1).max(initial=0.0)
    if worst > 1e-4:
        raise ValueError(f"a row of {name} sums to 1 +- {worst:.3g}, wanted 1 within 1e-4; divide each row by its sum")
    return rows / sums


def tokens_to_break(k: int, beta) -> int:
    """Least number of lost tokens that brings the top-k overlap below beta: floor((1 - beta) k) + 1, written k0.

    beta   overlap to be kept, in [0, 1]: a Fraction, a string ("0.8", "2/3"), or a float read as the decimal it prints
    returns  1 for beta = 1 (no token may go) up to k + 1 for beta = 0 (nothing can break), in exact rationals

    Raises ValueError for k < 1, and for a beta that is no number in [0, 1].
    """
    try:
        exact = Fraction(str(beta))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"beta={beta!r}, wanted a number in [0, 1], e.g. 0.8, '2/3' or Fraction(2, 3)") from None
    if not 0 <= exact <= 1:
        raise ValueError(f"beta={beta}, wanted a share of the top-k in [0, 1]")
    return int((1 - exact) * check_count(k, "k")) + 1  # int() of a positive Fraction is its floor


def breaking_divergence(w, k: int, beta, order: float, direction="clean_to_attacked"):
    """Exact least Renyi divergence from `w` to a distribution whose top-k overlap with it is below beta.

    w          (n,) or (B, n) rows that sum to 1 within 1e-4
    beta       see `tokens_to_break`
    order      in (0, inf]; 1 is Kullback-Leibler
    direction  "clean_to_attacked": min D_order(w || q); "attacked_to_clean": min D_order(q || w)
    returns    float64, a scalar or (B,), in [0, inf]; inf where no q can break it, 0 where a tie breaks it by itself

    Raises ValueError for ill-shaped or improper rows, k > n, and an order or direction that is not known.
    Source: our derivation (docs/theory.md, Theorem 1). Taught in notebook 06.
    """
    order, s = _order_and_scale(order, direction)

    def least(a, b, rest):
        if np.isfinite(order):
            return order * breaking_rate(np.full(len(a), s), a, b, rest)
        # limits of order * Lambda; q >= exp(-D) w, or q <= exp(D) w, on the contested tokens
        if direction == "clean_to_attacked":
            return np.log1p(np.maximum(a.max(1, keepdims=True) - b, 0).sum(1))
        low = b.min(1, keepdims=True)
        kept = rest + b.sum(1) + np.minimum(a, low).sum(1)  # 1 - the gaps, as a positive sum
        return _log(kept, -np.maximum(a - low, 0).sum(1)) * -1

    return of_contested(least, w, k, beta)


def pooled_divergence(w, k: int, beta, order: float, direction="clean_to_attacked"):
    """The closed form we attribute to Hu et al. 2024 (and to Liu et al. 2021 for "attacked_to_clean"), from memory.

    It pools all 2 k0 contested tokens; a radius built on it over-claims for k0 > 1 (docs/theory.md, section 1.6). For
    comparison only; order > 1. Arguments, result and errors as `breaking_divergence`.
    """
    order, s = _order_and_scale(order, direction)
    if not 1 < order < np.inf:
        raise ValueError(f"order={order}, the pooled form wants one in (1, inf); use breaking_divergence")
    return of_contested(lambda a, b, _: order * pooled_rate(np.full(len(a), s), a, b), w, k, beta)


def images(w, k):
    """(w as (B, n) float64 rows of sum 1, shape of an answer for it); ValueError unless 1 <= k <= n."""
    w = check_array(w, "w")
    shape = w.shape[:1] if w.ndim > 1 else ()
    w = _distributions(w[None] if w.ndim == 1 else w, "w")
    check_k(k, w.shape[1])
    return w, shape


def of_contested(f, w, k, beta):
    """`f(a, b, rest)`, (B,), in the shape of an answer for `w`; inf where no k0 tokens can go.

    a, b, rest   of each row the k0 least of the top-k (B, k0), the k0 largest outside (B, k0), the mass of others (B,)
    """
    w, shape = images(w, k)
    k, k0 = as_integer(k), tokens_to_break(k, beta)
    if k0 > min(k, w.shape[1] - k):
        return np.full(shape, np.inf)[()]
    w = -np.sort(-w, axis=1)
    return np.reshape(f(w[:, k - k0:k], w[:, k:k + k0], w[:, :k - k0].sum(1) + w[:, k + k0:].sum(1)), shape)[()]


def breaking_rate(s, a, b, rest=None):
    """Lambda(s; a, b): the least K_s from which tokens `a` need not stay above tokens `b`.

    s       (B,) any real; K_s is D_order(w || q) / order at s = order and D_order(q || w) / order at s = 1 - order
    a, b    (B, k0) attention of the contested tokens inside and outside the top set, in any order, or bounds of it
    rest    (B,) mass of the other tokens; None, for bounds, takes what a and b leave of 1
    returns (B,) in [0, inf], non-decreasing in a, non-increasing in b

    Source: our derivation (docs/theory.md, Theorem 1); psi(w) = (w^s - 1) / s, and tau is the common level.
    """
    high, low = a.max(1, keepdims=True), b.min(1, keepdims=True)  # tau lies between: beyond them nothing is pooled
    within = np.concatenate([np.maximum(a, low), np.minimum(b, high)], axis=1)  # (B, 2 k0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        s, logs = s[:, None], np.log(within)  # -inf for 0
        ref = np.log(np.where((s >= 0) | (low == 0), high, low))  # pooled itself, and no power exceeds 1
        ref = np.where(np.isfinite(ref), ref, 0.0)
        psi = np.where(s == 0, logs - ref, np.expm1(s * (logs - ref)) / np.where(s == 0, 1, s))
        psi_a, psi_b = psi[:, :a.shape[1]], psi[:, a.shape[1]:]
        level = psi[:, :, None]  # tau tried at each token: (B, 2 k0, 1)
        short = np.maximum(psi_a[:, None] - level, 0).sum(2) - np.maximum(level - psi_b[:, None], 0).sum(2)
        pooled = np.where(np.arange(psi.shape[1]) < a.shape[1], short < 0, short > 0)  # a above tau, b below it
        count = np.maximum(pooled.sum(1, keepdims=True), 1)
        mean = np.where(pooled, psi, 0).sum(1, keepdims=True) / count  # psi(tau)
        log_tau = ref + np.where(s == 0, mean, np.log1p(s * mean) / np.where(s == 0, 1, s))
        tau, away = np.exp(log_tau[:, 0]), s[:, 0] - 1
        rate = tau * np.where(pooled, _curvature(s, logs - log_tau), 0).sum(1)  # E_s / (s - 1)
        unpooled = np.where(pooled, 0, np.concatenate([a, b], axis=1)).sum(1)
        others = np.maximum(1 + away * rate - count[:, 0] * tau, 0) if rest is None else rest + unpooled
        total = others + count[:, 0] * tau  # 1 + E_s, as a sum of positive terms
        value = np.where(away == 0, rate, _log(total, away * rate) / np.where(away == 0, 1, away))
        gone = np.log(b.sum(1) + rest) if rest is not None else np.log1p(-np.minimum(a.sum(1), 1))
        value = np.where((s[:, 0] <= 0) & (low[:, 0] == 0), gone / away, value)  # where some b is 0, all of a must go
    return np.where(high[:, 0] <= low[:, 0], 0.0, np.maximum(value, 0))


def _log(total, growth):
    """log(1 + growth), by `total`, the same as a sum of positive terms, where the growth is near -1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(growth > -0.5, np.log1p(np.maximum(growth, -0.5)), np.log(total))


def pooled_rate(s, a, b):
    """What `breaking_rate` would be if all contested tokens were pooled, s not 0 or 1: never smaller."""
    pool = np.concatenate([a, b], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.exp((logsumexp(s[:, None] * np.log(pool), axis=1) - np.log(pool.shape[1])) / s)  # their power mean
        growth = (level[:, None] - pool).sum(1)
        rate = np.maximum(np.log1p(np.maximum(growth, -1)) / (s - 1), 0)
    return np.where(pool.max(1) == pool.min(1), 0.0, rate)  # a tie, without the rounding of its mean


def _curvature(s, x):
    """(expm1(s x) / s - expm1(x)) / (s - 1), with its limits at s = 0 and 1: about x^2 / 2, and free of cancellation
    between terms linear in x (their sum over the pooled tokens is 0)."""
    near_one = np.where(np.abs(s - 1) < 0.5, s - 1, 1.0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        low = (np.where(s == 0, x, np.expm1(s * x) / np.where(s == 0, 1, s)) - np.expm1(x)) / np.where(s == 1, 1, s - 1)
        slope = np.where(near_one == 0, x, np.expm1(near_one * x) / np.where(near_one == 0, 1, near_one))
        high = (np.where(np.isinf(x), 0, np.exp(x) * slope) - np.expm1(x)) / np.where(s == 0, 1, s)
    return np.where(np.abs(s - 1) < 0.5, high, low)


def _order_and_scale(order, direction):
    """The order, and the s of K_s that stands for it in this direction."""
    order = check_number(order, *ORDER)
    return order, order if check_choice(direction, DIRECTIONS, "direction") == "clean_to_attacked" else 1 - order
