"""Certified radii: linear programs, explicit maps that break just above them, published tables, bounds from draws."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import theory as oracle
from oracles.golden import theory as golden
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from fvit.theory.cdf_radii import cdf_rho, pairwise_rho, shifted_mean_bounds
from fvit.theory.divergences import breaking_divergence, pooled_divergence, renyi_divergence, tokens_to_break
from fvit.theory.radii import (
    certified_overlap,
    certified_radius,
    coordinate_rho,
    prediction_radius,
    renyi_rho,
    required_sigma,
    sharp_rho,
    worst_prediction_divergence,
)

pytestmark = pytest.mark.filterwarnings("error")  # a valid call prints no warning
W6 = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]
CERTIFICATES = ("sharp", "coordinate", "renyi", "pooled")
FIRST, SECOND = oracle.DIRECTIONS


def beta_for(k, k0):
    """The beta at which exactly k0 lost tokens break."""
    return Fraction(int(k - k0 + 1), int(k))


# Golden values --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, certificate", [("sharp_radius", "sharp"), ("renyi_radius", "renyi")])
def test_golden(name, certificate):
    for item in golden(name):
        given = item["inputs"]
        row = given["w"], given["k"], given["beta"]
        value = certified_radius(*row, given["sigma"], certificate=certificate)
        assert value == pytest.approx(item["value"], abs=1e-8), item["name"]
        if certificate == "renyi":
            best, _ = oracle.best_order(lambda o, d, row=row: breaking_divergence(*row, o, d))
            assert best == pytest.approx(item["s_star"], abs=1e-3)  # the maximum is flat


def test_golden_of_the_second_counterexample():
    (item,) = golden("sharp_radius_token_S07")
    given = item["inputs"]
    for certificate, name in (("pooled", "recalled_radius_alpha8"), ("renyi", "correct_renyi_radius_alpha8")):
        value = certified_radius(given["w"], given["k"], given["beta"], 1, certificate=certificate, order=8)
        assert value == pytest.approx(item[name], abs=1e-8)


# Oracles --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["flat", "spiky", "tied", "zeros"])
def test_sharp_is_the_radius_of_the_linear_program_over_all_pairs_and_sets(kind):
    rng, finite = np.random.default_rng(["flat", "spiky", "tied", "zeros"].index(kind)), 0
    for _ in range(25):
        n = rng.integers(2, 6)
        k = rng.integers(1, n)
        k0 = rng.integers(1, min(k, n - k) + 1)
        w = oracle.random_weights(rng, n, kind)
        wanted = oracle.sharp_radius(w, k, k0)
        value = min(certified_radius(w, k, beta_for(k, k0), 1.0), 3.0)
        assert value == pytest.approx(wanted, abs=1e-7), (w.tolist(), k, k0)
        finite += 0 < wanted < 3
    assert finite >= 5


def test_explicit_maps_break_just_above_the_sharp_radius_and_none_below():
    # the converse of Theorem 3 with maps whose shifted means are differences of the normal cdf
    rng = np.random.default_rng(5)
    for _ in range(30):
        n = rng.integers(3, 6)
        k = rng.integers(1, n)
        k0 = rng.integers(1, min(k, n - k) + 1)
        w = oracle.random_weights(rng, n, rng.choice(["flat", "spiky"]))
        rho, pairs = certified_radius(w, k, beta_for(k, k0), 1.0), oracle.index_pairs(w, k, k0)
        if rho > 3:
            continue
        assert min(oracle.gap_over_maps(w, a, b, rho * (1 - 1e-6))[0] for a, b in pairs) > 0
        gap, q = min((oracle.gap_over_maps(w, a, b, rho * (1 + 1e-6)) for a, b in pairs), key=lambda found: found[0])
        assert gap < 0 and q.sum() == pytest.approx(1)
        top = set(np.argsort(-w)[:k])
        assert all(Fraction(len(top & other), int(k)) < beta_for(k, k0) for other in oracle.top_sets(q, k))


def test_renyi_is_the_best_order_of_the_brute_force_minimum():
    rng = np.random.default_rng(6)
    for kind, n, k, k0 in (("flat", 6, 3, 2), ("spiky", 5, 2, 2)):
        w = oracle.random_weights(rng, n, kind)
        _, best = oracle.best_order(lambda o, d, w=w, k=k, k0=k0: oracle.least_divergence(w, k, k0, o, d), points=13)
        value = certified_radius(w, k, beta_for(k, k0), 1.0, certificate="renyi")
        assert value == pytest.approx(np.sqrt(2 * best), abs=1e-6)


@pytest.mark.parametrize("certificate, divergence, orders", [
    ("renyi", breaking_divergence, (0.5, 1, 2, 8)), ("pooled", pooled_divergence, (1.5, 2, 8)),
])  # fmt: skip
def test_the_certificates_of_a_fixed_order_are_the_divergence_over_that_order(certificate, divergence, orders):
    for order in orders:
        wanted = 0.3 * np.sqrt(2 * divergence(W6, 3, "1/3", order) / order)
        value = certified_radius(W6, 3, "1/3", 0.3, certificate=certificate, order=order)
        assert value == pytest.approx(wanted, rel=1e-12)
        assert certified_radius(W6, 3, "1/3", 0.3, certificate=certificate) >= wanted * (1 - 1e-9)


def test_coordinate_by_hand_and_with_a_known_range():
    w, sigma = [0.35, 0.25, 0.2, 0.12, 0.08], 0.5
    wanted = {1: ndtri(0.25) - ndtri(0.2), 2: ndtri(0.35) - ndtri(0.12)}  # w_(k-k0+1) against w_(k+k0)
    for k0, value in wanted.items():
        radius = certified_radius(w, 2, beta_for(2, k0), sigma, certificate="coordinate")
        assert radius == pytest.approx(sigma * value / 2, abs=1e-9)
    assert certified_radius(w, 2, 1, sigma) == pytest.approx(sigma * wanted[1] / 2, abs=1e-9)  # k0 = 1: it is sharp
    # Z_i <= 0.4 almost surely: Z_i / 0.4 is a test, so the same certificate holds with w / 0.4
    wanted = (ndtri(0.3 / 0.4) - ndtri(0.1 / 0.4)) / 2
    assert coordinate_rho([0.3, 0.25], [0.2, 0.1], high=0.4) == pytest.approx(wanted, abs=1e-9)


# Counterexamples of docs/theory.md, section 1.6, with exact integrals -------------------------------------------------
# w, k, beta, order, direction, tokens by interval of g; recalled, correct and sharp radius; rho and w' there
COUNTEREXAMPLES = {
    "A": ([0.31, 0.31, 0.30, 0.08], 2, "1/2", 4, SECOND, [(0, 1), (2,), (3,)],
          (0.58935, 0.47051, 0.56156), 0.5755, [0.1968, 0.1968, 0.4030, 0.2034]),
    "B": ([0.17, 0.108, 0.108, 0.108, 0.107, 0.107, 0.107, 0.107, 0.078], 4, "1/4", 8, FIRST,
          [(0,), (1, 2, 3), (8,), (4, 5, 6, 7)],
          (0.19884, 0.16914, 0.19139), 0.1951, [0.1252, *[0.0972] * 3, *[0.1264] * 4, 0.0778]),
}  # fmt: skip


def shifted(w, groups, rho):
    """Mean after a shift of rho sigma of the map that shares its mass equally within the group of g's interval."""
    w = np.asarray(w)
    masses = oracle.shifted_interval_map(np.array([w[list(group)].sum() for group in groups]), range(len(groups)), rho)
    q = np.zeros(len(w))
    for group, mass in zip(groups, masses, strict=True):
        q[list(group)] = mass / len(group)
    return q


