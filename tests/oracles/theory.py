"""Slow references for divergences and radii, from the definitions: no pooling, no closed form for a radius."""

import itertools
from fractions import Fraction
from functools import cache

import numpy as np
from scipy.optimize import brentq, linprog, minimize_scalar
from scipy.special import ndtr, ndtri, rel_entr

DIRECTIONS = ("clean_to_attacked", "attacked_to_clean")
GOLDEN_RATIO = (np.sqrt(5) - 1) / 2
TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


# What "broken" means --------------------------------------------------------------------------------------------------
def least_loss(k, beta):
    """Least number of lost tokens l with (k - l) / k < beta, by trying each (beta a Fraction)."""
    return next(lost for lost in range(k + 2) if Fraction(k - lost, k) < beta)


def top_sets(v, k):
    """Every top-k set of v: k indices, none of which is smaller than an index outside."""
    for inside in itertools.combinations(range(len(v)), k):
        outside = [i for i in range(len(v)) if i not in inside]
        if not outside or min(v[i] for i in inside) >= max(v[i] for i in outside):
            yield set(inside)


def index_pairs(w, k, k0):
    """Every (A, B) of Lemma 1: A of the top set, B outside, k0 each; the top set by lowest index among ties."""
    order = np.argsort(-np.asarray(w), kind="stable")
    inside, outside = order[:k], order[k:]
    pairs = itertools.product(itertools.combinations(inside, k0), itertools.combinations(outside, k0))
    return [(list(a), list(b)) for a, b in pairs]


# Theorem 1: the least divergence --------------------------------------------------------------------------------------
def divergence(p, q, order):
    """D_order(p || q) over the last axis, Renyi 1961, with 0^x = 0 in p; q may lack mass that lies where p = 0."""
    p, q = np.broadcast_arrays(p, q)
    with np.errstate(all="ignore"):
        if order == 1:
            return rel_entr(p, q).sum(-1)
        if order == np.inf:
            return np.log(np.where(p > 0, p / q, 0).max(-1))
        return np.log(np.where(p > 0, p**order * q ** (1.0 - order), 0).sum(-1)) / (order - 1)


def divergence_at_level(w, low, high, order, direction):
    """min D over q with sum 1 and low_i <= q_i <= high_i. Shapes (..., n) -> (...).

    In both directions and at any order the sum that is minimised is separable, with a derivative in q_i that depends on
    q_i / w_i alone; so by its Lagrangian q_i = clip(c w_i, low_i, high_i), c such that q sums to 1: found by bisection.
    If no c does, the mass left goes where w is zero: free in the direction w || q and below order 1, else infinite.
    """
    bottom, top = np.full(low.shape[:-1], -60.0), np.full(low.shape[:-1], 60.0)  # of log c
    for _ in range(46):  # 120 / 2^46 = 2e-12
        middle = (bottom + top) / 2
        below = np.clip(np.exp(middle)[..., None] * w, low, high).sum(-1) < 1
        bottom, top = np.where(below, middle, bottom), np.where(below, top, middle)
    q = np.clip(np.exp(top)[..., None] * w, low, high)
    if direction == "clean_to_attacked":
        return divergence(w, q, order)
    incomplete = q.sum(-1) < 1 - 1e-9
    return np.where(incomplete & (order >= 1), np.inf, divergence(q, w, order))


def least_divergence(w, k, k0, order, direction):
    """min over all (A, B) of Lemma 1 of the least divergence; inf where there is no such pair."""
    w = np.asarray(w, dtype=float)
    if k0 > min(k, len(w) - k):
        return np.inf
    return least_over_pairs(w, index_pairs(w, k, k0), order, direction)


