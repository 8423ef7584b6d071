"""Monte Carlo intervals: how far a mean over images, or a rate, may be from what more images would give.

Certificates need one side at a time, with a guarantee at every n: they take theory/bounds.py instead.
"""

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from fvit.base.checks import check_array, check_count, check_number
from fvit.base.rng import numpy_generator

LEVEL = "level", "(0, 1)", "e.g. 0.95 for 95 %"


class Interval(tuple):
    """(value, low, high), with what it rests on: `n` images, `n_groups` clusters of them (None: images by themselves).

    As the value of a `fvit.claim` it brings its interval and its n along.
    """

    def __new__(cls, value, low, high, n, n_groups=None):
        self = super().__new__(cls, (value, low, high))
        self.n, self.n_groups = n, n_groups
        return self

    def __getnewargs__(self):  # copies and pickles keep n
        return *self, self.n, self.n_groups


def mean_interval(values, groups=None, level=0.95, n_boot=2000, seed=0) -> Interval:
    """Mean of per-image values with its percentile bootstrap interval: (mean, low, high).

    values   (n,) one finite number per image
    groups   (n,) labels, e.g. the photograph an image is made of: whole groups are resampled. Default: by images
    level    coverage aimed at, in (0, 1); with few images or groups (below about 20) it is somewhat less
    returns  low and high are NaN if there is a single image or group: from one, nothing is learnt about the spread

    Draws of noise and of attacks are in the interval: their streams are named by seed and image, so that the spread of
    the values holds theirs. The order of the images does not matter.
    Raises ValueError for empty, non-finite or ill-shaped input.
    Source: Efron 1979; groups as in Field and Welsh 2007.
    """
    values = check_array(values, "values")
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values have shape {values.shape}, wanted (n,) with n >= 1: one number per image")
    if bad := np.count_nonzero(~np.isfinite(values)):
        raise ValueError(f"{bad} of {values.size} values are NaN or infinite, wanted finite ones; find their cause")
    check_number(level, *LEVEL)
    n_boot = check_count(n_boot, "n_boot")
    sums, counts = _by_group(values, groups)
    mean, size = _no_rounding(values.mean(), values), (values.size, None if groups is None else len(sums))
    if len(sums) == 1:
        return Interval(mean, np.nan, np.nan, *size)
    picks = numpy_generator(seed, "bootstrap").integers(len(sums), size=(n_boot, len(sums)))  # (n_boot, groups)
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, _no_rounding(low, values), _no_rounding(high, values), *size)


def _no_rounding(mean, values):
    """0 for what rounding leaves of it: differences that cancel have a mean of about 1e-17, on some side of a bound."""
    return 0.0 if abs(mean) < 1e-12 * np.abs(values).max() else mean.item()


def _by_group(values, groups):
    """Sum and size of every group, in an order that does not depend on that of the images."""
    if groups is None:
        return np.sort(values), np.ones_like(values)
    groups = np.asarray(groups)
    if groups.shape != values.shape:
        raise ValueError(f"groups have shape {groups.shape}, values {values.shape}; wanted one group per value")
    order = np.argsort(values)  # a sum rounds by its order
    _, index = np.unique(groups[order], return_inverse=True)
    return np.bincount(index, weights=values[order]), np.bincount(index)


def rate_interval(successes: int, n: int, level=0.95) -> Interval:
    """Share of successes in n independent trials with its exact two-sided interval: (rate, low, high).

    Raises ValueError unless 0 <= successes <= n and n >= 1. Source: Clopper and Pearson 1934.
    """
    check_number(level, *LEVEL)
    n, successes = check_count(n, "n"), check_count(successes, "successes", least=0)
    if successes > n:
        raise ValueError(f"{successes} successes of {n}, wanted 0 <= successes <= n")
    low, high = proportion_confint(successes, n, alpha=1 - level, method="beta")
    return Interval(successes / n, float(low), float(high), n)


def interval_table(df, by: list[str], value: str = "value", groups: str | None = None):
    """Mean, interval and n of every combination of `by`, in order of appearance; df is tidy, one row per image.

    groups   column of the cluster, see `mean_interval`
    returns  DataFrame with columns by, mean, low, high, n
    """
    rows = []
    for key, part in df.groupby(by, sort=False):
        mean, low, high = mean_interval(part[value], groups=part[groups] if groups else None)
        rows.append([*key, mean, low, high, len(part)])
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"])
