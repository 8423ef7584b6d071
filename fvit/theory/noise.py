"""How good is Gaussian noise? Lower bounds for every additive noise, and noise families of equal divergence.

A noise z protects to (order, divergence, radius) if D_order(x + z || x' + z) <= divergence for all x, x' at most
`radius` apart. All scales are in the unit of `radius`, all divergences in nats. Proofs: docs/theory.md, section 4.
"""

import math
from collections import namedtuple
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gamma, gammaincc, gammainccinv, gammaln, logsumexp

from fvit.base.checks import check_choice, check_count, check_number


# Bounds that hold for every noise ----------------------------------------------------------------------------------
def half_log_ratio(order: float, divergence: float) -> float:
    """Half the |log-ratio| of the two coins (1 - r, r) and (r, 1 - r) whose divergence is the given one; 0 at 0.

    The x of log(cosh((2 order - 1) x) / cosh x) / (order - 1) = divergence, in nats. Derivation: ours (docs/theory.md,
    section 4.2).
    """
    check_levels(order=order, divergence=divergence)
    if order == math.inf:
        return divergence / 2
    return math.exp(_root(lambda s: _coin_divergence(order, math.exp(s)) / divergence - 1, xtol=1e-15, rtol=1e-15))


def _root(f, **tolerance):
    """Where a function that increases without bound, from below 0, is 0."""
    high = 0.0
    while f(high) < 0:
        high += 1.0
    low = high - 1.0
    while f(low) > 0:
        low -= 1.0
    return brentq(f, low, high, **tolerance)


def _coin_divergence(order, x):
    """log1p(2 sinh(order x) sinh((order - 1) x) / cosh x) / (order - 1): no digit is lost near order 1 or x = 0."""
    if order == 1:
        return 2 * x * math.tanh(x)
    if (2 * order + 1) * x < 1 or (abs(order - 1) * x < 1e-3 and x < 300):
        return math.log1p(2 * math.sinh(order * x) * math.sinh((order - 1) * x) / math.cosh(x)) / (order - 1)
    return (np.logaddexp((2 * order - 1) * x, (1 - 2 * order) * x) - np.logaddexp(x, -x)) / (order - 1)


def variance_lower_bound(order, divergence, radius=1.0, dim=None, norm="l2") -> float:
    """Least E||z||_2^2 that any noise needs: dim^(2 - 2/p) radius^2 / (4 sinh^2 half_log_ratio), for the lp ball.

    order    in (0, inf];  divergence, radius > 0
    norm     "l2", "linf" or a number p >= 2; dim, of the space the noise is added in, is wanted for every norm but l2

    Raises ValueError for arguments out of range. Source: Hammersley 1950, Chapman and Robbins 1951 at order 2; other
    orders, and the norms, ours.
    """
    x = half_log_ratio(order, divergence)
    return _spread(radius, dim, norm) * math.exp(-2 * x) / math.expm1(-2 * x) ** 2  # sinh would overflow


def gaussian_variance(order, divergence, radius=1.0, dim=None, norm="l2") -> float:
    """E||z||_2^2 of the isotropic Gaussian with exactly this divergence; arguments as in `variance_lower_bound`.

    dim^(2 - 2/p) order radius^2 / (2 divergence); inf at order inf. Source: D_order of Gaussians, Gil et al. 2013.
    """
    check_levels(order=order, divergence=divergence)
    return _spread(radius, dim, norm) * order / (2 * divergence)


def mean_norm_bounds(of, order, divergence, radius=1.0, dim=None, norm="l2") -> tuple[float, float]:
    """E||z||_of between these two: the first no noise can undercut, the second Gaussian noise does not exceed.

    of       "l2" or "linf", the norm that is measured; `norm` is that of the ball the adversary moves in
    returns  (from the total variation tanh x of `half_log_ratio`, Gaussian upper bound). Derivation: ours.
    """
    check_choice(of, ("l2", "linf"), "norm of the noise that is averaged")
    t = math.tanh(half_log_ratio(order, divergence))
    length, dim = math.sqrt(_spread(radius, dim, norm)), dim or 1  # how far <s, z> is shifted, over sqrt(dim)
    sigma = length * math.sqrt(order / (2 * divergence) / dim)
    if of == "l2":
        return length * (1 - t) / (4 * t), sigma * math.sqrt(dim)
    return length / math.sqrt(dim) * (1 - t) / (4 * t), sigma * math.sqrt(2 * math.log(2 * dim))


def _spread(radius, dim, norm):
    """dim^(2 - 2/p) radius^2, after checks."""
    p = {"l2": 2.0, "linf": math.inf}.get(norm, norm)
    if isinstance(p, str) or not p >= 2:
        raise ValueError(f"norm={norm!r}, wanted 'l2', 'linf' or a number p >= 2")
    if dim is None and p > 2:
        raise ValueError(f"norm={norm!r} without dim; give the dimension the noise lives in, 3 * 224 * 224 for images")
    check_levels(radius=radius, dim=1 if dim is None else dim)
    return (dim or 1) ** (2 - 2 / p) * radius**2