@pytest.mark.parametrize("name", COUNTEREXAMPLES)
def test_the_recalled_radius_over_claims_and_the_map_breaks_from_the_sharp_one_on(name):
    w, k, beta, order, direction, groups, (recalled, correct, sharp), rho, attacked = COUNTEREXAMPLES[name]
    for function, radius in ((pooled_divergence, recalled), (breaking_divergence, correct)):
        assert np.sqrt(2 * function(w, k, beta, order, direction) / order) == pytest.approx(radius, abs=5e-6)
    assert certified_radius(w, k, beta, 1) == pytest.approx(sharp, abs=5e-6)
    np.testing.assert_allclose(shifted(w, groups, 0), w, atol=1e-12)
    q = shifted(w, groups, rho)
    np.testing.assert_allclose(q, attacked, atol=5e-5)
    assert max(q[:k]) < min(np.sort(q[k:])[::-1][:k]) and sharp < rho < recalled  # the whole top set is lost
    sharp = certified_radius(w, k, beta, 1)
    for rho in [*np.linspace(0, sharp, 20)[:-1], sharp * (1 - 1e-9), sharp * (1 + 1e-9), sharp * 1.05]:
        q, top = shifted(w, groups, rho), set(range(k))
        kept = max(len(top & other) for other in oracle.top_sets(q.round(14), k)) / k
        assert (kept >= Fraction(beta)) == (rho < sharp)


# Tables of docs/theory.md ---------------------------------------------------------------------------------------------
# profile, n, k, beta, k0, recalled and correct at order 2, sup of first and of second order, Renyi, s*, coordinate,
# sharp, sharp / Renyi
TABLE = """
logit .3|64|10|.8|3|.0118|.0118|.0118|.0118|.0118|6.4|.0205|.0205|1.73
logit 1|64|10|.8|3|.0455|.0455|.0455|.0453|.0455|2.3|.0716|.0716|1.58
logit 2|64|10|.8|3|.0785|.0785|.0786|.0781|.0786|1.4|.1367|.1367|1.74
object|64|10|.8|3|.4085|.4085|.5032|.5617|.5640|.14|.6466|.7930|1.41
logit 1|196|20|.8|5|.0279|.0279|.0279|.0278|.0279|3.0|.0497|.0497|1.78
logit 2|196|20|.8|5|.0526|.0526|.0526|.0524|.0526|1.7|.0979|.0979|1.86
zipf|196|20|.8|5|.0417|.0417|.0417|.0414|.0417|2.3|.0821|.0821|1.97
object|196|20|.8|5|.3831|.3831|.4797|.5422|.5463|.17|.6582|.8468|1.55
logit 2|196|20|.5|11|.1926|.1914|.1919|.1881|.1919|1.5|.2470|.2632|1.37
object|196|20|.5|11|.5632|.5632|.7215|.8612|.8622|.07|.6739|1.0598|1.23
logit 1|196|20|1|1|.0021|.0021|.0021|.0021|.0021|.23|.0054|.0054|2.55
object|196|20|1|1|.1726|.1726|.2129|.2334|.2365|.23|.6491|.6491|2.75
logit 1|256|50|.8|11|.0320|.0320|.0320|.0319|.0320|2.2|.0526|.0547|1.71
object|256|50|.8|11|.3431|.3431|.4143|.4522|.4542|.17|.4850|.6856|1.51
logit 2|256|50|.1|46|.7322|.6945|.7292|.6871|.7292|1.0|.6496|.8162|1.12
"""


