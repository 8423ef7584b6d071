"""The best noise, by optimisation: in one dimension between two bounds, in more over radial profiles."""

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import gammaln, logsumexp

from fvit.theory.noise import check_levels, gaussian_variance


class OptimalNoise(NamedTuple):
    """A density found by optimisation, and what it is worth."""

    position: np.ndarray  # (m,) middles of its cells or shells, in units of the radius
    log_density: np.ndarray  # (m,) per unit of volume, constant on a cell; on a shell times a Gaussian, see there
    divergence: float  # achieved
    variance: float  # E||z||_2^2
    relative: float  # over the Gaussian's at the divergence achieved: an upper bound of the least ratio
    relative_lower: float  # lower bound of the least ratio


def optimal_noise_1d(divergence, order, radius=1.0, cells=None) -> OptimalNoise:
    """The least-variance noise in one dimension, with bounds on both sides of the true optimum.

    order     finite, at least 0.001 from 1; for 1 take 1.001, a hair stricter
    cells     per radius; default 16 per std of the Gaussian, up to 32. Time: below a second from divergence 0.001 to 10

    A convex program over symmetric densities, constant on cells of a circle. Upper bound: the cells, unrolled, with
    geometric tails, are a true density. Lower bound: the circle's dual. Derivation: ours (docs/theory.md,
    Proposition 12).
    """
    check_levels(divergence=divergence, order=order, radius=radius)
    order = _finite_order(order)
    sigma = math.sqrt(gaussian_variance(order, divergence))
    per = int(cells or np.clip(math.ceil(16 / sigma), 1, 32))
    half = math.ceil((6 * sigma + 3) * per)
    ring = np.abs(np.arange(-half, half + 1))
    shifts = range(1, per + 1)
    first, second = np.tile(ring, per), np.concatenate([np.roll(ring, -j) for j in shifts])
    which, cost = np.repeat(np.arange(per), ring.size), (np.arange(half + 1) / per) ** 2
    log_p, price = _minimise(cost, np.bincount(ring).astype(float), which, first, second, np.zeros(which.size),
                             divergence, order, -cost / (2.1 * sigma**2))
    slope = cost[ring]  # of the Lagrangian, cell by cell
    for j, weight in zip(shifts, price, strict=True):
        ratio = log_p[ring] - np.roll(log_p[ring], -j)
        slope = slope + weight * (np.exp((order - 1) * ratio) / (order - 1) - 1 / (order * (order - 1))
                                  - np.exp(order * np.roll(ratio, j)) / order)
    dual = np.min(slope + slope[::-1]) / 2 - price.sum() * _budget(divergence, order)
    step = np.arange(40 * per)
    tail = log_p[half - per + 1 + step % per] - max(divergence, 1.0) * (step // per + 1)  # each residue on its own
    log_p = np.concatenate([log_p, tail])
    position = np.arange(1 - log_p.size, log_p.size) / per
    log_p = np.concatenate([log_p[:0:-1], log_p])
    log_p -= logsumexp(log_p)
    achieved = max(logsumexp(order * log_p[:-j] + (1 - order) * log_p[j:]) / (order - 1) for j in shifts)
    variance = float(np.exp(log_p) @ position**2 + 1 / 12 / per**2)
    return OptimalNoise(position * radius, log_p + math.log(per / radius), float(achieved), variance * radius**2,
                        variance / gaussian_variance(order, achieved), (dual - 0.25 / per**2) / sigma**2)


def optimal_noise_spherical(dim, divergence, order=2.0, radius=1.0, shells=None) -> OptimalNoise:
    """The least E||z||_2^2 among noises of the form Gaussian times a factor constant on shells around 0.

    dim      >= 2, see `optimal_noise_1d` for one dimension
    shells   about this many; default 120
    returns  `relative` is an upper bound of the least ratio, up to quadrature (no lower one is known: NaN), and
             `divergence` the largest over quarters of the radius

    Derivation: ours (docs/theory.md, Proposition 13).
    """
    check_levels(divergence=divergence, order=order, radius=radius, dim=dim)
    if dim < 2:
        raise ValueError(f"dim={dim}, wanted at least 2; in one dimension take optimal_noise_1d")
    order = _finite_order(order)
    sigma = math.sqrt(gaussian_variance(order, divergence))
    middle, spread = sigma * math.sqrt(dim), 6 * sigma + 1
    edges = np.linspace(max(middle - spread, 0.0), middle + spread, int(shells or 120) + 1)
    edges[0] = 0.0
    reference = 1.02 * sigma**2  # a little wider, so that the Gaussian itself is strictly inside
    mass, square, pairs = _shells(edges, dim, 1.0, reference, order, 4)
    first, second = np.nonzero(pairs > 1e-200)
    log_g, _ = _minimise(square / mass, mass, np.zeros_like(first), first, second, np.log(pairs[first, second]),
                         divergence, order, np.zeros(mass.size))
    mass, square, _ = _shells(edges, dim, 1.0, reference, order, 8)
    log_g -= math.log(np.exp(log_g) @ mass)
    spent = [np.exp(order * log_g) @ _shells(edges, dim, s, reference, order, 8)[2] @ np.exp((1 - order) * log_g)
             for s in np.arange(1, 5) / 4]
    achieved, variance = max(np.log(spent) / (order - 1)), np.exp(log_g) @ square
    return OptimalNoise((edges[1:] + edges[:-1]) / 2 * radius, log_g, float(achieved), float(variance) * radius**2,
                        float(variance / gaussian_variance(order, achieved, dim=dim)), math.nan)


def _shells(edges, dim, shift, variance, order, q):
    """Mass, and mass times r^2, of a Gaussian G in each shell; and w[i, k], the integral of
    G(y)^order G(y - shift)^(1 - order) over all y in shell i with y - shift in shell k.

    Gauss-Legendre with q nodes in the radius and in the angle, on each piece where nothing jumps.
    """
    node, weight = np.polynomial.legendre.leggauss(q)
    a = (edges[:-1, None] + np.diff(edges)[:, None] * (node + 1) / 2).ravel()
    log_mass = (dim - 1) * np.log(a) - a * a / (2 * variance) - gammaln(dim / 2) - (dim / 2 - 1) * math.log(2)
    mass = np.exp(log_mass - dim / 2 * math.log(variance)) * np.outer(np.diff(edges), weight).ravel() / 2
    cosine = (a[:, None] ** 2 + shift**2 - np.append(edges[:-1], np.inf) ** 2) / (2 * a[:, None] * shift)
    angle = np.arccos(np.clip(cosine, -1, 1))  # (nodes, n + 1): where |y - shift| crosses an edge
    theta = angle[:, :-1, None] + np.diff(angle)[..., None] * (node + 1) / 2  # (nodes, n, q)
    log_f = (order - 1) * (shift**2 - 2 * a[:, None, None] * shift * np.cos(theta)) / (2 * variance)
    area = gammaln(dim / 2) - gammaln((dim - 1) / 2) - math.log(math.pi) / 2
    f = np.exp(log_f + area) * np.sin(theta) ** (dim - 2)
    w = mass[:, None] * (f @ weight) * np.diff(angle) / 2
    return mass.reshape(-1, q).sum(1), (mass * a * a).reshape(-1, q).sum(1), w.reshape(len(edges) - 1, q, -1).sum(1)


def _finite_order(order):
    if order == math.inf or abs(order - 1) < 0.99e-3:
        raise ValueError(f"order={order}, wanted a finite one at least 0.001 from 1; for 1 take 1.001, a hair stricter")
    return order


def _budget(divergence, order):
    return math.expm1((order - 1) * divergence) / (order * (order - 1))


def _minimise(cost, volume, which, first, second, log_w, divergence, order, start):
    """Interior-point Newton method in log coordinates, so that tails of 1e-15 are found as well as the middle.

    Minimise sum cost p volume over p > 0 with sum p volume = 1 and, for each shift j, the sum over its pairs of
    w p[first]^order p[second]^(1 - order) at most exp((order - 1) divergence); at order < 1, at least.
    returns    (log p, price of each shift: the multiplier of (sum - 1) / (order (order - 1)) <= budget)
    """
    n, shifts, scale = cost.size, which.max() + 1, order * (order - 1)
    budget = _budget(divergence, order)

    def slack(u):
        pairs = np.exp(log_w + order * u[first] + (1 - order) * u[second])
        return pairs, budget - (np.bincount(which, pairs, shifts) - 1) / scale

    def merit(u, room):
        return sharp * (cost @ (np.exp(u) * volume)) - np.log(room).sum() - pull @ u

    def newton():
        """Newton's move in u, the merit it should gain, and the multipliers."""
        m = np.exp(u) * volume
        grad = np.bincount(which * n + first, pairs / (order - 1), shifts * n)
        grad = (grad - np.bincount(which * n + second, pairs / order, shifts * n)).reshape(shifts, n) - m / scale
        link = np.bincount(first * n + second, pairs / room[which], n * n).reshape(n, n)
        degree = link.sum(0) + link.sum(1)
        hessian = np.diag(degree + pull) - link - link.T + degree.sum() * np.outer(m, m)  # the last: m v = 0 anyway
        jacobi = 1 / np.sqrt(np.diag(hessian))
        factor = cho_factor(hessian * jacobi * jacobi[:, None])
        rows, rhs = np.vstack([grad, m]), pull - sharp * cost * m
        solved = jacobi * cho_solve(factor, (jacobi * np.vstack([rows, rhs])).T).T
        multiplier = np.linalg.solve(rows @ solved[:-1].T + np.diag([*room**2, 0]),
                                     rows @ solved[-1] + np.array([*room, 0]))
        move = solved[-1] - multiplier @ solved[:-1]
        return move, (rhs - (1 / room) @ grad) @ move, multiplier

    u = start - logsumexp(start, b=volume)
    pairs, room = slack(u)
    sharp = (1 + shifts) / (cost @ (np.exp(u) * volume))
    for _ in range(12):  # each round ten times sharper
        pull = np.exp(u) * volume  # keeps p > 0, in proportion to the mass, so that no tail is lifted
        for _ in range(60):
            move, gain, multiplier = newton()
            before, length, accepted = merit(u, room), min(1, 2 / np.abs(move).max()), False
            while not accepted and length > 1e-9:
                trial = u + length * move
                trial -= logsumexp(trial, b=volume)
                pairs_there, room_there = slack(trial)
                worst = before - 0.01 * length * gain + 1e-10 * abs(before)  # the last: rounding
                accepted = (room_there > 0).all() and merit(trial, room_there) <= worst
                length /= 2
            if not accepted:
                break
            u, pairs, room = trial, pairs_there, room_there
            if np.abs(move).max() < 1e-8 and gain < 1e-6:
                break
        if (1 + shifts) / sharp < 1e-7 * (cost @ (np.exp(u) * volume)):
            break
        sharp *= 10
    return u, np.maximum(multiplier[:-1], 0) / sharp
