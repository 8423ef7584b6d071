"""Radii from the whole law of each token's attention."""

import numpy as np
from scipy.special import ndtr, ndtri

from fvit.base.checks import check_array, check_number
from fvit.theory.divergences import tokens_to_break
from fvit.theory.radii import _largest


def shifted_mean_bounds(values, rho, low, high, margin=0.0):
    """Least and largest mean of a function of the noisy image after a shift by rho, given its law at the centre.

    values   (draws, tokens) in [low, high], a sample that stands for the law of each column
    margin   one-sided error of its distribution function (`bounds.dkw_margin`); what it hides is put at the far end
    returns  (lower, upper), each (tokens,): low + the integral of Phi(Phi^-1(P(f > t)) -+ rho) over t in [low, high]

    Raises ValueError for values that are no finite (draws, tokens) in [low, high], rho < 0, or margin < 0.
    Source: our derivation (docs/theory.md, Theorem 5 (i)), in the line of Kumar et al. 2020; margin: Massart 1990.
    """
    rho = check_number(rho, "rho", "[0, inf)", "a radius in units of sigma")
    steps, margin = _steps(values, low, high), _share(margin)
    return _mean(steps, low, -rho, -margin), _mean(steps, low, rho, margin)


def cdf_rho(values, top, beta, low=0.0, high=1.0, margin=0.0):
    """Largest rho at which the means of single tokens, bounded by their laws, keep a share `beta` of `top`.

    values   (draws, n) attention of each draw, in [low, high]; top (k,) indices of the top set
    margin   as in `shifted_mean_bounds`; 0 takes the sample for the law, and certifies nothing
    returns  rho in [0, inf]. Source: our derivation (docs/theory.md, Theorem 5 (ii))
    """
    top, rest, k0 = _split(values, top, beta)
    if k0 > min(len(top), len(rest)):
        return np.inf
    inside, outside = (_steps(np.asarray(values)[:, tokens], low, high) for tokens in (top, rest))
    margin = _share(margin)

    def holds(rho):
        lower, upper = _mean(inside, low, -rho.item(), -margin), _mean(outside, low, rho.item(), margin)
        return np.array([np.sort(lower)[k0 - 1] > np.sort(upper)[-k0]])

    return _largest(holds, 1, tolerance=1e-9).item()


def pairwise_rho(values, top, beta, margin=0.0):
    """Largest rho at which fewer than k0 tokens of `top` may meet k0 or more partners outside that overtake them.

    Arguments and result as in `cdf_rho`. Source: our derivation (docs/theory.md, Theorem 5 (iii)).
    """
    top, rest, k0 = _split(values, top, beta)
    if k0 > min(len(top), len(rest)):
        return np.inf
    values = np.asarray(values, dtype=np.float64)
    differences = values[:, top, None] - values[:, None, rest]  # (draws, k, n - k)
    steps, margin = _steps(differences.reshape(len(values), -1), -1.0, 1.0), _share(margin)

    def holds(rho):
        overtaken = (_mean(steps, -1.0, -rho.item(), -margin).reshape(len(top), -1) <= 0).sum(1)
        return np.array([(overtaken >= k0).sum() < k0])

    return _largest(holds, 1, tolerance=1e-9).item()


def _steps(values, low, high):
    """Lengths (draws + 1, tokens) of the steps of each column's distribution function over [low, high]."""
    values = check_array(values, "values")
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"values have shape {values.shape}, wanted (draws, tokens) with at least one draw")
    if not (values >= low).all() or not (values <= high).all():
        raise ValueError(f"values lie in [{values.min():g}, {values.max():g}] or are NaN, wanted [{low:g}, {high:g}]")
    return np.diff(np.sort(values, axis=0), prepend=low, append=high, axis=0)


def _mean(steps, low, rho, margin):
    """Largest mean at distance rho; the least with -rho and -margin."""
    above = np.arange(len(steps) - 1, -1, -1) / (len(steps) - 1)  # P(f > t) on each step: from 1 down to 0
    return low + ndtr(ndtri(np.clip(above + margin, 0, 1)) + rho) @ steps


def _split(values, top, beta):
    """Indices inside and outside of `top`, and k0."""
    if np.ndim(values) != 2:
        raise ValueError(f"values have shape {np.shape(values)}, wanted (draws, n), one map per draw")
    n, top = np.shape(values)[1], np.asarray(top)
    if top.ndim != 1 or len(np.unique(top)) != len(top) or not np.isin(top, np.arange(n)).all():
        raise ValueError(f"top={top.tolist()}, wanted distinct indices of the {n} tokens")
    return top, np.setdiff1d(np.arange(n), top), tokens_to_break(len(top), beta)


def _share(margin):
    return min(check_number(margin, "margin", "[0, inf]", "see bounds.dkw_margin"), 1.0)