@pytest.mark.parametrize("row", TABLE.split("\n")[1:-1])
def test_magnitudes_to_the_digits_shown(row):
    name, n, k, beta, k0, *shown = row.split("|")
    n, k = int(n), int(k)
    w = oracle.profile(name, n, k)
    assert tokens_to_break(k, beta) == int(k0)

    def radius(certificate, order=None):
        return certified_radius(w, k, beta, 1.0, certificate=certificate, order=order)

    def divergence(order, direction):
        return breaking_divergence(w, k, beta, order, direction)

    first, second = (
        np.sqrt(2 * oracle.best_order(divergence, low, high)[1]) for low, high in ((1 + 1e-9, 12), (-12, -1e-9))
    )
    s_star, best = oracle.best_order(divergence)
    values = [radius("pooled", 2), radius("renyi", 2), first, second, radius("renyi"), s_star, radius("coordinate"),
              radius("sharp"), radius("sharp") / radius("renyi")]  # fmt: skip
    assert radius("renyi") == pytest.approx(np.sqrt(2 * best), abs=1e-8)
    for value, text in zip(values, shown, strict=True):
        decimals = len(text.split(".")[1])
        assert abs(value - float(text)) <= 0.5001 * 10.0**-decimals, (value, text)


# Orders among certificates, monotonicity ------------------------------------------------------------------------------
cases = st.tuples(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1)), min_size=2, max_size=12).filter(lambda row: sum(row) > 1e-3),
    st.integers(1, 12), st.fractions(0, 1, max_denominator=12),
).map(lambda case: (np.array(case[0]) / sum(case[0]), min(case[1], len(case[0])), case[2]))  # fmt: skip
checked = settings(max_examples=150, deadline=None, derandomize=True)


def at_least(high, low, slack=1e-8):
    return high >= low - slack * (1 + low) if np.isfinite(low) else high == np.inf


@checked
@given(cases, st.floats(0.05, 40))
def test_sharp_dominates_renyi_and_coordinate(case, order):
    w, k, beta = case
    sharp, coordinate, renyi = (certified_radius(w, k, beta, 1.0, certificate=c) for c in CERTIFICATES[:3])
    single = certified_radius(w, k, beta, 1.0, certificate="renyi", order=order)
    assert at_least(sharp, renyi) and at_least(sharp, coordinate) and at_least(renyi, single) and single >= 0
    if tokens_to_break(k, beta) == 1:
        assert coordinate == pytest.approx(sharp, abs=1e-8)
    if order > 1:
        assert at_least(certified_radius(w, k, beta, 1.0, certificate="pooled", order=order), single)


@checked
@given(cases, st.sampled_from(CERTIFICATES[:3]), st.floats(0.01, 10))
def test_a_lower_overlap_has_a_larger_radius_and_sigma_scales_it(case, certificate, sigma):
    w, k, _ = case
    values = [certified_radius(w, k, Fraction(m, k), sigma, certificate=certificate) for m in range(k, -1, -1)]
    assert all(v >= 0 for v in values) and values[-1] == np.inf
    assert all(at_least(high, low) for low, high in itertools.pairwise(values))
    ones = [certified_radius(w, k, Fraction(m, k), 1.0, certificate=certificate) for m in range(k, -1, -1)]
    np.testing.assert_allclose(values, sigma * np.array(ones), rtol=1e-9)


contested = st.integers(1, 5).flatmap(lambda k0: st.tuples(*[
    st.lists(st.floats(1e-5, 0.9 / k0), min_size=k0, max_size=k0) for _ in range(2)]))  # fmt: skip


@settings(checked, max_examples=80)
@given(contested, st.integers(0, 4), st.floats(0, 0.1), st.booleans())
def test_the_contested_tokens_up_in_a_and_down_in_b(tokens, index, step, in_a):
    a, b = (np.array(values) for values in tokens)
    moved = step * (np.arange(len(a)) == index % len(a))
    better_a, better_b = (np.minimum(a + moved, 0.99), b) if in_a else (a, np.maximum(b - moved, 1e-7))
    for rho in (sharp_rho, renyi_rho, coordinate_rho):
        before, after = rho(a, b), rho(better_a, better_b)
        assert before >= 0 and after >= before - 1e-8
        assert rho(a[::-1], b[::-1]) == pytest.approx(before, abs=1e-10)  # any order inside
        assert max(a) > min(b) or before == 0
    assert at_least(sharp_rho(a, b), renyi_rho(a, b)) and at_least(sharp_rho(a, b), coordinate_rho(a, b))


