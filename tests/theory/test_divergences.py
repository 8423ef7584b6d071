"""Renyi divergence, and the least one that breaks a top-k: by hand, by SciPy, by brute force, in every limit."""

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from oracles import theory as oracle
from oracles.golden import theory as golden
from scipy import stats

from fvit.theory.divergences import breaking_divergence, pooled_divergence, renyi_divergence, tokens_to_break

pytestmark = pytest.mark.filterwarnings("error")  # a valid call prints no warning
W6 = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]
FIRST, SECOND = oracle.DIRECTIONS
COIN, BIASED = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])


@pytest.mark.parametrize("p, q, order, value", [
    (*COIN, *BIASED, 0.5, -2 * np.log(np.sqrt(0.125) + np.sqrt(0.375))),  # twice the Bhattacharyya distance
    (*COIN, *BIASED, 1, 0.5 * np.log(2) + 0.5 * np.log(2 / 3)),
    (*COIN, *BIASED, 2, np.log(4 / 3)),  # log sum p^2 / q = log(1 + chi^2)
    (*COIN, *BIASED, 3, 0.5 * np.log(0.125 / 0.0625 + 0.125 / 0.5625)), (*COIN, *BIASED, np.inf, np.log(2)),
    *[([1.0, 0.0], [0.5, 0.5], order, np.log(2)) for order in (0.5, 1, np.inf)],  # 0 log 0 = 0
    ([0.5, 0.5], [1.0, 0.0], 0.5, np.log(2)),  # finite below order 1: -2 log sqrt(0.5)
    *[([0.5, 0.5], [1.0, 0.0], order, np.inf) for order in (1, 2, np.inf)],
    *[([1.0, 0.0], [0.0, 1.0], order, np.inf) for order in (0.5, 1)],  # nothing shared: infinite at any order
    ([0.5, 0.5, 0.0], [0.25, 0.75, 0.0], 2, np.log(4 / 3)),  # a token neither has
    ([0.5, 0.5, 0.0], [0.25, 0.75, 0.0], 1, 0.5 * np.log(4 / 3)),
    ([0.5, 0.5, 0.0], [0.25, 0.75, 0.0], np.inf, np.log(2)),
    ([1e-300, 1.0], [1.0, 1e-300], 3, 300 * np.log(10)),  # where powers leave the range of floats
    ([1e-300, 1.0], [1.0, 1e-300], 0.9, -10 * np.log(10.0**-30 + 10.0**-270)),
])
def test_by_hand_with_zeros_and_tiny_entries(p, q, order, value):
    with np.errstate(divide="raise", invalid="raise", over="raise"):  # handled, not warned about
        assert renyi_divergence([p], [q], order) == pytest.approx(value, rel=1e-13)


def test_rows_are_independent_and_are_scipys_entropy_and_the_plain_sum():
    p, q = np.random.default_rng(0).dirichlet(np.ones(50), size=(2, 8))
    assert renyi_divergence(p, q, 1).shape == (8,)
    np.testing.assert_allclose(renyi_divergence(p, q, 1), stats.entropy(p, q, axis=1), rtol=1e-13)
    for order in (0.05, 0.3, 0.7, 1.6, 5, 40, np.inf):  # the plain sum, where no power leaves the range of floats
        np.testing.assert_allclose(renyi_divergence(p, q, order), oracle.divergence(p, q, order), rtol=1e-11)


def test_discretised_gaussians_have_the_gaussian_divergence():
    # D_a(N(m, s^2) || N(0, s^2)) = a m^2 / (2 s^2), whatever the order: the formula certificates stand on
    t = np.arange(-25, 25, 0.01)  # no entry underflows
    p, q = (np.exp(-((t - m) ** 2) / 2)[None] for m in (1.5, 0.0))
    for order in (0.3, 1, 1.7, 4, 10):
        value = renyi_divergence(p / p.sum(), q / q.sum(), order)
        assert value == pytest.approx(order * 1.5**2 / 2, rel=1e-9)


@pytest.mark.parametrize("step", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_the_order_tends_to_one_from_both_sides(step):
    # to first order D_a = KL + (a - 1) V / 2, V the variance of log p/q: no digits may be lost on the way
    p, q = np.random.default_rng(1).dirichlet(np.ones(20), size=(2, 1))
    kl, log_ratio = renyi_divergence(p, q, 1), np.log(p / q)
    spread = (p * log_ratio**2).sum() - kl**2
    for order in (1 + step, 1 - step):
        linear = kl + (order - 1) * spread / 2
        assert renyi_divergence(p, q, order) == pytest.approx(linear, abs=20 * step**2 + 1e-14)


def test_the_order_tends_to_infinity():
    p, q = np.random.default_rng(2).dirichlet(np.ones(20), size=(2, 5))
    limit = renyi_divergence(p, q, np.inf)
    gaps = [np.abs(renyi_divergence(p, q, order) - limit).max() for order in (1e2, 1e4, 1e6, 1e12)]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] < 0.1 and gaps[-1] < 1e-10


