"""Monte Carlo intervals: how far a mean over images, or a rate, may be from what more images would give."""

import operator

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from fvit.rng import numpy_generator


def mean_interval(values, groups=None, level=0.95, n_boot=2000, seed=0) -> tuple[float, float, float]:
    """Mean of per-image values with its percentile bootstrap interval: (mean, low, high).

    values   (n,) one finite number per image
    groups   (n,) labels, e.g. the photograph an image is made of; whole groups are then resampled, since images that
             share a photograph are not independent. Without groups every image is its own.
    level    coverage aimed at, in (0, 1); reached as n grows. With few images or groups (below about 20) the interval
             is somewhat too narrow: the text that shows it says how many there were.
    returns  low and high are NaN if there is a single image or group: from one, nothing is learnt about the spread

    The order of the images does not matter. Raises ValueError for empty, non-finite or ill-shaped input.
    Source: Efron 1979; groups as in Field and Welsh 2007.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values have shape {values.shape}, wanted (n,) with n >= 1: one number per image")
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise ValueError(f"{bad} of {values.size} values are NaN or infinite, wanted finite ones; find their cause")
    _check_level(level)
    if operator.index(n_boot) < 1:
        raise ValueError(f"n_boot={n_boot}, wanted at least 1; 2000 is usual")
    sums, counts = _by_group(values, groups)
    mean = values.mean().item()
    if len(sums) == 1:
        return mean, np.nan, np.nan
    picks = numpy_generator(seed, "bootstrap").integers(len(sums), size=(n_boot, len(sums)))  # (n_boot, groups)
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return mean, low.item(), high.item()


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


def rate_interval(successes: int, n: int, level=0.95) -> tuple[float, float, float]:
    """Share of successes with its exact two-sided interval: (rate, low, high).

    The interval holds the true rate with probability at least `level`, whatever that rate is, if the n trials are
    independent. Raises ValueError unless 0 <= successes <= n and n >= 1.
    Source: Clopper and Pearson 1934.
    """
    _check_level(level)
    if not (n >= 1 and 0 <= successes <= n and successes == int(successes) and n == int(n)):
        raise ValueError(f"{successes} successes of {n}, wanted whole numbers with 0 <= successes <= n and n >= 1")
    low, high = proportion_confint(int(successes), int(n), alpha=1 - level, method="beta")
    return successes / n, float(low), float(high)


def _check_level(level):
    if not 0 < level < 1:
        raise ValueError(f"level={level}, wanted a number in (0, 1), e.g. 0.95 for 95 %")


def interval_table(df, by: list[str], value: str = "value", groups: str | None = None):
    """Mean, interval and n of every combination of `by`, in order of appearance; df is tidy, one row per image.

    groups   column of the cluster, see `mean_interval`
    returns  DataFrame with columns by, mean, low, high, n
    """
    import pandas as pd  # late: only tables need it

    rows = []
    for key, part in df.groupby(by, sort=False):
        mean, low, high = mean_interval(part[value], groups=part[groups] if groups else None)
        rows.append([*key, mean, low, high, len(part)])
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"])