def least_over_pairs(w, pairs, order, direction):
    """min over (A, B) of min {D(w, q): max_A q <= min_B q}, by a search over the level t between the two.

    For a fixed t the constraint is a box, see above; the value is quasi-convex in t, as D is in q and the constraint is
    convex in (q, t), so golden section over log t finds it; t = 0 is tried apart: tokens without mass may force it.
    """
    k0 = len(pairs[0][0])
    in_a, in_b = (np.array([np.isin(range(len(w)), p[side]) for p in pairs]) for side in (0, 1))  # (pairs, n)

    def value(log_t):
        t = np.exp(log_t)[:, None]
        low, high = np.where(in_b, t, 0.0), np.where(in_a, t, 1.0)
        return divergence_at_level(w, low, high, order, direction)

    left, right = np.full(len(pairs), -30.0), np.full(len(pairs), -np.log(k0))
    x1, x2 = right - GOLDEN_RATIO * (right - left), left + GOLDEN_RATIO * (right - left)
    f1, f2 = value(x1), value(x2)
    for _ in range(44):  # 30 x 0.618^44 = 2e-8 in log t, hence far less in a smooth minimum
        go_left = f1 <= f2
        left, right = np.where(go_left, left, x1), np.where(go_left, x2, right)
        new = np.where(go_left, right - GOLDEN_RATIO * (right - left), left + GOLDEN_RATIO * (right - left))
        f_new = value(new)
        x1, x2 = np.where(go_left, new, x2), np.where(go_left, x1, new)
        f1, f2 = np.where(go_left, f_new, f2), np.where(go_left, f1, f_new)
    return max(0.0, min(f1.min(), f2.min(), value(np.full(len(pairs), -np.inf)).min()))