def check_levels(dim=1, **given):
    check_count(dim, "dim")
    for name, value in given.items():
        check_number(value, name, *(("(0, inf]", "1 is Kullback-Leibler") if name == "order" else ("(0, inf)",)))


# Families of noise in one dimension --------------------------------------------------------------------------------
# log density at scale 1, variance at scale 1, largest log-ratio of two copies `lag` apart; c is the shape parameter
_FAMILIES = {
    "laplace": (lambda y, c: -np.abs(y) - math.log(2), lambda c: 2.0, lambda lag, c: lag),
    "logistic": (lambda y, c: -np.abs(y) - 2 * np.log1p(np.exp(-np.abs(y))), lambda c: math.pi**2 / 3,
                 lambda lag, c: lag),
    "student": (lambda y, c: -(c + 1) / 2 * np.log1p(y * y / c)
                - (gammaln(c / 2) - gammaln((c + 1) / 2) + math.log(c * math.pi) / 2),
                lambda c: c / (c - 2) if c > 2 else math.inf,
                lambda lag, c: (c + 1) * math.asinh(lag / math.sqrt(4 * c))),
    "generalised_normal": (lambda y, c: -np.abs(y) ** c - math.log(2) - gammaln(1 + 1 / c),
                           lambda c: gamma(3 / c) / gamma(1 / c), lambda lag, c: lag**c if c <= 1 else math.inf)}
FAMILIES = ("gaussian", "uniform", *_FAMILIES)


def shifted_divergence(family, shift, order, scale=1.0, shape=None) -> float:
    """Renyi divergence between a one-dimensional noise and itself moved by `shift`; the same in both directions.

    family   "gaussian" (scale: std), "uniform" (half-width), "laplace", "logistic", "student" (shape: degrees of
             freedom), "generalised_normal" (density ~ exp(-|z / scale|^shape))
    returns  nats in [0, inf], growing with |shift|: the value at a radius is the worst within it

    Closed forms for Gaussian, uniform and order inf; else double-exponential quadrature, relative error below 1e-10:
    half the nodes must give the same. Raises ValueError for bad arguments, or if they do not.
    """
    check_levels(order=order, scale=scale)
    shape = _checked_shape(family, shape)
    lag = abs(check_number(shift, "shift", "(-inf, inf)")) / scale
    if lag == 0:
        return 0.0
    if family == "gaussian":
        return order * lag**2 / 2
    if family == "uniform":
        return math.log1p(-lag / 2) / (order - 1) if order < 1 and lag < 2 else math.inf
    log_density, _, largest = _FAMILIES[family]
    if order == math.inf:
        return largest(lag, shape)

    def parts(y):  # log sqrt(p q) and half the |log-ratio|; the integrands below are even about lag / 2
        with np.errstate(over="ignore", invalid="ignore"):
            p, q = log_density(y, shape), log_density(y - lag, shape)
            return (p + q) / 2, np.where(np.isfinite(p + q), np.abs(p - q) / 2, 0.0)  # -inf far out: nothing there

    def growth(y):  # of (sum p^order q^(1 - order) - 1) / (order - 1): positive, so nothing cancels at small lags
        mean, h = parts(y)
        with np.errstate(divide="ignore"):
            return mean + math.log(4 * order) + 2 * np.log(h) + _log_sinhc(order * h) + _log_sinhc(abs(order - 1) * h)

    log_growth = _log_integral(growth, lag)
    if order > 1:
        return float(np.logaddexp(0, math.log(order - 1) + log_growth) / (order - 1))
    if order == 1 or (1 - order) * math.exp(log_growth) < 0.5:
        return math.exp(log_growth) if order == 1 else math.log1p((order - 1) * math.exp(log_growth)) / (order - 1)

    def overlap(y):
        mean, h = parts(y)
        return mean + np.logaddexp((2 * order - 1) * h, (1 - 2 * order) * h)

    return float(_log_integral(overlap, lag) / (order - 1))


def _log_sinhc(z):
    """log(sinh(z) / z) for z >= 0."""
    safe = np.maximum(z, 1e-9)
    return np.where(z > 1e-9, safe + np.log(-np.expm1(-2 * safe) / (2 * safe)), 0.0)