@settings(checked, max_examples=25)
@given(cases)
def test_certified_overlap_is_where_the_certified_radius_says(case):
    w, k = case[0], min(case[1], 5)
    for certificate in CERTIFICATES[:3]:
        radii = {m: certified_radius(w, k, Fraction(m, k), 0.5, certificate=certificate) for m in range(1, k + 1)}
        for radius in (r for r in radii.values() if 1e-6 < r < 3):
            for factor in (1 - 1e-6, 1 + 1e-6):
                wanted = max([m for m, r in radii.items() if radius * factor < r], default=0)
                value = certified_overlap(w, k, 0.5, radius * factor, certificate=certificate)
                assert value == pytest.approx(wanted / k, abs=1e-12)


def test_certificates_of_the_contested_tokens_are_those_of_the_row():
    rng = np.random.default_rng(7)
    w = np.sort(rng.dirichlet(np.ones(9), size=6), axis=1)[:, ::-1]
    a, b = w[:, 2:4], w[:, 4:6]  # k = 4, k0 = 2
    for name, rho in (("sharp", sharp_rho), ("renyi", renyi_rho), ("coordinate", coordinate_rho)):
        values = rho(a, b)
        assert values.shape == (6,) and values.dtype == np.float64 and np.ndim(rho(a[0], b[0])) == 0
        np.testing.assert_allclose(values, certified_radius(w, 4, "3/4", 1.0, certificate=name), rtol=1e-9)
        np.testing.assert_allclose(values, [rho(x, y) for x, y in zip(a, b, strict=True)], rtol=1e-12)


def test_bounds_as_contested_tokens():
    # Theorem 6: upper bounds may sum to more than 1, lower ones may be 0 or lie below them; then nothing is certified
    for rho in (sharp_rho, renyi_rho, coordinate_rho):
        assert rho([0.1, 0.2], [0.3, 0.25]) == rho([0.0, 0.0], [0.7, 0.6]) == rho([0.2, 0.2], [0.2, 0.2]) == 0
        assert 0 <= rho([0.0, 0.3], [0.9, 0.2]) < np.inf and 0 <= rho([0.9, 0.05], [1.0, 1.0]) < np.inf
    assert sharp_rho([0.3], [0.0]) == np.inf == coordinate_rho([0.3], [0.0])
    assert renyi_rho([0.3], [0.0]) < np.inf  # the order of arguments does not see a token that stays at 0


@pytest.mark.parametrize("a, b", [
    ([0.192, 0.005], [0.397, 0.012]), ([0.25, 0.1], [0.3, 0.05]), ([0.1, 0.3], [0.05, 0.2]), ([0.3, 0.01], [0.2, 0.02]),
])  # fmt: skip
def test_contested_tokens_that_overlap_against_the_oracles(a, b):
    # bounds need not keep their order; both theorems hold for any A and B, whatever is larger elsewhere
    w, pair = np.array([*a, *b, 1 - sum(a) - sum(b)]), ([0, 1], [2, 3])
    _, best = oracle.best_order(lambda o, d: oracle.least_over_pairs(w, [pair], o, d), points=13)
    assert renyi_rho(a, b) == pytest.approx(np.sqrt(2 * best), abs=1e-6)
    root = brentq(lambda rho: oracle.gap_over_reachable(w, *pair, rho)[0], 0, 3, xtol=1e-10)
    assert sharp_rho(a, b) == pytest.approx(root, abs=1e-7)


# Batches, norms, edges ------------------------------------------------------------------------------------------------
def test_rows_of_a_batch_are_independent_and_the_order_of_tokens_does_not_matter():
    rng = np.random.default_rng(8)
    w = rng.dirichlet(np.ones(9), size=4)
    w[2], w[3] = 1 / 9, np.eye(9)[0]  # all tied; one-hot
    shuffled = w[:, rng.permutation(9)]
    for certificate in CERTIFICATES:
        for call in (lambda w, c=certificate: certified_radius(w, 4, "1/2", 0.5, certificate=c),
                     lambda w, c=certificate: certified_overlap(w, 4, 0.5, 0.01, certificate=c),
                     lambda w: required_sigma(w, 4, "1/2", 0.5)):  # fmt: skip
            values = call(w)
            assert isinstance(values, np.ndarray) and values.shape == (4,) and values.dtype == np.float64
            one_by_one = [call(row) for row in w]
            assert all(np.ndim(v) == 0 and np.asarray(v).dtype == np.float64 for v in one_by_one)
            np.testing.assert_allclose(values, one_by_one, rtol=1e-12)
            np.testing.assert_allclose(values, call(shuffled), rtol=1e-8, atol=1e-12)
            assert call(w[:0]).shape == (0,)
    radii = np.array([0.001, 0.01, 0.1, 1.0])
    one_by_one = [certified_overlap(row, 4, 0.5, radius) for row, radius in zip(w, radii, strict=True)]
    np.testing.assert_array_equal(certified_overlap(w, 4, 0.5, radii), one_by_one)


