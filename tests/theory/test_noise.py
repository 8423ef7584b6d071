"""Bounds on noise: golden values, quadrature by mpmath, coins that attain them, and families and optima above them."""

import math

import mpmath
import numpy as np
import pytest
from oracles.golden import theory as golden

from fvit.theory import noise, optimal_noise
from fvit.theory.divergences import renyi_divergence

ORDERS = (0.3, 0.5, 1, 1.25, 2, 4, 12, np.inf)
SHAPES = [("laplace", None), ("logistic", None), ("student", 3), ("student", 10), ("generalised_normal", 0.6),
          ("generalised_normal", 1.5), ("generalised_normal", 4)]


def test_golden():
    for item in golden("var_lower_bound"):
        given = item["inputs"]
        arguments = (given["order"], given["eps"], given["R"])
        assert noise.variance_lower_bound(*arguments) == pytest.approx(item["value"], rel=1e-11)
        assert noise.gaussian_variance(*arguments) == pytest.approx(item["gaussian"], rel=1e-12)
    for item in golden("renyi2_laplace"):
        given = item["inputs"]
        value = noise.shifted_divergence("laplace", given["shift"], given["order"], given["scale"])
        assert value == pytest.approx(item["value"], abs=1e-11)


# Lemma 3 and Theorem 7 ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("divergence", [1e-8, 0.1, 1, 4, 50])
def test_the_coins_have_the_divergence(order, divergence):
    x = noise.half_log_ratio(order, divergence)
    coin = mpmath.mpf(1) / (1 + mpmath.exp(2 * mpmath.mpf(x)))
    p, q, a = (1 - coin, coin), (coin, 1 - coin), mpmath.mpf(order)
    with mpmath.workdps(60):
        if order == np.inf:
            value = mpmath.log(p[0] / q[0])
        elif order == 1:
            value = sum(s * mpmath.log(s / t) for s, t in zip(p, q, strict=True))
        else:
            value = mpmath.log(sum(s**a * t ** (1 - a) for s, t in zip(p, q, strict=True))) / (a - 1)
    assert float(value) == pytest.approx(divergence, rel=1e-6 if divergence < 1e-3 or divergence > 9 else 1e-10)


def test_order_two_is_chapman_robbins_and_orders_meet_their_limits():
    for divergence in (0.01, 1, 5):
        assert noise.variance_lower_bound(2, divergence, 3.0) == pytest.approx(9 / math.expm1(divergence), rel=1e-12)
        x = noise.half_log_ratio(1, divergence)
        assert 2 * x * math.tanh(x) == pytest.approx(divergence, rel=1e-12)
        assert noise.half_log_ratio(np.inf, divergence) == divergence / 2
        for near in (1 - 1e-9, 1 + 1e-9):
            assert noise.half_log_ratio(near, divergence) == pytest.approx(x, rel=1e-7)
        assert noise.half_log_ratio(1e7, divergence) == pytest.approx(divergence / 2, rel=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_no_pair_of_laws_beats_the_bound_and_coins_attain_it(order):
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.full(4, c), size=500) for c in (0.7, 2.0))
    value = rng.normal(size=(500, 4))
    r = rng.uniform(0.02, 0.49, size=(500, 1))
    coins = [np.hstack([1 - r, r]), np.hstack([r, 1 - r]), rng.normal(size=(500, 2))]
    for (a, b, statistic), attains in (((p, q, value), False), (coins, True)):
        divergence = np.maximum(renyi_divergence(a, b, order), renyi_divergence(b, a, order))
        x = np.array([noise.half_log_ratio(order, d) for d in divergence])
        mean = [(law * statistic).sum(1) for law in (a, b)]
        variance = sum((law * statistic**2).sum(1) - m**2 for law, m in zip((a, b), mean, strict=True)) / 2
        used = (mean[0] - mean[1]) ** 2 / (4 * variance) / np.sinh(x) ** 2
        apart = np.abs(a - b).sum(1) / 2 / np.tanh(x)
        assert used.max() <= 1 + 1e-8 and apart.max() <= 1 + 1e-8
        if attains:
            np.testing.assert_allclose([used, apart], 1, rtol=1e-7)