def test_rounding_never_makes_it_negative():
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(30), size=200)
    q = p * (1 + 1e-15 * rng.normal(size=p.shape))
    for order in (0.5, 1, 2, np.inf):
        assert (renyi_divergence(p, q, order) >= 0).all()


def test_tensors_of_any_kind_are_taken_and_rows_renormalised():
    p, q = torch.tensor(COIN, dtype=torch.float32, requires_grad=True), torch.tensor(BIASED, dtype=torch.bfloat16)
    value = renyi_divergence(p, q, 2)
    assert isinstance(value, np.ndarray) and value.dtype == np.float64
    assert value == pytest.approx(np.log(4 / 3))
    assert renyi_divergence(COIN * 1.00009, BIASED * 0.99991, 2) == pytest.approx(np.log(4 / 3), rel=1e-14)


def test_maps_on_their_grid_are_their_flattened_rows():
    p, q = (np.random.default_rng(seed).dirichlet(np.ones(6), 4) for seed in (0, 1))
    on_grid = renyi_divergence(torch.from_numpy(p.reshape(4, 2, 3)), q.reshape(4, 2, 3), 2)
    assert on_grid.tolist() == renyi_divergence(p, q, 2).tolist()
    least = breaking_divergence(p.reshape(4, 2, 3), 2, "0.5", 2)
    assert least.tolist() == breaking_divergence(p, 2, "0.5", 2).tolist() and least.shape == (4,)


@pytest.mark.parametrize("p, q, order, message", [
    (COIN[0], BIASED[0], 2, r"p has shape \(2,\), wanted \(B, n\)"),
    (COIN, [[0.2, 0.3, 0.5]], 2, r"p has shape \(1, 2\), q \(1, 3\)"),
    (COIN, [[0.5, 0.4998]], 2, "a row of q sums to 1 .* 0.0002, wanted 1 within 1e-4"),
    (COIN, [[1.5, -0.5]], 2, "q has negative, NaN or infinite entries"),
    ([[np.nan, 1.0]], BIASED, 2, "p has negative, NaN or infinite entries"),
    (COIN, BIASED, 0, r"order=0, wanted a number in \(0, inf\]"), (COIN, BIASED, np.nan, "order=nan"),
])
def test_refusals_name_the_mend(p, q, order, message):
    with pytest.raises(ValueError, match=message):
        renyi_divergence(p, q, order)


# Tokens to break ------------------------------------------------------------------------------------------------------
def test_tokens_to_break_in_whole_numbers_for_every_two_decimal_beta():
    # k0 = floor((100 - b) k / 100) + 1; in floats (1 - 0.8) * 10 is 1.99..., and 56 of these 10100 come out wrong
    for k in range(1, 101):
        wanted = [(100 - b) * k // 100 + 1 for b in range(101)]
        assert [tokens_to_break(k, b / 100) for b in range(101)] == wanted
        assert [tokens_to_break(k, f"{b / 100}") for b in range(101)] == wanted


def test_tokens_to_break_is_the_least_loss_and_forms_of_beta():
    for k in range(1, 13):
        for beta in {Fraction(a, b) for b in range(1, 14) for a in range(b + 1)}:
            assert tokens_to_break(k, beta) == oracle.least_loss(k, beta)
            assert tokens_to_break(k, str(beta)) == tokens_to_break(k, beta)
    assert tokens_to_break(3, "2/3") == 2 and tokens_to_break(3, 2 / 3) == 2  # 0.6666666666666666 < 2/3: the same loss
    assert tokens_to_break(10, 1) == 1 and tokens_to_break(10, 0) == 11 and tokens_to_break(10, 1.0) == 1
    assert tokens_to_break(10, np.float64(0.8)) == 3 and tokens_to_break(np.int64(10), "0.80") == 3


BAD_BETA = [1.5, -0.1, "1.01", "4/3", Fraction(-1, 3), float("nan"), float("inf"), "most", "", "1/0", None, [0.5], 2]
BAD_K = [0, -1, 2.5, "3", None, float("nan")]


@pytest.mark.parametrize("name, k, beta", [*[("beta", 3, b) for b in BAD_BETA], *[("k", k, "1/2") for k in BAD_K]])
def test_beta_out_of_range_and_k_that_is_no_whole_number_from_one_are_refused(name, k, beta):
    for call in (lambda: tokens_to_break(k, beta), lambda: breaking_divergence(W6, k, beta, 2),
                 lambda: pooled_divergence(W6, k, beta, 2)):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name}.*{re.escape(str(k if name == 'k' else beta))}"):
            call()


