"""Paired comparisons: what a change, e.g. smoothing by DDS, does on the same images, over a family of conditions."""

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fvit.base.checks import check_choice
from fvit.base.rng import numpy_generator
from fvit.theory.intervals import mean_interval

TESTS = ("t", "sign_flip")
COLUMNS = ["difference", "low", "high", "p", "p_holm", "d_z", "share_greater", "n", "n_groups"]


def compare_pairs(df, family: list[str], pair=("none", "dds"), by="defence", value="value", image="image_id",
                  groups=None, seeds=(), test="t", level=0.95, seed=0) -> pd.DataFrame:
    """Second minus first of `pair` over the same images, for every combination of `family`, with Holm's correction.

    df        tidy rows; one for each combination of family, by, image and seeds
    family    columns that make the family of hypotheses, e.g. ["method", "aim"]; blanks (NaN) are a value
    pair      the two values of column `by`; rows with others are left out
    groups    column of the cluster, the photograph; None: every image is its own
    seeds     columns of the seeds of noise and attack, averaged over within an image; their spread is in interval and
              test, since streams are named by seed *and* image. Blank on a side that has no use for a seed
    test      "t" or "sign_flip", two-sided, of the means of the groups, see Note
    returns   DataFrame in order of appearance, columns of family and
              difference, low, high   mean over images and `mean_interval` by group, NaN from a single group
              p, p_holm               p-value, alone and corrected for the family by Holm; 1 from a single group
              d_z                     mean over standard deviation of the differences of images; NaN where none vary
              share_greater           share of images whose second value is greater, ties half, in [0, 1]
              n, n_groups             images and clusters

    Raises ValueError for unknown columns, a side that is missing, images or seeds that the sides do not share, rows
    that occur twice, values that are not finite, and images in two groups.
    Source: Student 1908 and Fisher 1935 on cluster means as Ibragimov and Mueller 2010; Holm 1979.
    Note: with G groups the sign-flip test has no p-value below 2 ** (1 - G): 1/16 for five photographs. It is exact if
    each group's mean is as likely to have either sign. The t-test asks a little more, that each be a scale mixture of
    centred normals (Bakirov and Szekely 2005: it is then valid up to p = 0.08), and can decide with five. Both weigh
    groups alike, where the difference weighs images. Where group means do not vary at all, p is the sign-flip test's.
    """
    family, seeds = list(family), list(seeds)
    _check_arguments(df, family, pair, [by, value, image, *seeds, *([groups] if groups else [])], test)
    rows, keys = [], []
    for key, part in df[df[by].isin(pair)].groupby(family, sort=False, dropna=False):
        where = ", ".join(f"{name}={k}" for name, k in zip(family, key, strict=True))
        before, after = (_per_image(part[part[by] == side], f"{where}, {by}={side}", value, image, seeds)
                         for side in pair)
        _check_pairs(part, before.index, after.index, where, pair, by, image, seeds)
        difference = (after - before).mask(np.isclose(before, after, rtol=1e-12, atol=0), 0)  # a mean over seeds rounds
        clusters = _clusters(part, where, image, groups)[difference.index] if groups else difference.index
        rows.append(_compare(difference, clusters, test, level, seed))
        keys.append(key)
    if not rows:
        raise ValueError(f"no rows with {by} in {tuple(pair)}, the table has {', '.join(map(str, df[by].unique()))}")
    table = pd.DataFrame(rows, columns=[c for c in COLUMNS if c != "p_holm"])
    table.insert(COLUMNS.index("p_holm"), "p_holm", multipletests(table.p, method="holm")[1])
    return pd.concat([pd.DataFrame(keys, columns=family), table], axis=1)


def _varies(values):
    return np.ptp(values) > 1e-12 * np.abs(values).max()  # more than by rounding


def _clusters(part, where, image, groups):
    """Group of each image, with the image as index."""
    labels = part[[image, groups]].drop_duplicates().set_index(image)[groups]
    if (wrong := labels.index.duplicated() | labels.isna()).any():
        raise ValueError(f"{where}: image {labels.index[wrong][0]} has none or several values of {groups}, wanted one "
                         "group an image")
    return labels


def _compare(difference, clusters, test, level, seed):
    values, clusters = difference.to_numpy(), np.asarray(clusters)
    mean, low, high = mean_interval(values, clusters, level)
    group_means = pd.Series(values).groupby(clusters).mean().to_numpy()
    spread = values.std(ddof=1) if _varies(values) else np.nan
    share = (np.sign(values).mean() + 1) / 2
    return mean, low, high, _p_value(group_means, test, seed), mean / spread, share, len(values), len(group_means)


def _p_value(means, test, seed):
    """Two-sided p-value that independent `means` (G,) are centred at 0."""
    if not means.any() or len(means) == 1:
        return 1.0
    if test == "t" and _varies(means):
        return stats.ttest_1samp(means, 0).pvalue
    return stats.permutation_test(
        (means, np.zeros_like(means)), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples",
        vectorized=True, n_resamples=9999, rng=numpy_generator(seed, "sign flips"),
    ).pvalue  # all 2 ** G signs up to G = 13


def _per_image(part, where, value, image, seeds):
    """Mean over seeds of each image, (n,) with the image as index, sorted."""
    if len(part) == 0:
        raise ValueError(f"{where}: no rows, wanted both sides of every pair; run it, or leave the condition out")
    if (bad := ~np.isfinite(part[value].to_numpy(dtype=np.float64))).any():
        raise ValueError(f"{where}: {bad.sum()} of {len(part)} values are NaN or infinite, the first of image "
                         f"{part[image].iloc[bad.argmax()]}; mend them, or leave the image out on both sides")
    if (twice := part.duplicated([image, *seeds])).any():
        first = part[image][twice].iloc[0]
        same = part[part[image] == first]
        varied = [c for c in part if c not in (value, *seeds) and same[c].nunique(dropna=False) > 1]
        raise ValueError(f"{where}: image {first} occurs twice, wanted one row an image and seed; "
                         f"name what varies ({', '.join(map(str, varied)) or 'nothing'}) in family or seeds")
    return part.groupby(image)[value].mean()


def _check_pairs(part, before, after, where, pair, by, image, seeds):
    if len(lone := before.symmetric_difference(after)):
        raise ValueError(f"{where}: {len(lone)} images have only one of {pair[0]} and {pair[1]}, the first {lone[0]}; "
                         "wanted the same images on both sides; complete the run")
    if part.groupby([by, image]).size().groupby(by).nunique().max() > 1:
        raise ValueError(f"{where}: some images have more seeds than others, wanted as many; complete the run")
    for column in seeds:
        used = part.groupby([by, image])[column].agg(lambda s: frozenset(s.dropna()) - {""})
        if len(set(used) - {frozenset()}) > 1 or used.groupby(by).nunique().max() > 1:
            raise ValueError(f"{where}: {column} differs between images or sides, wanted the same values for all, or "
                             "blanks on a side that does not use it; complete the run")


def _check_arguments(df, family, pair, others, test):
    if unknown := [column for column in [*family, *others] if column not in df]:
        raise ValueError(f"no columns {', '.join(unknown)}, the table has {', '.join(map(str, df.columns))}")
    if not family or len(pair) != 2 or pair[0] == pair[1]:
        raise ValueError(f"family={family}, pair={tuple(pair)}, wanted at least one column and two different values")
    check_choice(test, TESTS, "test")
