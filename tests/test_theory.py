"""Renyi divergence: closed forms by hand, SciPy's entropy, the limits of the order, and what must hold for any rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fvit.theory import renyi_divergence

COIN, BIASED = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])


@pytest.mark.parametrize("order, value", [
    (0.5, -2 * np.log(np.sqrt(0.125) + np.sqrt(0.375))),  # twice the Bhattacharyya distance
    (1, 0.5 * np.log(2) + 0.5 * np.log(2 / 3)),
    (2, np.log(4 / 3)),  # log sum p^2 / q = log(1 + chi^2)
    (3, 0.5 * np.log(0.125 / 0.0625 + 0.125 / 0.5625)),
    (np.inf, np.log(2)),
])
def test_coins_by_hand(order, value):
    assert renyi_divergence(COIN, BIASED, order) == pytest.approx(value, rel=1e-14)


def test_rows_are_independent_and_order_one_is_scipys_entropy():
    p, q = np.random.default_rng(0).dirichlet(np.ones(50), size=(2, 8))
    assert renyi_divergence(p, q, 1).shape == (8,)
    np.testing.assert_allclose(renyi_divergence(p, q, 1), stats.entropy(p, q, axis=1), rtol=1e-13)
    np.testing.assert_allclose(renyi_divergence(p, q, np.inf), np.log((p / q).max(axis=1)), rtol=1e-13)


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


@pytest.mark.parametrize("p, q, order, value", [
    ([1.0, 0.0], [0.5, 0.5], 0.5, np.log(2)),  # 0 log 0 = 0
    ([1.0, 0.0], [0.5, 0.5], 1, np.log(2)),
    ([1.0, 0.0], [0.5, 0.5], np.inf, np.log(2)),
    ([0.5, 0.5], [1.0, 0.0], 0.5, np.log(2)),  # finite below order 1: -2 log sqrt(0.5)
    ([0.5, 0.5], [1.0, 0.0], 1, np.inf),
    ([0.5, 0.5], [1.0, 0.0], 2, np.inf),
    ([0.5, 0.5], [1.0, 0.0], np.inf, np.inf),
    ([1.0, 0.0], [0.0, 1.0], 0.5, np.inf),  # nothing shared: infinite at any order
    ([1.0, 0.0], [0.0, 1.0], 1, np.inf),
    ([0.5, 0.5, 0.0], [0.25, 0.75, 0.0], 2, np.log(4 / 3)),  # a token neither has
    ([0.5, 0.5, 0.0], [0.25, 0.75, 0.0], 1, 0.5 * np.log(4 / 3)),
    ([0.5, 0.5, 0.0], [0.25, 0.75, 0.0], np.inf, np.log(2)),
    ([1e-300, 1.0], [1.0, 1e-300], 3, 300 * np.log(10)),  # where powers leave the range of floats
    ([1e-300, 1.0], [1.0, 1e-300], 0.9, -10 * np.log(10.0**-30 + 10.0**-270)),
])
def test_zeros_and_tiny_entries(p, q, order, value):
    with np.errstate(divide="raise", invalid="raise", over="raise"):  # handled, not warned about
        assert renyi_divergence([p], [q], order) == pytest.approx(value, rel=1e-13)


rows = st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1)), min_size=4, max_size=4).filter(lambda row: sum(row) > 1e-6)
orders = st.floats(0.01, 50)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(rows, rows, orders, orders)
def test_non_negative_and_non_decreasing_in_the_order(p, q, order, other):
    p, q = (np.array([row]) / np.sum(row) for row in (p, q))
    low, high = (renyi_divergence(p, q, a).item() for a in sorted((order, other)))
    assert 0 <= low <= high + 1e-9 * (1 + low) or high == np.inf
    assert renyi_divergence(p, p, order).item() < 1e-12


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows, rows, st.floats(0.05, 0.95))
def test_skew_symmetry_below_order_one(p, q, order):
    # (1 - a) D_a(p || q) = a D_{1-a}(q || p)
    p, q = (np.array([row]) / np.sum(row) for row in (p, q))
    left, right = (1 - order) * renyi_divergence(p, q, order), order * renyi_divergence(q, p, 1 - order)
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)


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


@pytest.mark.parametrize("p, q, order, message", [
    (COIN[0], BIASED[0], 2, r"p has shape \(2,\), wanted \(B, n\)"),
    (COIN, [[0.2, 0.3, 0.5]], 2, r"p has shape \(1, 2\), q \(1, 3\)"),
    (COIN, [[0.5, 0.4998]], 2, "a row of q sums to 1 .* 0.0002, wanted 1 within 1e-4"),
    (COIN, [[1.5, -0.5]], 2, "q has negative, NaN or infinite entries"),
    ([[np.nan, 1.0]], BIASED, 2, "p has negative, NaN or infinite entries"),
    (COIN, BIASED, 0, r"order=0, wanted a number in \(0, inf\]"),
    (COIN, BIASED, -1, "order=-1"),
    (COIN, BIASED, np.nan, "order=nan"),
])
def test_refusals_name_the_mend(p, q, order, message):
    with pytest.raises(ValueError, match=message):
        renyi_divergence(p, q, order)
