"""Certified radii: how far an image may move before the top-k of a smoothed map can break (float64, no torch).

`rho` is a radius in units of sigma. Every certificate here is a function of the l2 distance; other norms convert.
"""

from itertools import permutations

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from fvit.base.checks import as_integer, as_number, check_array, check_choice, check_count, check_number
from fvit.theory import divergences

FARTHEST = 100.0  # in units of sigma; beyond it no normal quantile of a float64 reaches
S_POOLED = 1 + np.geomspace(1e-3, 60, 60)
S_GRID = np.unique(np.r_[-np.geomspace(60, 1, 20), np.linspace(-1, 2, 31), np.geomspace(2, 60, 20)])


def certified_radius(w, k, beta, sigma, norm="l2", dim=None, certificate="sharp", order=None):
    """Radius within which the smoothed map keeps a share `beta` of its top-k, from its value `w` at the centre.

    w            (n,) or (B, n) smoothed attention E[Z(x + z)], rows that sum to 1: the exact mean (for draws: certify)
    sigma        noise std, > 0; the radius has its unit: [0, 1] pixel units for the sigma of a DDS
    norm, dim    "l2", "linf", "l1" or a number p >= 1; dim is the number of pixel values (3 H W), needed where p > 2
    certificate  "sharp": the largest that w alone allows; "renyi": from divergences, best over orders and directions;
                 "coordinate": from single tokens; "pooled": the closed form attributed to the paper, to compare
    order        of "renyi" and "pooled" in the direction D_order(w || w'); None takes the best order
    returns      float64, a scalar or (B,), in [0, inf]; every smaller radius is certified, inf where nothing can break

    Raises ValueError for improper rows, k, beta, sigma <= 0, an unknown name, or a norm that lacks its dim.
    Source: "renyi" Hu et al. 2024 with the exact minimum; others as in their functions below. Taught in notebook 06.
    """
    per_l2, sigma = _norm_factor(norm, dim), check_number(sigma, "sigma", "(0, inf)")
    check_choice(certificate, OF_A_MEAN, "certificate")
    if order is not None and certificate in ("sharp", "coordinate"):
        raise ValueError(f"order={order} with certificate {certificate!r}, which uses no divergence; leave order out")
    return sigma * _rho(w, k, beta, certificate, order) / per_l2