@pytest.mark.parametrize("norm, dim, factor", [
    ("l2", None, 1), ("l2", 12, 1), (2, None, 1), ("l1", None, 1), (1, None, 1), (1.5, 12, 1),
    ("linf", 150528, 150528**-0.5), (np.inf, 12, 12**-0.5), (4, 16, 0.5), (3, 64, 0.5), ("linf", 1, 1),
])  # fmt: skip
def test_norms(norm, dim, factor):
    # |delta|_2 <= dim^(1/2 - 1/p) |delta|_p above p = 2, and |delta|_2 <= |delta|_p below
    for certificate in CERTIFICATES:
        l2 = certified_radius(W6, 3, "2/3", 0.5, certificate=certificate)
        value = certified_radius(W6, 3, "2/3", 0.5, norm=norm, dim=dim, certificate=certificate)
        assert value == pytest.approx(factor * l2, rel=1e-12)
    for radius in (0.01, 0.1, 0.2, 0.5):
        value = certified_overlap(W6, 3, 0.5, radius * factor, norm=norm, dim=dim)
        assert value == certified_overlap(W6, 3, 0.5, radius)
    sigma = required_sigma(W6, 3, "2/3", 0.5)
    assert required_sigma(W6, 3, "2/3", 0.5, norm=norm, dim=dim) == pytest.approx(sigma / factor, rel=1e-12)


@pytest.mark.parametrize("w, k, beta", [
    ([0.4, 0.3, 0.2, 0.1], 4, 1), ([0.4, 0.3, 0.2, 0.1], 3, "2/3"), ([0.4, 0.3, 0.2, 0.1], 2, 0), ([1.0], 1, 1.0),
])  # fmt: skip
def test_infinite_where_nothing_can_break(w, k, beta):
    for certificate in CERTIFICATES:
        assert certified_radius(w, k, beta, 0.5, certificate=certificate) == np.inf
        assert certified_radius([w, w], k, beta, 0.5, certificate=certificate).tolist() == [np.inf] * 2
        assert certified_radius(w, k, beta, 0.5, norm="linf", dim=9, certificate=certificate) == np.inf
    assert required_sigma(w, k, beta, 3.0) == 0 and required_sigma(w, k, beta, 3.0, order=2) == 0
    assert required_sigma(w, k, beta, 3.0, order=2, gamma=0.5) == pytest.approx(3 * np.sqrt(2))


def test_what_cannot_be_lost_is_always_kept():
    w = [0.4, 0.3, 0.2, 0.06, 0.04]
    for certificate in CERTIFICATES:
        kept = [certified_overlap(w, k, 0.5, 1e9, certificate=certificate) for k in (5, 4, 3, 2)]
        assert kept == pytest.approx([1, 3 / 4, 1 / 3, 0]) and certified_overlap(w, 2, 0.5, 0) == 1


def test_ties_and_zeros():
    w = [0.4, 0.25, 0.25, 0.1]
    for certificate in CERTIFICATES:
        assert certified_radius(w, 2, 1, 0.5, certificate=certificate) == pytest.approx(0, abs=1e-7)
        assert certified_radius(w, 2, "1/2", 0.5, certificate=certificate) > 0.01
        assert certified_radius([0.25] * 4, 2, "1/2", 0.5, certificate=certificate) == pytest.approx(0, abs=1e-7)
    for k, beta in ((3, 1), (2, "1/2"), (3, "2/3")):  # a token without mass among those needed stays without
        assert certified_radius([0.4, 0.3, 0.3, 0.0, 0.0], k, beta, 0.5) == np.inf
    assert 0 < certified_radius([0.4, 0.3, 0.3, 0.0], 2, "1/2", 0.5, certificate="renyi") < np.inf
    assert required_sigma(w, 2, 1, 0.1) == required_sigma(w, 2, 1, 0.1, order=2) == np.inf


@pytest.mark.parametrize("rest", [1e-15, 1e-18, 1e-30, 1e-100, 1e-300])
def test_a_row_that_is_one_up_to_rounding(rest):
    # k = n - 1 = 1: the exact sharp radius is -Phi^-1(rest), which is finite: rounding may only be on the safe side
    for certificate in CERTIFICATES[:3]:
        value = certified_radius([1.0, rest], 1, 1, 1.0, certificate=certificate)
        assert 1 < value <= -ndtri(rest) * (1 + 1e-2), certificate


def test_required_sigma_is_the_inverse_of_the_renyi_radius():
    rng = np.random.default_rng(9)
    for w in rng.dirichlet(np.ones(8), size=4):
        for order in (None, 0.5, 1, 2, 6):
            sigma = required_sigma(w, 4, "1/2", 0.3, order=order)
            radius = certified_radius(w, 4, "1/2", sigma, certificate="renyi", order=order)
            assert radius == pytest.approx(0.3, rel=1e-9)
            assert order is None or sigma >= required_sigma(w, 4, "1/2", 0.3) * (1 - 1e-9)
            assert required_sigma(w, 4, "1/2", 0.0, order=order) == 0
    assert prediction_radius(4, 0.08, 0.25) == pytest.approx(0.25 * 0.2)
    least = breaking_divergence(W6, 3, "2/3", 2)  # about 0.13: requirement (1) binds above, (2) below
    for gamma in (1e-3, 0.01, 0.1, 0.2, 5.0):
        wanted = 0.3 * np.sqrt(2 / (2 * min(gamma, least)))
        assert required_sigma(W6, 3, "2/3", 0.3, order=2, gamma=gamma) == pytest.approx(wanted, rel=1e-12)
        assert prediction_radius(2, gamma, wanted) >= 0.3 * (1 - 1e-12)
        linf = required_sigma(W6, 3, "2/3", 0.3, order=2, gamma=gamma, norm="linf", dim=100)
        assert linf == pytest.approx(10 * wanted, rel=1e-12)