@pytest.mark.parametrize("order", [0.5, 1, 1.25, 2, 4, 12])
def test_the_bound_lies_below_gaussian_noise_and_meets_it_at_small_divergence(order):
    ratio = [noise.variance_lower_bound(order, d) / noise.gaussian_variance(order, d) for d in (1e-6, 1e-3, 0.1, 1, 4)]
    assert ratio[0] == pytest.approx(1, abs=1e-5)
    assert ratio == sorted(ratio, reverse=True)
    assert 1 - ratio[1] == pytest.approx((1 - ratio[0]) * 1e3, rel=0.02)  # 1 - O(divergence)


@pytest.mark.parametrize("order", [0.5, 1, 1.25, 2, 4])
@pytest.mark.parametrize("divergence", [0.1, 1, 4])
def test_no_family_beats_the_bound(order, divergence):
    bound = noise.variance_lower_bound(order, divergence)
    low, _ = noise.mean_norm_bounds("l2", order, divergence)
    for family, shape in [("gaussian", None), ("uniform", None), *SHAPES]:
        scale = noise.calibrated_scale(family, divergence, order, shape=shape)
        assert noise.noise_variance(family, scale, shape) > bound
        assert math.sqrt(noise.noise_variance(family, scale, shape)) > low


def test_dimension_and_norm():
    bound, gauss = noise.variance_lower_bound, noise.gaussian_variance
    for f in (bound, gauss):
        assert f(2, 1, dim=50) == pytest.approx(50 * f(2, 1))
        assert f(2, 1, dim=50, norm="linf") == pytest.approx(2500 * f(2, 1))
        assert f(2, 1, dim=50, norm=4) == pytest.approx(50**1.5 * f(2, 1))
        assert f(2, 1, dim=50, norm=2) == f(2, 1, dim=50, norm="l2")
    assert gauss(np.inf, 1) == np.inf


def test_mean_norms_by_hand_and_by_draws():
    t = math.tanh(noise.half_log_ratio(2, 1))
    low, high = noise.mean_norm_bounds("linf", 2, 1, dim=100, norm="linf")
    assert (low, high) == pytest.approx((10 * (1 - t) / (4 * t), 10 * math.sqrt(2 * math.log(200))))
    draws = 10 * np.random.default_rng(0).normal(size=(4000, 100))  # std sqrt(dim order / (2 divergence))
    assert low < np.abs(draws).max(1).mean() < high
    low, high = noise.mean_norm_bounds("l2", 2, 1, dim=100)
    assert (low, high) == pytest.approx((10 * (1 - t) / (4 * t), 10))
    assert noise.mean_norm_bounds("linf", 2, 1, dim=100)[0] == pytest.approx((1 - t) / (4 * t))


# Families ----------------------------------------------------------------------------------------------------------
def log_density(family, shape):
    mp = mpmath.mp
    return {
        "laplace": lambda y: -abs(y) - mp.log(2), "logistic": lambda y: -abs(y) - 2 * mp.log1p(mp.exp(-abs(y))),
        "student": lambda y: mp.loggamma((shape + 1) / 2) - mp.loggamma(shape / 2) - mp.log(shape * mp.pi) / 2
        - (shape + 1) / 2 * mp.log1p(y * y / shape),
        "generalised_normal": lambda y: -(abs(y) ** shape) - mp.log(2 * mp.gamma(1 + 1 / shape)),
    }[family]


