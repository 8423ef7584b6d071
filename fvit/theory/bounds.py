"""One-sided bounds of means and rates from draws, for certificates."""

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from fvit.base.checks import check_array, check_choice, check_count, check_number

TRUNCATION = 0.5  # most of its wealth a bet may lose in one draw; sound for any value in (0, 1]
PRIOR_VARIANCE = 1 / 400  # of the pseudo-draw before the first, range 1; Waudby-Smith and Ramdas take 1/4, see Note


def rate_bound(successes, n: int, failure_prob: float, side: str) -> np.ndarray:
    """One-sided exact bound on each rate; each fails with probability at most `failure_prob`, whatever the rate is.

    successes      integers in [0, n], any shape: how often each event happened in n independent trials
    failure_prob   in (0, 1), for each entry on its own: divide by their number to have all of them at once
    side           "lower" or "upper"
    returns        float64 in [0, 1], the shape of successes; 0 (lower) or 1 (upper) where nothing can be said

    Raises ValueError for counts that are not whole or not in [0, n], and for an unknown side or failure_prob.
    Source: Clopper and Pearson 1934.
    """
    _check_one_sided(failure_prob, side)
    counts = check_array(successes, "successes")
    n = check_count(n, "n")
    if not (counts.size and ((counts >= 0) & (counts <= n) & (counts == np.floor(counts))).all()):
        got = f"from {counts.min():g} to {counts.max():g}" if counts.size else "none"
        raise ValueError(f"successes ({got}) of n={n}, wanted one or more whole numbers in [0, n]; count again")
    bounds = proportion_confint(counts, n, alpha=2 * failure_prob, method="beta")  # it halves alpha
    return np.asarray(bounds[side == "upper"], dtype=np.float64)


def mean_bound(values, failure_prob: float, side: str, high=1.0, method: str = "betting") -> np.ndarray:
    """One-sided bound on the mean of each column; each fails with probability at most `failure_prob`, at every n.

    values         (draws, tokens) in [0, high]; rows independent with one law, their number fixed before they are seen;
                   columns may depend on each other
    failure_prob   in (0, 1), for each column on its own: divide by their number to have all of them at once
    side           "lower" or "upper"
    high           number or (tokens,), largest value *possible*: known beforehand, never the largest value seen
    method         "betting" (tightest, uses the order of the draws), "bernstein" (a variance term, then 7/3 of the
                   range over draws - 1) or "hoeffding" (the range alone)
    returns        (tokens,) float64 in [0, high]; 0 (lower) or high (upper) where nothing can be said

    Raises ValueError for values that are NaN or outside [0, high], no values, and unknown side, method or failure_prob.
    Source: Hoeffding 1963; Maurer and Pontil 2009; Waudby-Smith and Ramdas 2023.
    Note: no upper bound for every law comes closer to a small mean than about high * ln(1 / failure_prob) / draws
    (betting: twice that). Derivations: docs/theory.md, section 3.
    """
    _check_one_sided(failure_prob, side)
    check_choice(method, _LOWER, "method")
    values, high = np.ascontiguousarray(check_array(values, "values")), check_array(high, "high")
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"values have shape {values.shape}, wanted (draws, tokens), both at least 1; one row per draw")
    if high.shape not in ((), values.shape[1:]) or not ((high > 0) & (high < np.inf)).all():
        wanted = f"a finite number above 0, or {values.shape[1]} of them: one per token"
        raise ValueError(f"high has shape {high.shape} and least value {high.min(initial=np.inf):g}, wanted {wanted}")
    if (bad := ~((values >= 0) & (values <= high))).any():  # NaN too
        what = f"{bad.sum()} of {bad.size} values are NaN or outside [0, high], the first {values[bad][0]:g}"
        raise ValueError(f"{what}; wanted none: clip them in float64 (to smooth the clipped map), or raise high")
    x = values / high if side == "lower" else 1 - values / high
    lower = np.maximum(_LOWER[method](x, failure_prob), 0)
    return high * (lower if side == "lower" else 1 - lower)


def _hoeffding(x, failure_prob):
    return x.mean(axis=0) - np.sqrt(np.log(1 / failure_prob) / (2 * len(x)))


def _bernstein(x, failure_prob):
    if len(x) == 1:
        return np.zeros(x.shape[1])
    log = np.log(2 / failure_prob)
    return x.mean(axis=0) - np.sqrt(2 * x.var(axis=0, ddof=1) * log / len(x)) - 7 * log / (3 * (len(x) - 1))


def _betting(x, failure_prob, steps=32):
    """(tokens,) lower bound on the means of x (draws, tokens) in [0, 1], by betting against every smaller mean mu0.

    The wealth prod_t (1 + min(bet_t, TRUNCATION / mu0) (x_t - mu0)) of a true mean mu0 never reaches 1 / failure_prob,
    with probability at least 1 - failure_prob (docs/theory.md, section 3); bisection returns the rejected end.

    Note: bet_t = sqrt(2 ln(1 / failure_prob) / (draws variance_{t-1})), the variance about the running mean plus a
    pseudo-draw, of standard deviation 1/20: the 1/2 of Waudby-Smith and Ramdas would hide that of attention weights.
    """
    draws, lower = len(x), np.zeros(x.shape[1])
    log = np.log(1 / failure_prob)
    t = np.arange(draws)[:, None]  # draws seen before each bet
    block = max(1, 2**16 // draws)  # as many columns as the processor's cache holds
    for start in range(0, x.shape[1], block):
        part = x[:, start : start + block]
        past = np.zeros((2, *part.shape))  # sums of x and of x ** 2 over the draws before
        np.cumsum([part[:-1], part[:-1] ** 2], axis=1, out=past[:, 1:])
        variance = (PRIOR_VARIANCE + past[1] - past[0] ** 2 / np.maximum(t, 1)) / (t + 1)
        bets = np.sqrt(2 * log / (draws * variance))
        rejected, accepted = np.zeros(part.shape[1]), np.ones(part.shape[1])
        for _ in range(steps):
            middle = (rejected + accepted) / 2
            wealth = np.cumsum(np.log1p(np.minimum(bets, TRUNCATION / middle) * (part - middle)), axis=0)
            reject = wealth.max(axis=0) >= log + 1e-9  # the excess covers the rounding of the sums
            rejected, accepted = np.where(reject, middle, rejected), np.where(reject, accepted, middle)
        lower[start : start + block] = rejected
    return lower


_LOWER = {"betting": _betting, "bernstein": _bernstein, "hoeffding": _hoeffding}


def dkw_margin(n: int, failure_prob: float) -> float:
    """Most by which an empirical distribution function of n draws exceeds the true one, anywhere: one-sided band.

    Exceeded with probability at most `failure_prob`, for any law; so is the same margin below. Above 1 it says nothing.

    Raises ValueError unless n >= 1 is whole and failure_prob in (0, 1/2]: above, the constant 1 is not proved.
    Source: Dvoretzky, Kiefer and Wolfowitz 1956; constant by Massart 1990.
    """
    failure_prob = check_number(failure_prob, "failure_prob", "(0, 0.5]", "where alone the band holds")
    return float(np.sqrt(np.log(1 / failure_prob) / (2 * check_count(n, "n"))))


def _check_one_sided(failure_prob, side):
    check_number(failure_prob, "failure_prob", "(0, 1)", "e.g. 0.001 for one failure in 1000")
    check_choice(side, ("lower", "upper"), "side")  # for both, call twice at half the failure_prob