BASE = {"w": W6, "k": 3, "beta": "2/3", "sigma": 0.5}
OVERLAP = {"w": W6, "k": 3, "sigma": 0.5, "radius": 0.1}
SIGMA = {"w": W6, "k": 3, "beta": "2/3", "radius": 0.1}
SHARED = [
    ({"k": 7}, "k.*7"), ({"w": [0.5, 0.4]}, "w.* sums? to"), ({"norm": "l7x", "dim": 5}, "norm.*l7x"),
    ({"norm": 0.5, "dim": 5}, "norm.*0.5"), ({"norm": "linf"}, "dim"), ({"norm": 3}, "dim"),
    ({"norm": "linf", "dim": 0}, "dim.*0"), ({"norm": "linf", "dim": 2.5}, "dim.*2.5"),
]  # fmt: skip
OVERLAPS = [({"beta": beta}, f"beta.*{beta}") for beta in (1.5, "most")]
SIGMAS = [({"sigma": sigma}, f"sigma.*{sigma}") for sigma in (0, np.inf)]
NAMES = [({"certificate": "best"}, "best.*sharp")]
RADII = [({"radius": radius}, f"radius.*{radius}") for radius in (-1, np.nan)]


@pytest.mark.parametrize("function, base, change, message", [
    *[(certified_radius, BASE, *case) for case in [*SHARED, *OVERLAPS, *SIGMAS, *NAMES]],
    *[(certified_overlap, OVERLAP, *case) for case in [*SHARED, *SIGMAS, *NAMES, *RADII]],
    *[(required_sigma, SIGMA, *case) for case in [*SHARED, *OVERLAPS, *RADII]],
    (certified_radius, BASE, {"certificate": "renyi", "order": 0}, "order.*0"),
    (certified_radius, BASE, {"certificate": "pooled", "order": 1}, "order.*1"),
    (required_sigma, SIGMA, {"order": 0}, "order.*0"),
    (required_sigma, SIGMA, {"gamma": 0.1}, "gamma.*order|order.*gamma"),
    (required_sigma, SIGMA, {"order": 2, "gamma": 0}, "gamma.*0"),
    (certified_overlap, OVERLAP, {"radius": [0.1, 0.2]}, r"radius.*\(2,\)"),
    (certified_overlap, OVERLAP, {"w": [W6] * 3, "radius": [0.1, 0.2]}, r"radius.*\(2,\)"),
])  # fmt: skip
def test_refusals_name_the_mend(function, base, change, message):
    with pytest.raises(ValueError, match=message):
        function(**(base | change))


@pytest.mark.parametrize("rho", [sharp_rho, renyi_rho, coordinate_rho])
@pytest.mark.parametrize("a, b", [
    ([0.3, 0.2], [0.1]), ([[0.3]], [0.1, 0.1]), ([], []), ([np.nan], [0.1]), ([0.3], [-0.1]), ([1.3], [0.1]),
])  # fmt: skip
def test_contested_tokens_are_refused(rho, a, b):
    with pytest.raises(ValueError, match=r"\b[ab]\b"):
        rho(a, b)


# Theorem 5: bounds from the distribution ------------------------------------------------------------------------------
def lattice(rng, draws, tokens, cells=50):
    """Values on multiples of 1 / cells: the oracle's midpoint rule is then exact."""
    return rng.integers(0, cells + 1, size=(draws, tokens)) / cells


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.4])
def test_shifted_mean_bounds_are_the_integrals(margin):
    rng = np.random.default_rng(10)
    values = lattice(rng, 31, 6) * np.linspace(0.2, 1, 6).round(1)  # on multiples of 1 / 500
    for rho, (low, high) in itertools.product((0, 0.3, 2.0), ((0, 1), (-1, 2))):
        lower, upper = shifted_mean_bounds(values, rho, low, high, margin=margin)
        assert lower.shape == upper.shape == (6,) and lower.dtype == upper.dtype == np.float64
        wanted = [oracle.shifted_bounds(v, rho, low, high, margin, 500 * (high - low)) for v in values.T]
        np.testing.assert_allclose(np.stack([lower, upper], 1), wanted, atol=1e-12)


def test_shifted_mean_bounds_are_attained_by_monotone_functions_and_hold_for_others():
    # f constant on 20 cells of probability 1/20 along g: its draws are known exactly, its shifted means by the cdf
    rng = np.random.default_rng(11)
    levels = np.sort(rng.random((20, 7)), axis=0)
    edges = ndtri(np.linspace(0, 1, 21))
    shuffled = rng.permuted(levels, axis=0)
    for rho in (0.1, 0.7, 2.5):
        up, down = (np.diff(ndtr(edges - shift)) for shift in (rho, -rho))  # a shift of g to higher and lower values
        lower, upper = shifted_mean_bounds(levels, rho, 0.0, 1.0)
        np.testing.assert_allclose(upper, up @ levels, atol=1e-12)
        np.testing.assert_allclose(lower, down @ levels, atol=1e-12)
        assert ((lower < up @ shuffled) & (up @ shuffled < upper)).all()
        again = shifted_mean_bounds(shuffled, rho, 0.0, 1.0)
        np.testing.assert_allclose(again, (lower, upper), atol=1e-12)  # the order of the draws is not used