@pytest.mark.parametrize("family, shape", SHAPES)
@pytest.mark.parametrize("order, lag", [(0.3, 2.0), (1, 0.3), (2, 1.1), (4, 0.3)])
def test_divergences_against_mpmath(family, shape, order, lag):
    mp = mpmath.mp
    with mpmath.workdps(25):
        f, order_, lag_ = log_density(family, shape and mp.mpf(shape)), mp.mpf(order), mp.mpf(lag)
        points = [-mp.inf, -30, -8, -3, -1, 0, lag_ / 2, lag_, *(lag_ + c for c in (1, 3, 8, 30)), mp.inf]
        if order == 1:
            want = mp.quad(lambda y: mp.exp(f(y)) * (f(y) - f(y - lag_)), points)
        else:
            want = mp.log(mp.quad(lambda y: mp.exp(order_ * f(y) + (1 - order_) * f(y - lag_)), points)) / (order_ - 1)
    value = noise.shifted_divergence(family, 3 * lag, order, scale=3.0, shape=shape)
    assert value == pytest.approx(float(want), rel=1e-10)


@pytest.mark.parametrize("lag", [1e-4, 0.3, 1, 7, 40])
def test_laplace_in_closed_form(lag):
    for order in (0.3, 0.7, 1.5, 2, 9):  # Mironov 2017
        first, second = order * math.exp((order - 1) * lag), (order - 1) * math.exp(-order * lag)
        want = math.log((first + second) / (2 * order - 1)) / (order - 1)
        assert noise.shifted_divergence("laplace", lag, order) == pytest.approx(want, rel=1e-10, abs=1e-13)
    assert noise.shifted_divergence("laplace", lag, 1) == pytest.approx(lag + math.expm1(-lag), rel=1e-11)


def test_shape_two_is_gaussian_and_many_degrees_of_freedom_too():
    for order in (0.3, 1, 3):
        gauss = noise.shifted_divergence("gaussian", 0.7, order)
        assert gauss == pytest.approx(order * 0.49 / 2)
        for family, scale, shape in (("generalised_normal", math.sqrt(2), 2), ("student", 1, 1000)):
            value = noise.shifted_divergence(family, -0.7, order, scale, shape)
            assert value == pytest.approx(gauss, rel=1e-11 if shape == 2 else 1e-2)


def test_infinite_and_edge_cases():
    divergence = noise.shifted_divergence
    assert divergence("uniform", 0.5, 0.5) == pytest.approx(-2 * math.log(0.75))
    assert divergence("uniform", 1e-9, 1) == divergence("uniform", 3, 0.5) == np.inf
    assert divergence("gaussian", 1, np.inf) == np.inf
    assert divergence("laplace", 0.0, 2) == 0
    for family, shape, want in (("laplace", None, 2), ("logistic", None, 2), ("generalised_normal", 0.5, 2**0.5),
                                ("generalised_normal", 2, np.inf), ("student", 3, 4 * math.asinh(2 / 12**0.5))):
        assert divergence(family, 2, np.inf, shape=shape) == pytest.approx(want)
        if want < np.inf:
            assert divergence(family, 2, 3e3, shape=shape) == pytest.approx(want, rel=0.02)
    assert noise.calibrated_scale("uniform", 1, 2) == np.inf
    assert noise.noise_variance("student", 1, 2) == np.inf


@pytest.mark.parametrize("family, shape", [("gaussian", None), *SHAPES])
def test_the_worst_shift_is_the_longest_and_calibration_returns_the_divergence(family, shape):
    for order in (0.5, 1, 3):
        values = [noise.shifted_divergence(family, lag, order, shape=shape) for lag in np.linspace(0.01, 3, 30)]
        assert (np.diff(values) > 0).all()
    scale = noise.calibrated_scale(family, 0.7, 1.5, radius=0.2, shape=shape)
    assert noise.shifted_divergence(family, 0.2, 1.5, scale, shape) == pytest.approx(0.7, rel=1e-9)


TABLE = {  # order 2, by an independent program
    0.1: [1.736, 1.070, 1.932, 1.215, 1.037, 1.063, 1.205, 1.565],
    1: [1.023, 0.867, 1.420, 0.951, 0.875, 0.860, 1.735, 3.059],
    4: [0.412, 0.507, 0.513, 0.456, 0.543, 0.592, 2.806, 6.472],
}