# The least divergence that breaks (Theorem 1) -------------------------------------------------------------------------
def test_lemma_1_broken_means_some_k0_of_the_top_set_do_not_exceed_some_k0_outside():
    # the definition, over every tie-breaking of q, against the pairs (A, B) that oracle and theorem both start from
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = rng.integers(2, 7)
        k = rng.integers(1, n + 1)
        top, q = set(range(k)), rng.integers(0, 4, size=n)
        k0 = rng.integers(1, k + 1)
        broken = any(len(top - other) >= k0 for other in oracle.top_sets(q, k))
        pairs = oracle.index_pairs(np.arange(n)[::-1], k, k0)
        assert broken == any(max(q[a]) <= min(q[b]) for a, b in pairs)


def test_breaking_divergence_golden():
    for item in golden("min_renyi"):
        given = item["inputs"]
        call = given["w"], given["k"], given["beta"], given["order"], given["direction"]
        assert tokens_to_break(given["k"], given["beta"]) == given["k0"]
        assert breaking_divergence(*call) == pytest.approx(float(item["value"]), abs=1e-9), item["name"]
        if item["recalled_formula"] is not None:
            assert pooled_divergence(*call) == pytest.approx(float(item["recalled_formula"]), abs=1e-9), item["name"]


BRUTE_ORDERS = (0.1, 0.3, 0.5, 0.8, 1, 1.2, 1.5, 2, 3, 6, np.inf)


@pytest.mark.parametrize("kind", ["flat", "spiky", "tied", "zeros"])
def test_brute_force_over_all_pairs_of_index_sets(kind):
    rng = np.random.default_rng(["flat", "spiky", "tied", "zeros"].index(kind))
    for _ in range(52):
        n = rng.integers(3, 7)
        k = rng.integers(1, n)
        k0 = rng.integers(1, min(k, n - k) + 1)
        w, order = oracle.random_weights(rng, n, kind), rng.choice(BRUTE_ORDERS)
        for direction in oracle.DIRECTIONS:
            wanted = oracle.least_divergence(w, k, k0, order, direction)
            value = breaking_divergence(w, k, Fraction(int(k - k0 + 1), int(k)), order, direction)
            assert value == pytest.approx(wanted, abs=1e-7), (w.tolist(), k, k0, order, direction)


def test_no_attacked_row_below_it_loses_the_overlap():
    # from the definition alone: q near and far, broken under some tie-breaking, is never closer than the least one
    rng, broken = np.random.default_rng(1), 0
    for _ in range(60):
        n = rng.integers(4, 8)
        k = rng.integers(1, n)
        w, beta = oracle.random_weights(rng, n, "spiky"), Fraction(int(rng.integers(1, k + 1)), int(k))
        q = w * np.exp(rng.choice([0.1, 0.5, 2.0], size=(200, 1)) * rng.normal(size=(200, n)))
        q /= q.sum(1, keepdims=True)
        top = np.argsort(-w)[:k]
        lost = np.array([k - np.isin(np.argsort(-row)[:k], top).sum() >= tokens_to_break(k, beta) for row in q])
        broken += lost.sum()
        for order in (0.4, 1, 2, 7, np.inf):
            rows = np.broadcast_to(w, q.shape)
            least = [breaking_divergence(w, k, beta, order, direction) for direction in oracle.DIRECTIONS]
            assert (renyi_divergence(rows, q, order)[lost] >= least[0] - 1e-12).all()
            assert (renyi_divergence(q, rows, order)[lost] >= least[1] - 1e-12).all()
    assert broken > 500


def test_the_example_where_pooling_all_of_s_is_not_the_least():
    w = [0.7, 0.1, 0.1, 0.1]  # token 2 lies below the common level already and need not move
    assert f"{pooled_divergence(w, 2, '1/2', 2):.10f}" == "0.7323678937"
    assert f"{breaking_divergence(w, 2, '1/2', 2):.10f}" == "0.5807544062"


