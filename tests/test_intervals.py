"""Intervals: exact answers by enumeration, coverage by simulation, hand values of Clopper and Pearson."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fvit.intervals import interval_table, mean_interval, rate_interval


def enumerated(groups, level):
    """Percentiles of the bootstrap mean over all equally likely resamples of whole groups."""
    means = [np.mean(np.concatenate(pick)) for pick in itertools.product(groups, repeat=len(groups))]
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")


def test_mean_interval_is_the_enumerated_one():
    values = [0.1, 0.4, 0.5, 0.9]  # 256 resamples; the 2.5 % point lies well inside one of their few means
    mean, low, high = mean_interval(values, n_boot=20_000)
    assert mean == pytest.approx(0.475)
    assert [low, high] == pytest.approx(enumerated([[v] for v in values], 0.95))


def test_clustered_interval_is_the_enumerated_one():
    clusters = [[0.1, 0.2, 0.3], [0.8], [0.5, 0.5]]  # of unequal size: the mean is over images, not over groups
    groups = ["a", "a", "a", "b", "c", "c"]
    mean, low, high = mean_interval(np.concatenate(clusters), groups, level=0.8, n_boot=20_000)
    assert mean == pytest.approx(2.4 / 6)
    assert [low, high] == pytest.approx(enumerated(clusters, 0.8))


def test_agrees_with_scipy():
    values = np.random.default_rng(1).gamma(2.0, size=40)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=2).confidence_interval
    _, low, high = mean_interval(values, n_boot=20_000)
    assert [low, high] == pytest.approx([theirs.low, theirs.high], abs=0.02 * values.std())


def test_coverage_with_and_without_groups():
    # 40 photographs of 4 images each, correlated 0.8 within a photograph: whoever ignores that is too sure
    rng, hits = np.random.default_rng(3), {"clustered": 0, "naive": 0}
    groups = np.repeat(np.arange(40), 4)
    for seed in range(300):
        values = np.sqrt(0.8) * rng.normal(size=40)[groups] + np.sqrt(0.2) * rng.normal(size=160)
        for name, labels in (("clustered", groups), ("naive", None)):
            _, low, high = mean_interval(values, labels, n_boot=300, seed=seed)
            hits[name] += low <= 0 <= high
    assert 0.89 < hits["clustered"] / 300 < 0.985  # 95 %, minus a little for 40 groups, four standard errors of 300
    assert hits["naive"] / 300 < 0.82


def test_groups_of_one_change_nothing_in_width_and_identical_images_add_nothing():
    values = np.random.default_rng(4).normal(size=12)
    one = mean_interval(np.sort(values), np.arange(12))
    assert one == pytest.approx(mean_interval(values))
    copies = mean_interval(np.repeat(np.sort(values), 5), np.repeat(np.arange(12), 5))
    assert copies == pytest.approx(one)


def test_order_of_images_does_not_matter_and_the_seed_does():
    rng = np.random.default_rng(5)
    values, groups, order = rng.normal(size=30), rng.integers(6, size=30), rng.permutation(30)
    for labels, shuffled in ((None, None), (groups, groups[order])):
        assert mean_interval(values, labels)[1:] == mean_interval(values[order], shuffled)[1:]
        assert mean_interval(values, labels, seed=1)[1:] != mean_interval(values, labels, seed=2)[1:]


def test_a_higher_level_is_wider_and_a_constant_has_no_width():
    values = np.random.default_rng(6).normal(size=30)
    (_, low80, high80), (_, low99, high99) = mean_interval(values, level=0.8), mean_interval(values, level=0.99)
    assert low99 < low80 < high80 < high99
    assert mean_interval([0.25] * 9) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("groups, values", [(None, [0.3]), (["a", "a"], [0.2, 0.4])])
def test_one_image_or_group_has_a_mean_and_no_interval(groups, values):
    mean, low, high = mean_interval(values, groups)
    assert mean == pytest.approx(0.3) and np.isnan(low) and np.isnan(high)


@pytest.mark.parametrize("arguments, message", [
    ({"values": []}, r"shape \(0,\), wanted \(n,\) with n >= 1"),
    ({"values": [[1.0, 2.0]]}, r"shape \(1, 2\), wanted \(n,\)"),
    ({"values": [1.0, np.nan, np.inf]}, "2 of 3 values are NaN or infinite"),
    ({"values": [1.0, 2.0], "groups": ["a"]}, r"groups have shape \(1,\), values \(2,\)"),
    ({"values": [1.0, 2.0], "level": 95}, r"level=95, wanted a number in \(0, 1\)"),
    ({"values": [1.0, 2.0], "n_boot": 0}, "n_boot=0, wanted at least 1"),
])
def test_mean_interval_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(**arguments)


@pytest.mark.parametrize("successes, n, low, high", [
    (0, 10, 0.0, 1 - 0.025 ** (1 / 10)),  # nobody: (1 - high)^10 = 0.025
    (10, 10, 0.025 ** (1 / 10), 1.0),
    (1, 2, 1 - np.sqrt(0.975), np.sqrt(0.975)),  # P(at least one) = 1 - (1 - low)^2, P(at most one) = 1 - high^2
])
def test_rate_interval_by_hand(successes, n, low, high):
    assert rate_interval(successes, n) == pytest.approx((successes / n, low, high))


def test_rate_interval_cuts_the_stated_tails():
    rate, low, high = rate_interval(37, 50, level=0.9)
    assert rate == 0.74
    assert stats.binom.sf(36, 50, low) == pytest.approx(0.05)
    assert stats.binom.cdf(37, 50, high) == pytest.approx(0.05)


@pytest.mark.parametrize("successes, n", [(11, 10), (-1, 10), (0, 0), (2.5, 10), (float("nan"), 10)])
def test_rate_interval_refuses(successes, n):
    with pytest.raises(ValueError, match="wanted whole numbers with 0 <= successes <= n"):
        rate_interval(successes, n)
    with pytest.raises(ValueError, match="level=0, wanted"):
        rate_interval(1, 2, level=0)


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