def required_sigma(w, k, beta, radius, order=None, gamma=None, norm="l2", dim=None):
    """Least noise std for which the divergence certificate keeps a share `beta` of the top-k of `w` within `radius`.

    radius   in [0, 1] pixel units, for the sigma of a DDS: sigma has the unit of the radius
    order    of the Renyi divergence D_order(w || w'); None takes the best one
    gamma    also keep the prediction: D_order(y(x) || y(x')) <= gamma for every classifier; needs an order
    returns  float64, a scalar or (B,): 0 where nothing can break, inf where a tie breaks it at any radius > 0

    `w` is the map smoothed with that sigma: after a change of sigma it has to be measured again. Other arguments and
    errors as `certified_radius`. Source: Hu et al. 2024 with the exact minimum (docs/theory.md, Corollary 2).
    """
    radius = check_number(radius, "radius", "[0, inf)", "for images in [0, 1]")
    if gamma is not None and order is None:
        raise ValueError(f"gamma={gamma} without an order; say of which divergence, e.g. order=2")
    distance = radius * _norm_factor(norm, dim)
    rho = np.asarray(_rho(w, k, beta, "renyi", order))
    if gamma is not None:
        rho = np.minimum(rho, prediction_radius(order, gamma, 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / rho)[()]


def certified_overlap(w, k, sigma, radius, norm="l2", dim=None, certificate="sharp"):
    """Share of the top-k of `w` that is certain to survive at distance `radius`, as the certificate knows it.

    radius   a number or (B,), >= 0; other arguments and errors as `certified_radius`
    returns  float64, a scalar or (B,), in [0, 1]; at least (2k - n) / k, which no perturbation can undercut
    """
    w, shape = divergences.images(w, k)
    radius, k = check_array(radius, "radius"), as_integer(k)
    if not (np.isfinite(radius).all() and (radius >= 0).all() and radius.shape in ((), shape)):
        least = f"least value {radius.min():g}" if radius.size else "no value"
        raise ValueError(f"radius has shape {radius.shape} and {least}, wanted a number or {shape}, finite and >= 0")
    most = min(k, w.shape[1] - k)
    kept = np.full(len(w), k - most)
    for k0 in range(most, 0, -1):  # to lose k0 or more, the image must move by the radius for k0
        holds = radius < certified_radius(w, k, f"{k - k0 + 1}/{k}", sigma, norm, dim, certificate)
        kept = np.where(holds, k - k0 + 1, kept)
    return (kept / k).reshape(shape)[()]


def sharp_rho(a, b):
    """Largest rho that the mean attention of the contested tokens allows, a scalar or (B,) float64 in [0, inf].

    a, b     (k0,) or (B, k0), in [0, 1]: the least tokens of the top set and the largest outside, in any order; lower
             bounds of `a` and upper bounds of `b` give a smaller rho, valid whenever the bounds hold

    Source: ours (docs/theory.md, Theorems 3 and 6), in the line of Cohen et al. 2019.
    """
    a, b, shape = _contested(a, b)
    counts = np.log(np.arange(1, a.shape[1] + 1))
    top = ndtri(_below_one(np.cumsum(-np.sort(-a, axis=1), axis=1), b))  # the j largest of a
    low = ndtri(np.minimum(np.cumsum(np.sort(b, axis=1), axis=1), 1.0))  # the j smallest of b

    def holds(rho):
        shift = rho[:, None]
        return (log_ndtr(top - shift) - counts).max(1) > (log_ndtr(low + shift) - counts).min(1)

    return _largest(holds, len(a)).reshape(shape)[()]


def renyi_rho(a, b, rest=None):
    """Largest rho that Renyi divergences certify, sqrt(2 sup_s Lambda(s)), over all orders and both directions.

    rest     (B,) mass of all other tokens, where a and b are no bounds; others as `sharp_rho`, which is never smaller
    """
    a, b, shape = _contested(a, b)
    return np.sqrt(2 * _best(lambda s: divergences.breaking_rate(s, a, b, rest), S_GRID, len(a))).reshape(shape)[()]


def coordinate_rho(a, b, high=1.0):
    """rho from one token on each side: (Phi^-1(max a / high) - Phi^-1(min b / high)) / 2, at least 0.

    high     bound of a single draw's attention: 1, the level at which it is clipped, or 1 for votes (shares of draws)
    Other arguments as `sharp_rho`. Source: Cohen et al. 2019 and Levine et al. 2019 (docs/theory.md, Theorem 5).
    """
    a, b, shape = _contested(a, b)
    top, low = np.minimum(a.max(1) / high, 1.0), np.minimum(b.min(1) / high, 1.0)
    with np.errstate(invalid="ignore"):
        rho = np.where(top > low, (ndtri(top) - ndtri(low)) / 2, 0.0)
    return np.maximum(rho, 0).reshape(shape)[()]


def prediction_radius(order, gamma, sigma):
    """Radius within which every classifier's smoothed prediction has D_order(y(x) || y(x')) <= gamma.

    Raises ValueError unless all are positive. Source: Hu et al. 2024 (docs/theory.md, Theorem 2, Corollary 2).
    """
    for name, value in {"sigma": sigma, "gamma": gamma, "order": order}.items():
        check_number(value, name, "(0, inf)")
    return sigma * np.sqrt(2 * gamma / order)


def worst_prediction_divergence(y, order, rho, direction="clean_to_attacked"):
    """Largest Renyi divergence between the smoothed prediction `y` and what a shift by rho can make of it.

    y        (C,) or (B, C) with C <= 8, rows that sum to 1
    returns  float64, a scalar or (B,), at most order rho^2 / 2. Source: our derivation (docs/theory.md, Proposition 11)
    """
    y, shape = divergences.images(y, 1)
    if y.shape[1] > 8:
        raise ValueError(f"y has {y.shape[1]} classes, wanted at most 8: the vertices are all their orders")
    rho = check_number(rho, "rho", "[0, inf)", "a radius in units of sigma")
    check_choice(direction, divergences.DIRECTIONS, "direction")
    orders = np.array(list(permutations(range(y.shape[1]))))  # (C!, C)
    worst = []
    for clean in y:
        grown = ndtr(ndtri(np.minimum(np.cumsum(clean[orders], axis=1), 1)) + rho)
        grown[:, -1] = 1.0
        moved = np.empty_like(grown)
        np.put_along_axis(moved, orders, np.diff(grown, prepend=0, axis=1), axis=1)
        pair = np.broadcast_to(clean, moved.shape), np.maximum(moved, 0)
        pair = pair if direction == "clean_to_attacked" else pair[::-1]
        worst.append(divergences.renyi_divergence(*pair, order).max())
    return np.array(worst).reshape(shape)[()]


def _rho(w, k, beta, certificate, order):
    """The certificate in units of sigma, a scalar or (B,)."""
    if order is not None:
        divergence = divergences.breaking_divergence if certificate == "renyi" else divergences.pooled_divergence
        return np.sqrt(2 * divergence(w, k, beta, order) / as_number(order))
    return divergences.of_contested(OF_A_MEAN[certificate], w, k, beta)


OF_A_MEAN = {"sharp": lambda a, b, rest: sharp_rho(a, b), "renyi": renyi_rho,
             "coordinate": lambda a, b, rest: coordinate_rho(_below_one(a, b), b),
             "pooled": lambda a, b, rest:
                 np.sqrt(2 * _best(lambda s: divergences.pooled_rate(s, a, b), S_POOLED, len(a)))}


def _below_one(a, b):
    """A mass that rounds to 1 lacks a trifle after all, unless nothing is left outside."""
    return np.where(b.max(1, keepdims=True) > 0, np.minimum(a, 1 - 2.0**-53), np.minimum(a, 1.0))


def _best(rate, grid, n):
    """Largest value of rate(s) for each of n images: the best point of a grid, then golden section around it."""
    on_grid = np.stack([rate(np.full(n, s)) for s in grid])  # (grid, n)
    best = on_grid.argmax(0)
    left, right = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    golden = (5 ** 0.5 - 1) / 2
    for _ in range(45):
        inner, outer = right - golden * (right - left), left + golden * (right - left)
        rising = rate(inner) < rate(outer)
        left, right = np.where(rising, inner, left), np.where(rising, right, outer)
    return np.maximum(on_grid.max(0), rate((left + right) / 2))


def _largest(holds, n, tolerance=1e-13):
    """Largest rho, from below, at which `holds`, true up to some rho and false beyond: (n,), inf if it always does."""
    low, high = np.zeros(n), np.full(n, FARTHEST)
    never, always = ~holds(low), holds(high)
    while (high - low).max(initial=0) > tolerance:
        middle = (low + high) / 2
        good = holds(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.where(always, np.inf, np.where(never, 0.0, low))


def _contested(a, b):
    a, b = check_array(a, "a"), check_array(b, "b")
    if a.shape != b.shape or a.ndim not in (1, 2) or a.shape[-1] == 0:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}; wanted the same (k0,) or (B, k0)")
    if not ((a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)).all():
        raise ValueError("a or b has NaN or entries outside [0, 1], wanted attention or bounds of it; clip the bounds")
    return np.atleast_2d(a), np.atleast_2d(b), a.shape[:-1]


def _norm_factor(norm, dim):
    """Largest l2 norm of a perturbation whose `norm` is 1: dim^(1/2 - 1/p), at least 1."""
    p = {"l2": 2.0, "linf": np.inf, "l1": 1.0}.get(norm, np.nan) if isinstance(norm, str) else as_number(norm)
    if not p >= 1:
        raise ValueError(f"norm={norm!r}, wanted 'l2', 'linf', 'l1' or a number p >= 1")
    if p > 2 and dim is None:
        raise ValueError(f"norm={norm!r} without dim; give the number of pixel values, dim = 3 * H * W")
    dim = 1 if dim is None else check_count(dim, "dim")
    return 1.0 if p <= 2 else dim ** (1 / 2 - 1 / p)