def test_the_margin_gives_the_stated_coverage():
    # 400 samples of 200 draws of f = Phi(g)^2, at level 0.05, against the true mean at -rho: without margin, a coin
    rng, rho, level = np.random.default_rng(12), 0.5, 0.05
    values = ndtr(rng.normal(size=(200, 400))) ** 2
    worst, best = (quad(lambda g, r=r: ndtr(g) ** 2 * norm.pdf(g - r), -9, 9)[0] for r in (-rho, rho))
    for margin, low, high in ((np.sqrt(np.log(1 / level) / 400), 0.0, level), (0.0, 0.3, 0.7)):
        lower, upper = shifted_mean_bounds(values, rho, 0.0, 1.0, margin=margin)
        assert low <= (lower > worst).mean() <= high and low <= (upper < best).mean() <= high


def test_votes_are_the_coordinate_formula():
    # (iv): with values 0 and 1 the m-th largest share inside meets the k0-th largest outside
    rng = np.random.default_rng(13)
    for _ in range(30):
        n, k = 8, rng.integers(1, 5)
        k0 = rng.integers(1, k + 1)
        shares = np.sort(rng.permutation(np.arange(1, 40))[:n])[::-1]
        values = np.stack([rng.permutation(np.arange(40) < share) for share in shares], 1).astype(float)
        for margin in (0.0, 0.02):
            inside, outside = shares[k - k0] / 40 - margin, shares[k + k0 - 1] / 40 + margin
            wanted = max(ndtri(max(inside, 0)) - ndtri(min(outside, 1)), 0) / 2
            value = cdf_rho(values, np.arange(k), beta_for(k, k0), margin=margin)
            assert value == pytest.approx(wanted, abs=1e-8)
            order = rng.permutation(n)
            where = np.argsort(order)[:k]  # of the tokens 0..k-1 after the shuffle
            assert cdf_rho(values[:, order], where, beta_for(k, k0), margin=margin) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("margin", [0.0, 0.03])
def test_cdf_and_pairwise_are_the_last_rho_their_statements_certify(margin):
    rng, positive = np.random.default_rng(14), 0
    for _ in range(12):
        k, n = rng.integers(1, 4), 6
        k0 = rng.integers(1, k + 1)
        values = np.round(np.clip(lattice(rng, 23, n) * 0.5 + np.linspace(0.5, 0, n).round(1), 0, 1) * 100) / 100
        top = np.argsort(-values.mean(0), kind="stable")[:k]
        beta = beta_for(k, k0)
        wanted = oracle.last_certified(
            lambda rho, v=values, t=top, k0=k0: oracle.cdf_certified(v, t, k0, rho, 0, 1, margin, 100))
        assert min(cdf_rho(values, top, beta, margin=margin), 8) == pytest.approx(wanted, abs=1e-8)
        wanted_pairs = oracle.last_certified(
            lambda rho, v=values, t=top, k0=k0: oracle.pairwise_certified(v, t, k0, rho, margin, 200), steps=30)
        assert min(pairwise_rho(values, top, beta, margin=margin), 8) == pytest.approx(wanted_pairs, abs=1e-7)
        positive += 0 < wanted < 8 and 0 < wanted_pairs < 8
    assert positive >= 5


def test_cdf_and_pairwise_hold_for_explicit_maps():
    # Z constant on 40 cells of probability 1/40 along g: draws and shifted means are exact
    rng, used = np.random.default_rng(15), 0
    edges = ndtri(np.linspace(0, 1, 41))
    for _ in range(40):
        n, k = 6, 3
        k0 = rng.integers(1, 4)
        trend = rng.normal(size=n) * np.linspace(-1, 1, 40)[:, None]  # so that moving along g matters
        values = np.exp(0.6 * trend + np.linspace(1, 0, n) + 0.4 * rng.normal(size=(40, n)))
        values /= values.sum(1, keepdims=True)
        top = np.argsort(-values.mean(0))[:k]
        for rho in (cdf_rho(values, top, beta_for(k, k0)), pairwise_rho(values, top, beta_for(k, k0))):
            for shift in np.array([-1, -0.5, 0.5, 1]) * min(rho, 5.0) * (1 - 1e-7):
                q = np.diff(ndtr(edges - shift)) @ values
                assert np.isin(np.argsort(-q)[:k], top).sum() > k - k0 or rho == 0
            used += 0 < rho < 5
    assert used > 30


VALUES = np.tile([0.6, 0.3, 0.06, 0.04], (9, 1))  # never anything else was seen: only a margin can make it finite