def _log_integral(log_f, lag):
    """log of the integral of exp(log_f) over [lag / 2, inf), cut where the density or the integrand peaks."""
    grid = lag / 2 + np.geomspace(1e-3, 1e5, 400) * max(lag, 1e-2)
    best = np.argmax(log_f(grid))
    near = (grid[max(best - 1, 0)], grid[min(best + 1, 399)])
    peak = minimize_scalar(lambda y: -float(log_f(np.array(y))), bounds=near, method="bounded").x
    cuts = [lag / 2, lag, *([peak] if peak > lag * (1 + 1e-9) else [])]
    pieces = [_interval_nodes(a, b) for a, b in pairwise(cuts)] + [_ray_nodes(cuts[-1])]
    terms = [log_f(y) + log_weight for y, log_weight in pieces]
    value, coarse = logsumexp(np.concatenate(terms)), logsumexp(np.concatenate([t[::2] for t in terms])) + math.log(2)
    if not abs(value - coarse) < 1e-5 * (1 + abs(value)):  # the finer rule's error is about the square of this
        raise ValueError(f"the divergence at {lag:g} scales is not resolved ({value:.6g} or {coarse:.6g}); "
                         "take a smaller shift or a larger scale")
    return value


_T = np.linspace(-4.6, 4.6, 461)
_STEP = math.log(_T[1] - _T[0])  # the coarse rule takes every second node


def _interval_nodes(a, b):
    """Nodes and log weights of the tanh-sinh rule on [a, b] (Takahasi and Mori 1974)."""
    s = np.pi / 2 * np.sinh(_T)
    y = np.where(s < 0, a + (b - a) / (1 + np.exp(-2 * np.minimum(s, 0))), b - (b - a) / (1 + np.exp(2 * np.abs(s))))
    return y, math.log(b - a) + np.log(np.pi * np.cosh(_T)) - 2 * np.logaddexp(s, -s) + _STEP


def _ray_nodes(a):
    """Nodes and log weights of the exp-sinh rule on [a, inf)."""
    s = np.pi / 2 * np.sinh(_T)
    return a + np.exp(s), s + np.log(np.pi / 2 * np.cosh(_T)) + _STEP


def _checked_shape(family, shape):
    check_choice(family, FAMILIES, "family")
    if family in ("student", "generalised_normal"):
        check_number(shape, "shape", "[0.05, 1000]", "degrees of freedom of student, exponent of generalised_normal")
    elif shape is not None:
        raise ValueError(f"shape={shape} for {family}, which has none; leave it out")
    return shape


def calibrated_scale(family, divergence, order, radius=1.0, shape=None) -> float:
    """Scale at which the worst divergence within `radius` is the given one; inf where no scale is wide enough."""
    check_levels(divergence=divergence, order=order, radius=radius)
    shape = _checked_shape(family, shape)
    if (order == math.inf or family == "uniform") and shifted_divergence(family, 1.0, order, shape=shape) == math.inf:
        return math.inf

    def excess(log_lag):
        return math.log(shifted_divergence(family, math.exp(log_lag), order, shape=shape) / divergence)

    return radius / math.exp(_root(excess, xtol=1e-13))


def noise_variance(family, scale=1.0, shape=None) -> float:
    """Variance of one coordinate; inf for a Student-t with two degrees of freedom or fewer."""
    shape = _checked_shape(family, shape)
    unit = {"gaussian": 1.0, "uniform": 1 / 3}.get(family) or _FAMILIES[family][1](shape)
    return float(unit * scale**2)


def relative_variance(family, divergence, order, shape=None) -> float:
    """Variance over that of Gaussian noise at the same divergence, in one dimension: below 1 it is the better noise.

    NaN where no scale of either will do, as for Gaussian noise itself at order inf.
    """
    scale = calibrated_scale(family, divergence, order, shape=shape)
    return noise_variance(family, scale, shape) / gaussian_variance(order, divergence)


ProductNoise = namedtuple("ProductNoise", "scale variance mean_max")  # of a coordinate; mean_max: E||z||_inf


def product_noise(shape, dim, divergence, order, radius=1.0) -> ProductNoise:
    """Generalised-normal noise, one draw per coordinate, calibrated to the linf ball; shape 2 is the Gaussian.

    Every coordinate may spend divergence / dim. Relative error below 1e-8 for dim up to 10^7.
    """
    check_levels(dim=dim, divergence=divergence)
    scale = calibrated_scale("generalised_normal", divergence / dim, order, radius, shape)
    median = gammainccinv(1 / shape, -math.expm1(-math.log(2) / dim)) ** (1 / shape)  # of the largest, at scale 1

    def log_tail(y):  # log P(max > y)
        with np.errstate(divide="ignore", over="ignore"):
            return np.log(-np.expm1(dim * np.log1p(-gammaincc(1 / shape, y**shape))))

    terms = [log_tail(y) + weight for y, weight in (_interval_nodes(0.0, median), _ray_nodes(median))]
    variance = noise_variance("generalised_normal", scale, shape)
    return ProductNoise(scale, variance, scale * math.exp(logsumexp(np.concatenate(terms))))
