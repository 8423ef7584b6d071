"""Intervals and one-sided bounds: exact answers, slow references, miss rates by simulation, values by hand."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from oracles.golden import theory as golden
from scipy import stats

from fvit.theory.bounds import dkw_margin, mean_bound, rate_bound
from fvit.theory.intervals import group_interval, interval_table, mean_interval, outcome_interval, rate_interval

pytestmark = pytest.mark.filterwarnings("error")
SIDES, METHODS = ("lower", "upper"), ("betting", "bernstein", "hoeffding")


def test_an_interval_says_what_it_rests_on():
    by_image, by_group = mean_interval([1.0, 2, 3, 6]), mean_interval([1.0, 2, 3, 6], list("aabc"))
    assert (by_image.n, by_image.n_groups, by_group.n, by_group.n_groups) == (4, None, 4, 3)
    assert (rate_interval(3, 8).n, mean_interval([1.0]).n) == (8, 1)
    value, low, high = by_group  # a tuple as any other
    assert value == 3 and low < 3 < high
    again = pickle.loads(pickle.dumps(by_group))
    assert again == by_group and (again.n, again.n_groups) == (4, 3)


def test_without_skew_it_is_students_interval_of_the_group_means():
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])  # G - 2 = 3 degrees of freedom
    half = stats.t.ppf(0.9, 3) * values.std(ddof=1) / np.sqrt(5)
    assert mean_interval(values, level=0.8) == pytest.approx((0.3, 0.3 - half, 0.3 + half))
    twice = np.repeat(values, 2)  # two equal images a photograph tell nothing new
    assert mean_interval(twice, [*"aabbccddee"], level=0.8) == pytest.approx((0.3, 0.3 - half, 0.3 + half))


def test_halls_transformation_of_either_end_is_the_quantile():
    values = np.random.default_rng(4).exponential(size=12)
    mean, *ends = mean_interval(values, level=0.9)
    skewness, n = stats.skew(values, bias=False), len(values)
    for end, q in zip(ends, stats.t.ppf([0.95, 0.05], n - 2), strict=True):
        t = (mean - end) / stats.sem(values)
        bent = t + skewness * t**2 / (3 * n**0.5) + skewness**2 * t**3 / (27 * n) + skewness / (6 * n**0.5)
        assert bent == pytest.approx(q)
    assert ends[1] - mean > mean - ends[0], "the long tail of the law is to the right"


def test_a_ratio_is_left_out_group_by_group():
    values, groups = np.array([0.1, 0.2, 0.3, 0.8, 0.5, 0.5]), np.array([*"aaabcc"])  # the mean is over images
    without = [values[groups != group].mean() for group in "abc"]
    assert mean_interval(values, groups)[1:] == pytest.approx(group_interval(values.mean(), without))
    assert all(np.isnan(group_interval(0.3, [np.nan, 0.2, 0.4]))), "a score that one group alone defines"


GROUP_LAWS = {  # of a group's mean: draws (repetitions, groups), and the mean of the law
    "normal": (lambda rng, size: rng.normal(size=size), 0),
    "skewed": (lambda rng, size: rng.exponential(size=size), 1),
    "chi-squared": (lambda rng, size: rng.chisquare(4, size), 4),
    "bounded, skewed": (lambda rng, size: rng.beta(0.5, 2, size), 0.2),
    "bounded, two humps": (lambda rng, size: rng.beta(0.5, 0.5, size), 0.5),
    "shares of ten images": (lambda rng, size: rng.binomial(10, rng.beta(4, 2, size)) / 10, 2 / 3),
}


@pytest.mark.parametrize("n_groups", [4, 5, 20, 100])
@pytest.mark.parametrize("law", GROUP_LAWS)
def test_coverage_of_the_interval_that_decides(law, n_groups):
    draw, mean = GROUP_LAWS[law]
    levels = draw(np.random.default_rng([n_groups, *law.encode()]), (2000, n_groups))
    ends = np.array([mean_interval(row)[1:] for row in levels])
    above, below = (ends[:, 0] > mean).mean(), (ends[:, 1] < mean).mean()
    assert above + below <= 0.07, "covers 93 % of 2,000 repetitions at least"


def test_what_cancels_has_a_mean_of_0_and_no_side_of_it():
    cancels = [0.84 - 0.8, 0.8 - 0.84, 0.1, 0.2, -0.3]  # summed, 5.6e-17
    for scale in (1, 1e-200, 1e200):
        assert mean_interval(scale * np.array(cancels))[0] == 0
    assert mean_interval([0.1, 0.2, -0.3, 0.2, 0.1, -0.3], list("aaabbb")) == (0, 0, 0)
    small = mean_interval([1, -1 + 1e-9])[0]
    assert small == pytest.approx(5e-10, rel=1e-6), "small and no rounding"


def test_coverage_with_and_without_groups():
    # 40 photographs of 4 images each, correlated 0.8 within a photograph: whoever ignores that is too sure
    rng, hits = np.random.default_rng(3), {"clustered": 0, "naive": 0}
    groups = np.repeat(np.arange(40), 4)
    for _ in range(300):
        values = np.sqrt(0.8) * rng.normal(size=40)[groups] + np.sqrt(0.2) * rng.normal(size=160)
        for name, labels in (("clustered", groups), ("naive", None)):
            _, low, high = mean_interval(values, labels)
            hits[name] += low <= 0 <= high
    assert 0.89 < hits["clustered"] / 300 < 0.985  # 95 %, minus a little for 40 groups, four standard errors of 300
    assert hits["naive"] / 300 < 0.82


def test_order_of_images_does_not_matter():
    rng = np.random.default_rng(5)
    values, groups, order = rng.normal(size=30), rng.integers(6, size=30), rng.permutation(30)
    for labels, shuffled in ((None, None), (groups, groups[order])):
        assert mean_interval(values, labels)[1:] == mean_interval(values[order], shuffled)[1:]


@pytest.mark.parametrize("groups, values", [(None, [0.3]), (["a", "a"], [0.2, 0.4])])
def test_one_image_or_group_has_a_mean_and_no_interval(groups, values):
    mean, low, high = mean_interval(values, groups)
    assert mean == pytest.approx(0.3) and np.isnan(low) and np.isnan(high)


@pytest.mark.parametrize("successes, n, low, high", [
    (0, 10, 0.0, 1 - 0.025 ** (1 / 10)),  # nobody: (1 - high)^10 = 0.025
    (10, 10, 0.025 ** (1 / 10), 1.0),
    (1, 2, 1 - np.sqrt(0.975), np.sqrt(0.975)),  # P(at least one) = 1 - (1 - low)^2, P(at most one) = 1 - high^2
])
def test_rate_interval_by_hand(successes, n, low, high):
    assert rate_interval(successes, n) == pytest.approx((successes / n, low, high))
    rate, low, high = rate_interval(37, 50, level=0.9)  # by its tails
    assert (rate, stats.binom.sf(36, 50, low), stats.binom.cdf(37, 50, high)) == pytest.approx((0.74, 0.05, 0.05))


def test_a_table_of_intervals_has_one_row_a_combination_in_order_of_appearance():
    rng = np.random.default_rng(7)
    df = pd.DataFrame({"method": ["rollout"] * 12 + ["raw"] * 12, "eps": [0.1, 0.2] * 12, "photo": [*"aabbcc"] * 4,
                       "value": rng.normal(size=24)})  # fmt: skip
    for groups in (None, "photo"):
        table = interval_table(df, ["method", "eps"], groups=groups)
        assert table[["method", "eps", "n"]].values.tolist() == [
            ["rollout", 0.1, 6], ["rollout", 0.2, 6], ["raw", 0.1, 6], ["raw", 0.2, 6]]  # fmt: skip
        part = df[(df.method == "raw") & (df.eps == 0.2)]
        wanted = mean_interval(part["value"], groups=part["photo"] if groups else None)
        assert tuple(table.loc[3, ["mean", "low", "high"]]) == wanted
    assert list(interval_table(df, ["method"])["n"]) == [12, 12]


def test_golden_clopper_pearson_bound():
    [item] = golden("clopper_pearson_upper")
    count, m, delta = (item["inputs"][key] for key in ("count", "m", "delta"))
    assert rate_bound(count, m, delta, "upper") == pytest.approx(item["value"], abs=1e-9)


@pytest.mark.parametrize("p", [1e-6, 0.05, 0.7])
def test_rate_bound_cuts_the_stated_tail_at_every_count_and_keeps_the_shape(p):
    counts = np.arange(12).reshape(3, 4)
    lower, upper = (rate_bound(counts, 11, p, side) for side in SIDES)
    assert lower.shape == upper.shape == (3, 4) and lower.dtype == np.float64
    assert lower[0, 0] == 0 and upper[-1, -1] == 1
    assert stats.binom.sf(counts.flat[1:] - 1, 11, lower.flat[1:]) == pytest.approx(np.full(11, p))  # P(>= k)
    assert stats.binom.cdf(counts.flat[:-1], 11, upper.flat[:-1]) == pytest.approx(np.full(11, p))  # P(<= k)
    assert upper[0, 0] == pytest.approx(1 - p ** (1 / 11)) and lower[-1, -1] == pytest.approx(p ** (1 / 11))
    assert [rate_bound(11, 11, p, side).tolist() for side in SIDES] == [lower[-1, -1], 1.0]


def betting_excess(column, mu0, p, side, high):
    """max_t ln wealth_t - ln(1 / p), a draw at a time, from the formulas: above 0 where mu0 is rejected."""
    n, wealth, best = len(column), 0.0, -np.inf
    for t, x in enumerate(column):
        spread = np.sum((column[:t] - np.mean(column[:t])) ** 2) if t else 0.0
        bet = np.sqrt(2 * np.log(1 / p) / (n * ((high / 20) ** 2 + spread) / (t + 1)))
        if side == "lower":
            wealth += np.log(1 + min(bet, 1 / (2 * mu0)) * (x - mu0))
        else:
            wealth += np.log(1 - min(bet, 1 / (2 * (high - mu0))) * (x - mu0))
        best = max(best, wealth)
    return best - np.log(1 / p)


@pytest.mark.parametrize("high", [1.0, 0.02])
@pytest.mark.parametrize("side", SIDES)
def test_betting_bound_is_the_rejected_end_of_the_slow_test(side, high):
    rng = np.random.default_rng(8)
    laws = [rng.beta(0.1, 5, 150), rng.beta(50, 50, 150), rng.random(150), rng.random(150) < 0.3, np.full(150, 0.6),
            np.minimum(rng.lognormal(-4.6, 0.5, 150), 1), 1 - rng.beta(0.5, 9, 150)]  # fmt: skip
    values = high * np.stack(laws, axis=1)
    outward = 1 if side == "upper" else -1
    for column, bound in zip(values.T, mean_bound(values, 0.01, side, high), strict=True):
        assert 0 < bound < high
        assert betting_excess(column, bound, 0.01, side, high) >= 0
        assert betting_excess(column, bound - outward * 2e-9 * high, 0.01, side, high) < 0
        accepted = [betting_excess(column, mu0, 0.01, side, high) < 0 for mu0 in high * np.linspace(0.005, 0.995, 40)]
        assert accepted == sorted(accepted, reverse=side == "upper")  # an interval


@pytest.mark.parametrize("high", [1.0, 0.02])
def test_bernstein_and_hoeffding_by_their_formulas(high):
    values = high * np.random.default_rng(9).beta(5, 3, (200, 4))
    for i, column in enumerate(values.T):
        pairs = sum((a - b) ** 2 for a, b in itertools.combinations(column, 2)) / (200 * 199)
        log = np.log(2 / 0.01)
        bernstein = np.sqrt(2 * pairs * log / 200) + 7 * high * log / (3 * 199)
        hoeffding = high * np.sqrt(np.log(1 / 0.01) / 400)
        for side, sign in (("lower", -1), ("upper", 1)):
            for method, margin in (("bernstein", bernstein), ("hoeffding", hoeffding)):
                assert mean_bound(values, 0.01, side, high, method)[i] == pytest.approx(column.mean() + sign * margin)


def test_bounds_of_values_at_the_ends_of_the_range():
    n, p, high = 200, 0.001, 0.5
    values = np.stack([np.zeros(n), np.full(n, high)], axis=1)
    q = 2 * (p ** (-1 / n) - 1)  # every bet is truncated: (1 + q / 2) ** n = 1 / p with q = (x - mu0) / mu0
    margins = {"betting": q / (1 + q), "bernstein": 7 * np.log(2 / p) / (3 * (n - 1)),
               "hoeffding": np.sqrt(np.log(1 / p) / (2 * n))}  # fmt: skip
    for method, margin in margins.items():
        assert mean_bound(values, p, "lower", high, method) == pytest.approx([0, high * (1 - margin)], abs=1e-9)
        assert mean_bound(values, p, "upper", high, method) == pytest.approx([high * margin, high], abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_draw_says_next_to_nothing(method):
    values = np.array([[0.0, 0.3, 1.0]])
    assert mean_bound(values, 0.01, "lower", method=method) == pytest.approx([0, 0, 0], abs=0.01)
    assert mean_bound(values, 0.01, "upper", method=method) == pytest.approx([1, 1, 1], abs=0.01)


def test_what_was_once_rejected_stays_rejected():
    values = np.repeat([[1.0], [0.0]], 100, axis=0)  # not independent draws of one law, and that shows at draw 100
    assert mean_bound(values, 0.001, "lower") > 0.8
    assert mean_bound(values[::-1], 0.001, "upper") < 0.2


def test_columns_do_not_touch_each_other_and_the_order_of_draws_matters_to_betting_alone():
    rng = np.random.default_rng(10)
    values, order = rng.beta(1, 4, (120, 700)), rng.permutation(700)
    for method, side in itertools.product(METHODS, SIDES):
        bounds = mean_bound(values, 0.01, side, method=method)
        assert bounds.shape == (700,) and bounds.dtype == np.float64
        shuffled = mean_bound(values[:, order], 0.01, side, method=method)
        one, step = mean_bound(values[:, 640:641], 0.01, side, method=method), 2**-32  # the last of the bisection
        assert shuffled == pytest.approx(bounds[order], abs=step) and one == pytest.approx(bounds[640:641], abs=step)
        backwards = mean_bound(values[::-1], 0.01, side, method=method)
        assert np.allclose(backwards, bounds, atol=1e-12) == (method != "betting")


@pytest.mark.parametrize("method", METHODS)
def test_bounds_follow_a_change_of_unit_and_a_mirror(method):
    values = np.random.default_rng(11).beta(1, 4, (150, 6))
    high = np.array([1.0, 0.25, 0.02, 3.0, 1e-6, 200.0])
    for side, other in (SIDES, SIDES[::-1]):
        bounds = mean_bound(values, 0.01, side, method=method)
        assert mean_bound(values * high, 0.01, side, high, method) == pytest.approx(bounds * high, rel=1e-7)
        assert high - mean_bound(high * (1 - values), 0.01, other, high, method) == pytest.approx(
            bounds * high, rel=1e-7)  # fmt: skip


LAWS = {  # draws, mean, largest value possible
    "Bernoulli .01": (lambda rng, size: rng.random(size) < 0.01, 0.01, 1.0),
    "Bernoulli .5": (lambda rng, size: rng.random(size) < 0.5, 0.5, 1.0),
    "Bernoulli .99": (lambda rng, size: rng.random(size) < 0.99, 0.99, 1.0),
    "Beta(.1, 5)": (lambda rng, size: rng.beta(0.1, 5, size), 0.1 / 5.1, 1.0),
    "rare jump": (lambda rng, size: np.where(rng.random(size) < 0.02, 1.0, 0.01), 0.0298, 1.0),
    "uniform": (lambda rng, size: rng.random(size), 0.5, 1.0),
    "clipped": (lambda rng, size: np.minimum(rng.exponential(0.01, size), 0.02), 0.01 * (1 - np.exp(-2)), 0.02),
    "narrow": (lambda rng, size: rng.normal(0.01, 0.001, size).clip(0, 0.02), 0.01, 1.0),
}


@pytest.mark.parametrize("law", LAWS)
def test_bounds_miss_no_more_often_than_stated(law):
    draw, mean, high = LAWS[law]
    values = draw(np.random.default_rng(12), (100, 3000))  # each column a repetition
    for side, method in itertools.product(SIDES, METHODS):
        bounds = mean_bound(values, 0.05, side, high, method)
        missed = np.count_nonzero(bounds > mean if side == "lower" else bounds < mean)
        assert stats.binomtest(missed, 3000, 0.05, alternative="greater").pvalue > 1e-3, (side, method, missed)


def test_betting_is_the_narrowest_for_attention_weights():
    sigma = np.sqrt(np.log(1.25))  # mean 0.01, standard deviation 0.005
    values = np.random.default_rng(13).lognormal(np.log(0.01) - sigma**2 / 2, sigma, (1600, 40))
    p, mean = 1e-3 / 196, values.mean(0)
    lower, upper = ({m: np.mean(abs(mean_bound(values, p, side, method=m) - mean)) for m in METHODS} for side in SIDES)
    assert lower["betting"] < 1.05 * 0.005 * np.sqrt(2 * np.log(1 / p) / 1600) and lower["hoeffding"] > 0.0099
    assert upper["betting"] < 0.8 * upper["bernstein"] < 0.3 * upper["hoeffding"]
    assert upper["betting"] == pytest.approx(2 * np.log(1 / p) / 1600, rel=0.05)  # what a mean of range 1 costs
    clipped = np.minimum(values, 0.02)  # the range known to be a fiftieth of that
    for side in SIDES:
        width = {m: np.mean(abs(mean_bound(clipped, p, side, 0.02, m) - clipped.mean(0))) for m in METHODS}
        assert width["betting"] < 0.65 * width["bernstein"] and width["betting"] < 0.65 * width["hoeffding"]


@pytest.mark.parametrize("p", [1e-6, 0.01, 0.5])
def test_dkw_margin_is_never_too_small_and_nearly_exact(p):
    assert dkw_margin(200, p) == pytest.approx(np.sqrt(np.log(1 / p) / 400))
    exact = [stats.ksone.sf(dkw_margin(n, p), n) for n in (1, 2, 10, 100, 1000)]  # Smirnov's law for finite n
    assert max(exact) <= p * (1 + 1e-9) and exact[-1] > 0.85 * p


LOW = (0.01, "lower")


@pytest.mark.parametrize("function, arguments, message", [
    (mean_interval, ([],), r"shape \(0,\), wanted \(n,\) with n >= 1"),
    (mean_interval, ([[1.0, 2.0]],), r"shape \(1, 2\), wanted \(n,\)"),
    (mean_interval, ([1.0, np.nan, np.inf],), "2 of 3 values are NaN or infinite"),
    (mean_interval, ([1.0, 2.0], ["a"]), r"groups have shape \(1,\), values \(2,\)"),
    (mean_interval, ([1.0, 2.0], None, 95), r"level=95, wanted a number in \(0, 1\)"),
    (rate_interval, (11, 10), "11 successes of 10, wanted 0 <= successes <= n"),
    (rate_interval, (-1, 10), "successes=-1, wanted an integer >= 0"),
    (rate_interval, (2.5, 10), "successes=2.5, wanted an integer"),
    (rate_interval, (0, 0), "n=0, wanted an integer >= 1"), (rate_interval, (1, 2, 0), "level=0, wanted"),
    (rate_bound, ([3, 11], 10, *LOW), r"\(from 3 to 11\) of n=10, wanted one or more whole numbers in \[0, n\]"),
    (rate_bound, ([-1, 2], 10, *LOW), "from -1 to 2"), (rate_bound, ([0.5], 10, *LOW), "from 0.5 to 0.5"),
    (rate_bound, ([np.nan], 10, *LOW), "from nan to nan"), (rate_bound, ([], 10, *LOW), r"successes \(none\) of n=10"),
    (rate_bound, (0, 0, *LOW), "n=0, wanted an integer >= 1"), (rate_bound, (1, 2.5, *LOW), "n=2.5, wanted"),
    (mean_bound, ([[0.5, np.nan]], *LOW), r"1 of 2 values are NaN or outside \[0, high\], the first nan; wanted none"),
    (mean_bound, ([[0.5], [-0.1], [1.2]], *LOW), "2 of 3 values are NaN or outside .* the first -0.1"),
    (mean_bound, ([[0.5, 0.5]], *LOW, [1.0, 0.4]), "1 of 2 values"),
    (mean_bound, ([0.5], *LOW), r"shape \(1,\), wanted \(draws, tokens\)"),
    (mean_bound, (np.zeros((0, 3)), *LOW), r"shape \(0, 3\), wanted \(draws, tokens\), both at least 1"),
    (mean_bound, (np.zeros((3, 0)), *LOW), r"shape \(3, 0\)"),
    (mean_bound, ([[0.5]], *LOW, 0.0), r"high has shape \(\) and least value 0, wanted a finite number above 0"),
    (mean_bound, ([[0.5]], *LOW, np.inf), "least value inf"),
    (mean_bound, ([[0.5]], *LOW, [1.0, 2.0]), r"high has shape \(2,\) .* or 1 of them: one per token"),
    (mean_bound, ([[0.5]], *LOW, 1.0, "clt"), "unknown method 'clt', known: betting, bernstein, hoeffding"),
    *[(function, (values, *n, 0.05, "two-sided"), "unknown side 'two-sided', known: lower, upper")
      for function, values, *n in ((rate_bound, [1], 2), (mean_bound, [[0.5]]))],
    *[(function, (values, *n, p, "lower"), f"failure_prob={p}, wanted a number in \\(0, 1\\)")
      for function, values, *n in ((rate_bound, [1], 2), (mean_bound, [[0.5]])) for p in (0, 1, -0.1, np.nan)],
    (dkw_margin, (10, 0.51), r"failure_prob=0.51, wanted a number in \(0, 0.5\]"),
    *[(dkw_margin, (10, p), f"failure_prob={p}, wanted") for p in (0.0, np.nan)],
    *[(dkw_margin, (n, 0.1), f"n={n}, wanted an integer >= 1") for n in (0, 2.5)],
])  # fmt: skip
def test_refusals_name_the_mend(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize("n", [4, 5, 20, 42, 100])
@pytest.mark.parametrize(("won", "lost"), [(0.02, 0.02), (0, 0.05), (0.05, 0.01), (0.15, 0.05), (0.98, 0.01)])
def test_the_interval_of_paired_outcomes_covers_also_where_they_are_rare(n, won, lost):
    rng, covered = np.random.default_rng(n), 0
    for _ in range(2000):
        u = rng.random(n)
        _, low, high = outcome_interval(1.0 * (u < won) - ((u >= won) & (u < won + lost)))
        covered += low <= won - lost <= high
    assert covered >= 0.93 * 2000


def test_paired_outcomes_by_the_formula_of_bonett_and_price_and_over_groups():
    won, lost, n = 6, 1, 42
    value, low, high = outcome_interval(np.repeat([1.0, -1.0, 0.0], [won, lost, n - won - lost]))
    a, b = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    reach = stats.t.ppf(0.975, n - 2) * np.sqrt((a + b - (a - b) ** 2) / (n + 2))
    assert (value, low, high) == pytest.approx((5 / 42, a - b - reach, a - b + reach))
    twice = outcome_interval(np.repeat([1.0, -1.0, 0.0], [12, 2, 70]), groups=np.arange(84) // 2)
    assert tuple(twice) == pytest.approx((value, low, high)) and (twice.n, twice.n_groups) == (84, 42)
    assert outcome_interval([0.0] * 42)[1] < -0.05 and outcome_interval([1.0] * 3)[2] == 1