def test_rows_of_a_batch_are_independent_and_the_order_of_tokens_does_not_matter():
    rng = np.random.default_rng(2)
    w = rng.dirichlet(np.ones(9), size=5)
    for function in (breaking_divergence, pooled_divergence):
        for direction in oracle.DIRECTIONS:
            values = function(w, 4, "1/2", 2.5, direction)
            assert isinstance(values, np.ndarray) and values.shape == (5,) and values.dtype == np.float64
            one_by_one = [function(row, 4, "1/2", 2.5, direction) for row in w]
            assert all(np.ndim(v) == 0 and np.asarray(v).dtype == np.float64 for v in one_by_one)
            np.testing.assert_allclose(values, one_by_one, rtol=1e-12)
            np.testing.assert_allclose(values, function(w[:, rng.permutation(9)], 4, "1/2", 2.5, direction), rtol=1e-12)
            assert function(w[:0], 4, "1/2", 2.5, direction).shape == (0,)


@pytest.mark.parametrize("w, k, beta", [
    ([0.4, 0.3, 0.2, 0.1], 4, 1), ([0.4, 0.3, 0.2, 0.1], 3, "2/3"),  # none is outside; two must be lost, one is
    ([0.4, 0.3, 0.2, 0.1], 2, 0), ([0.4, 0.3, 0.2, 0.1], 4, 0),  # an overlap of 0 is always there
    ([0.25, 0.25, 0.25, 0.25], 3, "2/3"), ([1.0], 1, 1),  # ties do not make it possible
])
def test_infinite_where_nothing_can_break(w, k, beta):
    for direction in oracle.DIRECTIONS:
        assert all(breaking_divergence(w, k, beta, order, direction) == np.inf for order in (0.5, 1, 2, np.inf))
        assert pooled_divergence(w, k, beta, 2, direction) == np.inf
        assert breaking_divergence([w, w], k, beta, 2, direction).tolist() == [np.inf] * 2


@pytest.mark.parametrize("order", [0.5, 1, 2, np.inf])
@pytest.mark.parametrize("direction", oracle.DIRECTIONS)
def test_ties(order, direction):
    assert breaking_divergence([0.4, 0.25, 0.25, 0.1], 2, 1, order, direction) == 0  # the boundary is tied
    assert breaking_divergence([0.4, 0.2, 0.2, 0.2], 2, "1/2", order, direction) > 0.01  # two must be lost: harmless
    assert breaking_divergence([0.25] * 4, 2, "1/2", order, direction) == 0  # all of S is tied
    assert breaking_divergence([0.7, 0.3, 0.0, 0.0, 0.0], 3, 1, order, direction) == 0  # all of S is zero


def test_zeros_outside_by_hand():
    w = [0.4, 0.3, 0.3, 0.0]  # q||w from order 1 on: token 4 stays at zero, so 1 and 2 must go there too
    for order in (1, 1.5, 2, 8, np.inf):
        assert breaking_divergence(w, 2, "1/2", order, SECOND) == pytest.approx(-np.log(0.3), rel=1e-13)
    assert pooled_divergence(w, 2, "1/2", 2, SECOND) == np.inf
    assert breaking_divergence([0.6, 0.4, 0.0, 0.0], 2, "1/2", 2, SECOND) == np.inf  # nothing to move to
    # w||q, order 2, one token of mass 1 against one of none: q = (1/2, 1/2)
    assert breaking_divergence([1.0, 0.0], 1, 1, 2) == pytest.approx(np.log(2), rel=1e-13)
    assert breaking_divergence([1.0, 0.0], 1, 1, np.inf) == pytest.approx(np.log(2), rel=1e-13)
    assert breaking_divergence([1.0, 0.0], 1, 1, 0.5, SECOND) == pytest.approx(np.log(2), rel=1e-13)