@pytest.mark.parametrize("divergence", TABLE)
def test_the_table_of_families(divergence):
    columns = [("laplace", None), ("logistic", None), ("student", 3), ("student", 5), ("student", 10),
               *(("generalised_normal", c) for c in (1.5, 3, 4))]
    got = [noise.relative_variance(family, divergence, 2, shape) for family, shape in columns]
    np.testing.assert_allclose(got, TABLE[divergence], atol=0.0011)


def test_product_noise():
    gauss = noise.product_noise(2, 150528, 1, 2)
    assert gauss.variance == pytest.approx(150528, rel=1e-10)
    for shape, ratio, price in ((3, 0.809, 1.13), (4, 0.764, 1.37), (5, 0.758, 1.65)):
        found = noise.product_noise(shape, 150528, 1, 2)
        assert found.mean_max / gauss.mean_max == pytest.approx(ratio, abs=6e-4)
        assert found.variance / gauss.variance == pytest.approx(price, abs=6e-3)
    low, high = noise.mean_norm_bounds("linf", 2, 1, dim=150528, norm="linf")
    assert low < found.mean_max and gauss.mean_max < high
    small = noise.product_noise(2, 3, 0.5, 2, radius=0.1)
    draws = math.sqrt(small.variance) * np.random.default_rng(0).normal(size=(200000, 3))
    assert np.abs(draws).max(1).mean() == pytest.approx(small.mean_max, rel=0.005)
    assert small.variance == pytest.approx(noise.gaussian_variance(2, 0.5, 0.1, 3, "linf") / 3)


# Optimal noise -----------------------------------------------------------------------------------------------------
# by an independent program
OPTIMA = {(2, 0.1): 0.9967, (2, 0.25): 0.9825, (2, 0.5): 0.9473, (2, 1): 0.8527, (2, 2): 0.6090, (2, 4): 0.2378,
          (1.25, 1): 1 / 1.059, (1.25, 4): 1 / 2.90, (4, 0.25): 1 / 1.081, (4, 2): 1 / 2.763}


@pytest.mark.parametrize("order, divergence", OPTIMA)
def test_optimal_noise_is_bracketed_and_as_measured_elsewhere(order, divergence):
    found = optimal_noise.optimal_noise_1d(divergence, order)
    assert found.relative_lower < found.relative < found.relative_lower + 0.003
    assert found.relative == pytest.approx(OPTIMA[order, divergence], abs=0.002)
    assert found.divergence == pytest.approx(divergence, rel=1e-5)
    bound = noise.variance_lower_bound(order, divergence) / noise.gaussian_variance(order, divergence)
    assert bound < found.relative_lower


@pytest.mark.parametrize("order", [0.5, 2])
def test_the_optimal_density_is_what_it_says(order):
    radius, cells = 0.2, 8
    found = optimal_noise.optimal_noise_1d(1.5, order, radius, cells=cells)
    p = np.exp(found.log_density) * radius / cells
    assert p.sum() == pytest.approx(1) and np.allclose(p, p[::-1])
    assert p @ (found.position**2 + (radius / cells) ** 2 / 12) == pytest.approx(found.variance, rel=1e-12)
    inner = slice(cells * 40, -cells * 40)  # without the tails, which fall for ever and hold no mass
    assert (np.diff(found.log_density[: cells * 40 : cells]) > 0.99).all()
    fine = np.repeat(found.log_density, 4)  # shifts by quarters of a cell too
    for lag in range(1, 4 * cells + 1):
        terms = order * fine[lag:] + (1 - order) * fine[:-lag]
        value = np.log(np.exp(terms).sum() * radius / cells / 4) / (order - 1)
        assert value <= found.divergence * (1 + 1e-9)
    assert p[inner].sum() > 1 - 1e-6