def best_order(value, low=-8.0, high=9.0, points=60):
    """(s, maximum of value(order, direction) / order over s in [low, high]): a grid, then a search round its best.

    s > 0 is the first order of arguments, s <= 0 the second (docs/theory.md, section 0).
    """

    def scaled(s):
        return value(s, "clean_to_attacked") / s if s > 0 else value(1 - s, "attacked_to_clean") / (1 - s)

    grid = np.linspace(low, high, points)
    best = grid[np.argmax([scaled(s) for s in grid])]
    step = grid[1] - grid[0]
    bounds = max(low, best - step), min(high, best + step)
    found = minimize_scalar(lambda s: -scaled(s), bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return found.x, -found.fun


# Theorem 3: the sharp radius ------------------------------------------------------------------------------------------
def upper_curve(p, rho):
    """C(p), the largest mean after a shift of rho sigma of a test whose mean was p (Neyman and Pearson)."""
    return ndtr(ndtri(np.clip(p, 0, 1)) + rho)


@cache
def subsets(n):
    """(2^n - 1, n) rows of 0 and 1: every set of tokens but the empty one."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))[1:]


def gap_over_reachable(w, a, b, rho):
    """min (max_A q - min_B q) and its q, over q with q(U) <= C(w(U)) for all 2^n sets U (Lemma 2): a linear program."""
    n, sets = len(w), subsets(len(w))
    rows = np.hstack([sets, np.zeros((len(sets), 2))])
    return _least_gap(rows, upper_curve(sets @ w, rho), np.eye(n), a, b)


def shifted_interval_map(w, tokens, rho):
    """Exact mean, after a shift of rho sigma to higher g, of a one-hot map: differences of the normal cdf.

    The map: `tokens`, from low to high g = <direction, y> / sigma, each on an interval of probability w_i.
    """
    edges, q = ndtri(np.clip(np.cumsum(np.concatenate([[0.0], np.asarray(w)[list(tokens)]])), 0, 1)), np.zeros(len(w))
    edges[-1] = np.inf
    q[list(tokens)] = np.diff(ndtr(edges - rho))
    return q


def gap_over_maps(w, a, b, rho):
    """The same over all q = E Z(x' + z) that explicit maps reach: mixtures of the one-hot interval maps.

    Each mixture is an attention map with E Z(x + z) = w, so what this finds is a real break, whatever Lemma 2 says.
    """
    orders = itertools.permutations(range(len(w)))
    vertices = np.array([shifted_interval_map(w, tokens, rho) for tokens in orders])  # (n!, n)
    return _least_gap(np.zeros((0, len(vertices) + 2)), np.zeros(0), vertices, a, b)


def _least_gap(rows, bounds, points, a, b):
    """min u - v, q = x @ points, x >= 0 summing to 1, q_a <= u, q_b >= v, rows @ (x, u, v) <= bounds."""
    m = len(points)
    above = np.hstack([points[:, a].T, -np.ones((len(a), 1)), np.zeros((len(a), 1))])
    below = np.hstack([-points[:, b].T, np.zeros((len(b), 1)), np.ones((len(b), 1))])
    total = np.concatenate([np.ones(m), [0.0, 0.0]])[None]
    found = linprog(
        np.concatenate([np.zeros(m), [1.0, -1.0]]), np.vstack([rows, above, below]),
        np.concatenate([bounds, np.zeros(len(a) + len(b))]), total, [1.0], bounds=(0, 1), options=TIGHT,
    )  # fmt: skip
    assert found.status == 0, found.message
    return found.fun, found.x[:-2] @ points


def sharp_radius(w, k, k0, ceiling=3.0):
    """Least rho at which Lemma 2 allows a break, over all (A, B); `ceiling` where there is none below it."""
    w, least = np.asarray(w, dtype=float), ceiling
    if k0 > min(k, len(w) - k):
        return np.inf
    for a, b in index_pairs(w, k, k0):
        if gap_over_reachable(w, a, b, 0.0)[0] <= 1e-12:
            return 0.0
        if gap_over_reachable(w, a, b, least)[0] < 0:  # the gap decreases in rho: this pair breaks earlier
            least = brentq(lambda rho, a=a, b=b: gap_over_reachable(w, a, b, rho)[0], 0, least, xtol=1e-10)
    return least


def prediction_vertices(y, rho, seed=0):
    """Vertices of the reachable set of Lemma 2 by linear programs in random directions, few classes."""
    rng, sets, found = np.random.default_rng(seed), subsets(len(y)), []
    for direction in rng.normal(size=(60, len(y))):
        best = linprog(direction, sets, upper_curve(sets @ y, rho), np.ones((1, len(y))), [1.0], options=TIGHT)
        assert best.status == 0, best.message
        found.append(best.x)
    return np.array(found)


# Theorem 5: the distribution of a token's weight ----------------------------------------------------------------------
def shifted_bounds(values, rho, low, high, margin, cells):
    """Theorem 5 (i) with DKW (docs/theory.md, section 3) for one token, by the midpoint rule on `cells` cells: exact if
    no value lies inside a cell."""
    t = low + (high - low) * (np.arange(cells) + 0.5) / cells
    exceed = (np.asarray(values)[:, None] > t).mean(0)  # G(t)
    width = (high - low) / cells
    lower = low + width * ndtr(ndtri(np.maximum(exceed - margin, 0)) - rho).sum()
    upper = low + width * ndtr(ndtri(np.minimum(exceed + margin, 1)) + rho).sum()
    return lower, upper


def cdf_certified(values, top, k0, rho, low, high, margin, cells):
    """Theorem 5 (ii) as worded: the m-th largest lower bound inside exceeds the k0-th largest upper one outside."""
    bounds = np.array([shifted_bounds(column, rho, low, high, margin, cells) for column in values.T])
    outside = np.setdiff1d(np.arange(values.shape[1]), top)
    m = len(top) - k0 + 1
    return np.sort(bounds[top, 0])[::-1][m - 1] > np.sort(bounds[outside, 1])[::-1][k0 - 1]


def pairwise_certified(values, top, k0, rho, margin, cells):
    """Theorem 5 (iii) as it is worded: fewer than k0 tokens of the top set have k0 or more uncertified partners."""
    outside = np.setdiff1d(np.arange(values.shape[1]), top)
    weak = 0
    for a in top:
        lower = [shifted_bounds(values[:, a] - values[:, b], rho, -1, 1, margin, cells)[0] for b in outside]
        weak += sum(v <= 0 for v in lower) >= k0
    return weak < k0


def last_certified(certified, ceiling=8.0, steps=45):
    """Largest rho that is certified, by bisection; 0 where none, `ceiling` where that still is."""
    if not certified(0.0):
        return 0.0
    if certified(ceiling):
        return ceiling
    low, high = 0.0, ceiling
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if certified(middle) else (low, middle)
    return low


# Random cases and profiles --------------------------------------------------------------------------------------------
def random_weights(rng, n, kind):
    """A row of n weights: "flat", "spiky" (down to 1e-4 or so), "tied" (few levels) or "zeros" (some tokens at 0)."""
    w = {
        "flat": lambda: 1 + 0.3 * rng.random(n),
        "spiky": lambda: np.exp(2.5 * rng.normal(size=n)),
        "tied": lambda: rng.integers(1, 4, size=n).astype(float),
        "zeros": lambda: np.where(rng.random(n) < 0.35, 0.0, rng.random(n)),
    }[kind]()
    if not w.any():
        w[0] = 1.0
    return w / w.sum()


def profile(name, n, k):
    """The deterministic profiles of docs/theory.md, section 2.3: "logit s", "zipf", "object"."""
    z = ndtri(1 - (np.arange(1, n + 1) - 0.5) / n)
    if name == "zipf":
        w = 1 / np.arange(1, n + 1)
    elif name == "object":
        w = np.where(np.arange(n) < k, 0.8 / k, 0.2 / (n - k)) * np.exp(0.2 * z)
    else:
        w = np.exp(float(name.split()[1]) * z)
    return w / w.sum()