def test_cdf_and_pairwise_in_the_corners():
    for rho in (cdf_rho, pairwise_rho):
        assert 0 < rho(VALUES, [0, 1], 1, margin=0.01) < np.inf == rho(VALUES, [0, 1], 1)
        assert rho(VALUES, [2, 3], 1) == 0 and rho(VALUES, [2, 3], 1, margin=0.5) == 0  # the wrong top set
        assert rho(VALUES, [0, 1, 2, 3], 1) == rho(VALUES, [0, 1], 0) == rho(VALUES, [0, 1, 2], "2/3") == np.inf
        assert rho(np.full((5, 4), 0.25), [0, 1], 1) == 0 == np.ndim(rho(VALUES, np.array([0, 1]), "1/2"))
    # a smaller range gives a larger radius: Z <= 0.7 known beforehand
    spread = np.clip(VALUES + np.random.default_rng(16).normal(size=(9, 4)) * [0.05, 0.05, 0.03, 0.03], 0, 0.7)
    assert cdf_rho(spread, [0, 1], 1, high=0.7, margin=0.05) > cdf_rho(spread, [0, 1], 1, margin=0.05) > 0
    radii = [[rho(spread, [0, 1], 1, margin=m) for m in (0.0, 0.01, 0.1, 0.3)] for rho in (cdf_rho, pairwise_rho)]
    assert all(sorted(r, reverse=True) == r for r in radii)


@pytest.mark.parametrize("call, message", [
    (lambda: shifted_mean_bounds(VALUES, -0.1, 0, 1), "rho.*-0.1"),
    (lambda: shifted_mean_bounds(VALUES, 0.1, 0.1, 1), "0.1"),  # a value lies below low
    (lambda: shifted_mean_bounds(VALUES, 0.1, 0, 0.5), "0.5"),  # or above high
    (lambda: shifted_mean_bounds(VALUES, 0.1, 0, 1, margin=-0.1), "margin.*-0.1"),
    (lambda: shifted_mean_bounds(VALUES[:0], 0.1, 0, 1), r"values.*\(0, 4\)"),
    (lambda: prediction_radius(0, 0.1, 0.5), "order.*0"), (lambda: prediction_radius(2, -1, 0.5), "gamma.*-1"),
    (lambda: prediction_radius(2, 0.1, 0), "sigma.*0"),
    (lambda: worst_prediction_divergence([0.5, 0.4], 2, 0.5), "sums? to"),
    (lambda: worst_prediction_divergence(np.full(9, 1 / 9), 2, 0.5), "9.*8|8.*9"),
    (lambda: worst_prediction_divergence([0.5, 0.5], 2, -0.5), "rho.*-0.5"),
    (lambda: worst_prediction_divergence([0.5, 0.5], 2, 0.5, "sideways"), "sideways"),
    *[case for rho in (cdf_rho, pairwise_rho) for case in (
        (lambda rho=rho: rho(VALUES, [0, 4], 1), "top.*4"), (lambda rho=rho: rho(VALUES, [0, 0], 1), "top"),
        (lambda rho=rho: rho(VALUES, [], 1), "top|k=0"), (lambda rho=rho: rho(VALUES, [0, 1], 1.5), "beta.*1.5"),
        (lambda rho=rho: rho(VALUES[0], [0, 1], 1), r"values.*\(4,\)"),
        (lambda rho=rho: rho(VALUES * 2, [0, 1], 1), "1.2|values"),
    )],
])  # fmt: skip
def test_bounds_from_draws_and_predictions_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Prediction -----------------------------------------------------------------------------------------------------------
def test_two_classes_by_hand():
    for p, order, rho in itertools.product((0.5, 0.9), (0.5, 1, 2, 6), (0.1, 0.5, 2)):
        moved = [ndtr(ndtri(p) + shift) for shift in (rho, -rho)]
        pairs = np.array([[q, 1 - q] for q in moved])
        clean = np.broadcast_to([p, 1 - p], pairs.shape)
        first, second = renyi_divergence(clean, pairs, order).max(), renyi_divergence(pairs, clean, order).max()
        assert worst_prediction_divergence([p, 1 - p], order, rho) == pytest.approx(first, rel=1e-9)
        assert worst_prediction_divergence([p, 1 - p], order, rho, SECOND) == pytest.approx(second, rel=1e-9)


def test_the_worst_prediction_is_a_vertex_of_the_reachable_set():
    rng = np.random.default_rng(17)
    for c in (3, 4, 4):
        y, rho = rng.dirichlet(np.ones(c)), rng.choice([0.2, 0.8])
        vertices = oracle.prediction_vertices(y, rho)
        inside = rng.dirichlet(np.full(len(vertices), 0.1), size=200) @ vertices
        for order, direction in itertools.product((0.5, 1, 2, 4), oracle.DIRECTIONS):
            value = worst_prediction_divergence(y, order, rho, direction)

            def distance(q, y=y, order=order, direction=direction):
                y = np.broadcast_to(y, q.shape)
                return oracle.divergence(y, q, order) if direction == FIRST else oracle.divergence(q, y, order)

            assert value == pytest.approx(distance(vertices).max(), rel=1e-7)
            assert distance(inside).max() <= value * (1 + 1e-9) and value <= order * rho**2 / 2 * (1 + 1e-12)
    assert worst_prediction_divergence([0.5, 0.3, 0.2], 2, 0.0) == pytest.approx(0, abs=1e-12)