# by an independent program, with wider shells
SPHERES = {(2, 1): 0.889, (8, 1): 0.950, (64, 1): 0.995, (2, 2): 0.735, (8, 2): 0.873, (64, 2): 0.978}


@pytest.mark.parametrize("dim, divergence", SPHERES)
def test_dimension_closes_the_gap(dim, divergence):
    found = optimal_noise.optimal_noise_spherical(dim, divergence, shells=60)
    assert SPHERES[dim, divergence] - 0.006 < found.relative < SPHERES[dim, divergence]  # which shells made larger
    assert found.divergence == pytest.approx(divergence, rel=1e-4)
    assert found.relative > noise.variance_lower_bound(2, divergence) / noise.gaussian_variance(2, divergence)


def test_a_spherical_optimum_by_monte_carlo():
    # an importance-weighted estimate knows nothing of shells meeting shells: sum p^2 / q = E_p p / q
    found, dim = optimal_noise.optimal_noise_spherical(4, 1, shells=60), 4
    width = 1.02 * noise.gaussian_variance(2, 1)
    y = math.sqrt(width) * np.random.default_rng(0).normal(size=(400000, dim))

    def factor(y):
        r = np.linalg.norm(y, axis=1)
        return found.log_density[np.abs(r[:, None] - found.position).argmin(1)]

    weight = np.exp(factor(y))
    assert weight.mean() == pytest.approx(1, abs=0.005)
    assert (weight * (y**2).sum(1)).mean() == pytest.approx(found.variance, rel=0.01)
    moved = y - [1, 0, 0, 0]
    log_ratio = factor(y) - factor(moved) + ((moved**2).sum(1) - (y**2).sum(1)) / (2 * width)
    assert math.log((weight * np.exp(log_ratio)).mean()) == pytest.approx(found.divergence, abs=0.05)


# Refusals ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("call, message", [
    (lambda: noise.variance_lower_bound(0, 1), r"order=0, wanted a number in \(0, inf\]"),
    (lambda: noise.variance_lower_bound(2, 0), "divergence=0, wanted a number in"),
    (lambda: noise.variance_lower_bound(2, 1, -1), "radius=-1"),
    (lambda: noise.variance_lower_bound(2, 1, dim=0), "dim=0, wanted an integer >= 1"),
    (lambda: noise.gaussian_variance(2, 1, dim=2.5), "dim=2.5"), (lambda: noise.product_noise(3, 0, 1, 2), "dim=0"),
    (lambda: noise.gaussian_variance(2, 1, norm="linf"), "norm='linf' without dim; give the dimension"),
    (lambda: noise.gaussian_variance(2, 1, dim=2, norm="l1"), "norm='l1', wanted 'l2', 'linf' or a number p >= 2"),
    (lambda: noise.mean_norm_bounds("l1", 2, 1), "unknown norm of the noise that is averaged 'l1', known: l2, linf"),
    (lambda: noise.shifted_divergence("cauchy", 1, 2), "unknown family 'cauchy', known: gaussian, uniform, laplace"),
    (lambda: noise.shifted_divergence("student", 1, 2), "shape=None, wanted a number in .* degrees of freedom"),
    (lambda: noise.shifted_divergence("laplace", 1, 2, shape=3), "shape=3 for laplace, which has none"),
    (lambda: noise.shifted_divergence("laplace", np.nan, 2), "shift=nan, wanted a number in"),
    (lambda: noise.shifted_divergence("laplace", 1, 2, scale=0), "scale=0, wanted a number in"),
    (lambda: optimal_noise.optimal_noise_1d(1, 1), "order=1, wanted a finite one at least 0.001 from 1"),
    (lambda: optimal_noise.optimal_noise_1d(1, np.inf), "order=inf"),
    (lambda: optimal_noise.optimal_noise_spherical(1, 1), "dim=1, wanted at least 2; in one dimension take"),
])
def test_refusals_name_the_mend(call, message):
    with pytest.raises(ValueError, match=message):
        call()