@pytest.mark.parametrize("step", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_breaking_divergence_tends_to_order_one(step):
    for direction in oracle.DIRECTIONS:
        at_one, below, above = (breaking_divergence(W6, 3, "2/3", 1 + h, direction) for h in (0, -step, step))
        assert below <= at_one + 1e-13 and at_one <= above + 1e-13
        assert above - below < 0.2 * step + 1e-13


@pytest.mark.parametrize("w", [W6, [0.5, 0.3, 0.2 - 2e-9, 1e-9, 1e-9, 0.0], [1 - 1e-6, 1e-6, 1e-200, 1e-250, 0.0]])
@pytest.mark.parametrize("direction", oracle.DIRECTIONS)
@pytest.mark.parametrize("k, beta", [(2, 1), (2, "1/2"), (3, "1/3")])
def test_non_decreasing_in_the_order_up_to_its_limit(w, direction, k, beta):
    orders = [1e-3, 0.1, 0.5, 0.999999, 1, 1.000001, 2, 10, 50, 200, 1e3, 1e5, 1e8]
    values = np.array([breaking_divergence(w, k, beta, order, direction) for order in [*orders, np.inf]])
    assert (np.diff(values[np.isfinite(values)]) >= -1e-12 * (1 + values[np.isfinite(values)][:-1])).all()
    assert (np.diff(np.isinf(values).astype(int)) >= 0).all()
    if np.isfinite(values[-1]):
        assert values[-2] == pytest.approx(values[-1], rel=1e-4)


def test_a_tiny_gap_keeps_its_digits():
    # a, b = 1/4 +- gap meet at sqrt(a^2 + b^2): D_2 = 2 log(1/2 + 2 sqrt(1/16 + gap^2)) = 8 gap^2 + O(gap^4)
    for gap in (1e-3, 1e-5, 1e-7):
        w = [0.3, 0.25 + gap, 0.25 - gap, 0.2]
        for direction in oracle.DIRECTIONS:
            root = np.sqrt(breaking_divergence(w, 2, 1, 2, direction))
            assert root == pytest.approx(np.sqrt(8) * gap, rel=5e-3, abs=2e-8)


@pytest.mark.parametrize("rest", [1e-12, 1e-18, 1e-100])
def test_a_row_that_is_one_up_to_rounding_is_not_called_unbreakable(rest):
    # a, b = 1, rest meet at their power mean: D(q || w) = -log 2 M_{1-order}; what is lost to rounding must be on the
    # safe side, below the true value (first order of arguments: log 2 and less, no digits at stake)
    for order in (0.5, 0.9, 1, 1.5, 2, 8, np.inf):
        s = 1 - order
        mean = np.sqrt(rest) if s == 0 else rest if s == -np.inf else np.exp(np.logaddexp(0, s * np.log(rest)) / s) / (
            2 ** (1 / s))  # fmt: skip
        value = breaking_divergence([1.0, rest], 1, 1, order, SECOND)
        assert 0 < value <= -np.log(2 * mean) * (1 + 1e-4), (order, value)
        assert 0 < breaking_divergence([1.0, rest], 1, 1, order, FIRST) <= np.log(2) * (1 + 1e-9)


def test_the_pooled_form_equals_the_least_exactly_where_the_corollary_says():
    rng, agreed = np.random.default_rng(3), []
    for _ in range(300):
        w = np.sort(oracle.random_weights(rng, 8, rng.choice(["flat", "spiky", "tied"])))[::-1]
        k, k0, order = 4, rng.integers(1, 5), rng.choice([1.3, 2, 5])  # k0 = 1: always equal
        for direction, s in zip(oracle.DIRECTIONS, (order, 1 - order), strict=True):
            mean = np.mean(w[k - k0 : k + k0] ** s) ** (1 / s)
            if min(abs(w[k] - mean), abs(mean - w[k - 1])) < 1e-4:
                continue  # too near the border of the condition to be told apart
            call = w, k, Fraction(int(k - k0 + 1), k), order, direction
            difference = pooled_divergence(*call) - breaking_divergence(*call)
            inside = w[k] <= mean <= w[k - 1]
            assert (abs(difference) < 1e-13) if inside else (difference > 1e-13), call
            agreed.append(inside)
    assert 50 < sum(agreed) < len(agreed) - 50


@pytest.mark.parametrize("functions, change, message", [
    *[((breaking_divergence, pooled_divergence), *case) for case in (
        ({"k": 7}, "k.*7"), ({"w": [0.5, 0.4]}, "w.* sums? to"), ({"w": [1.5, -0.5]}, "w.*negative"),
        ({"w": 1.0}, r"w.*shape \(\)"), ({"w": []}, "w"), ({"order": 0}, "order.*0"),
        ({"direction": "sideways"}, f"sideways.*{FIRST}|{FIRST}.*sideways"))],
    *[((pooled_divergence,), {"order": order}, f"order.*{order}") for order in (1, 0.5, 1.0)],  # for orders above 1
])
def test_breaking_refuses(functions, change, message):
    for function in functions:
        with pytest.raises(ValueError, match=message):
            function(**{"w": W6, "k": 1, "beta": 1, "order": 2, "direction": FIRST} | change)
