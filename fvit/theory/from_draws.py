"""Certificates from the draws themselves, maps or class probabilities as arrays: radii that hold with a stated
probability. `fvit.certify` makes the draws."""

from functools import partial

import numpy as np

from fvit.base.checks import check_array, check_choice, check_k, check_number
from fvit.theory.bounds import dkw_margin, mean_bound, rate_bound
from fvit.theory.cdf_radii import cdf_rho
from fvit.theory.divergences import tokens_to_break
from fvit.theory.radii import certified_radius, coordinate_rho, renyi_rho, sharp_rho

FAILURE = "failure_prob", "(0, 1)", "e.g. 1e-3"
CERTIFICATES = ("votes", "clipped", "cdf", "sharp", "renyi")
LOOKS = ((1 / 8, 1 / 6), (1 / 4, 1 / 6), (1 / 2, 1 / 6), (1, 1 / 2))  # share of the draws, share of failure_prob
HOPE = 0.5  # that a limit in favour of a token is wrong, by which `certify_until` gives an image up


def certify_until(draw, pilot, k, beta, n_samples, failure_prob, until, certificate="votes"):
    """The best radius, in units of sigma, of looks after ever more draws, and how many were drawn: (rho, n).

    draw       range of indices -> so many maps (n, tokens), independent of the pilot
    n_samples  the most draws; LOOKS says after which of them we look, and with which share of failure_prob
    until      drawing ends at a look whose radius is at least this, or where none is to be hoped for: limits in favour
               of every token, each wrong with probability HOPE, do not reach it. No radius is claimed by these
    Other arguments and errors as of `certify_draws`.
    """
    check_number(failure_prob, *FAILURE)
    rho, drawn = 0.0, np.empty((0, _maps(pilot, "pilot").shape[1]))
    for share, part in LOOKS:
        n = max(1, int(share * n_samples))
        if n == len(drawn):
            continue
        drawn = np.concatenate([drawn, draw(range(len(drawn), n))])
        about = pilot, drawn, k, [beta]
        rho = max(rho, _radii(*about, part * failure_prob, certificate)[0])
        if rho >= until or _radii(*about, HOPE, certificate, hopeful=True)[0] < until:
            break
    return rho, n


def certify_draws(pilot, draws, k, betas, failure_prob, certificate="votes"):
    """Radii (len(betas),) of the shown set's top-k from maps, in units of sigma, 0 where nothing is certified.

    pilot    (n_pilot, n) maps that choose the shown set, independent of the others
    draws    (n_samples, n) maps at the same image, each non-negative with sum 1, independent of one another
    Other arguments as `fvit.certify`; `shown_set` is the set they speak of.
    """
    return _radii(pilot, draws, k, betas, check_number(failure_prob, *FAILURE), certificate)


def _radii(pilot, draws, k, betas, failure_prob, certificate, hopeful=False):
    """`certify_draws`; or, `hopeful`, what limits on the other sides would give, each wrong with failure_prob."""
    check_choice(certificate, CERTIFICATES, "certificate")
    pilot, draws = _maps(pilot, "pilot"), _maps(draws, "draws")
    n = draws.shape[1]
    k = check_k(k, n)
    if pilot.shape[1] != n:
        raise ValueError(f"pilot has {pilot.shape[1]} tokens, draws {n}; wanted maps of one image by one method")
    top = shown_set(pilot, k, certificate)
    rest = np.setdiff1d(np.arange(n), top)
    values, high = _averaged(certificate, draws, pilot, k)
    rule = {"sharp": sharp_rho, "renyi": renyi_rho}.get(certificate, partial(coordinate_rho, high=high))

    def radius(beta):
        m = tokens_to_break(k, beta)
        if m > min(k, n - k):  # so many cannot be lost
            return np.inf
        each = failure_prob if hopeful else failure_prob / (2 * m)  # docs/theory.md, Theorem 6 (d)
        if certificate == "cdf":
            return cdf_rho(values, top, beta, 0.0, high, 0.0 if hopeful else dkw_margin(len(draws), each))
        sides = ("upper", "lower") if hopeful else ("lower", "upper")
        inside, outside = (np.sort(_bound(values[:, tokens], each, side, high, certificate == "votes"))
                           for tokens, side in zip((top, rest), sides, strict=True))
        return rule(inside[:m], outside[-m:])

    return np.array([radius(beta) for beta in betas])


def _bound(values, each, side, high, counted):
    """(tokens,) bounds in [0, 1] on the means of values (draws, tokens): exact where these are votes, else betting."""
    bound = (rate_bound(values.sum(0), len(values), each, side) if counted else
             mean_bound(values, each, side, high))
    return np.clip(bound, 0, 1)


def as_if_exact(draws, k, beta, name):
    """The radius, in units of sigma, that the mean of the draws would give if it were exact."""
    if name != "votes":
        return certified_radius(draws.mean(0), k, beta, 1.0, certificate=name)
    n, k0, half = draws.shape[1], tokens_to_break(k, beta), 0.5 / len(draws)
    share = np.sort(votes(draws, k).mean(0).clip(half, 1 - half))
    return np.inf if k0 > min(k, n - k) else coordinate_rho(share[n - k:][:k0], share[:n - k][-k0:])


def certify_label(pilot, draws, failure_prob, certificate="votes"):
    """Radius, in units of sigma, within which the class `shown_label(pilot, certificate)` stays the predicted one, 0
    where nothing is certified: its share of draws, or its mean probability, stays above 1/2.

    pilot, draws   (n_pilot, C), (n_samples, C) class probabilities, independent; other arguments as `fvit.certify`

    Source: Cohen et al. 2019, and for mean probabilities Salman et al. 2019.
    """
    check_choice(certificate, CERTIFICATES, "certificate")
    pilot, draws = _maps(pilot, "pilot"), _maps(draws, "draws")
    label, each = shown_label(pilot, certificate), check_number(failure_prob, *FAILURE)
    if pilot.shape[1] != draws.shape[1]:
        raise ValueError(f"pilot has {pilot.shape[1]} classes, draws {draws.shape[1]}; wanted those of one classifier")
    if draws.shape[1] == 1:
        return np.inf
    counted = certificate == "votes"
    values = (draws.argmax(1) == label)[:, None] if counted else draws[:, [label]]
    low = _bound(values, each, "lower", 1.0, counted)[0]
    return float(coordinate_rho([low], [1 - low]))


def shown_label(pilot, certificate="votes"):
    """The class that a certificate speaks of: of "votes" the one that most draws of the pilot predict, else that of
    the greatest mean probability; ties go to the lowest index."""
    pilot = _maps(pilot, "pilot")
    counted = np.eye(pilot.shape[1])[pilot.argmax(1)] if certificate == "votes" else pilot
    return int(counted.mean(0).argmax())


def shown_set(pilot, k, certificate="votes"):
    """The k tokens (k,) that a certificate speaks of: the top-k of its map over the pilot, ties to the lowest index."""
    pilot = _maps(pilot, "pilot")
    return np.argsort(-_averaged(certificate, pilot, pilot, k)[0].mean(0), kind="stable")[:k]


def _averaged(certificate, maps, pilot, k):
    """What the map of a certificate is the mean of, (draws, n) in [0, high], and high: votes, or maps clipped there."""
    if certificate == "votes":
        return votes(maps, k), 1.0
    high = _clip_level(pilot, k) if certificate in ("clipped", "cdf") else 1.0
    return np.minimum(maps, high), high


def votes(maps, k):
    """For each map, which of its tokens are in its top-k: (draws, n) bool, k in a row, ties to the lowest index."""
    cast = np.zeros(maps.shape, dtype=bool)
    np.put_along_axis(cast, np.argsort(-maps, axis=1, kind="stable")[:, :k], True, axis=1)
    return cast


def judged(draws, shown, k, beta, failure_prob):
    """What draws at another image prove of a shown set by their votes: that it is kept, that it is lost, or neither.

    draws    (n_samples, n) maps at that image, independent of how it was found
    shown    (k,) tokens; their share `beta` is to be in the top-k of the votes there
    returns  {"shown_overlap": share of them in the top-k of these draws' votes, "proven_kept", "proven_lost": 1.0 or
             0.0}; that one of the two is 1 wrongly has probability at most failure_prob
    """
    each = check_number(failure_prob, *FAILURE) / draws.shape[1]
    counted, lost = votes(_maps(draws, "draws"), k).sum(0), tokens_to_break(k, beta)
    rest = np.setdiff1d(np.arange(len(counted)), shown)
    low, high = (rate_bound(counted, len(draws), each, side) for side in ("lower", "upper"))
    found = {"shown_overlap": float(np.isin(shown, np.argsort(-counted, kind="stable")[:k]).mean())}
    if lost > min(k, len(rest)):  # so many cannot be lost
        return found | {"proven_kept": 1.0, "proven_lost": 0.0}
    return found | {"proven_kept": float(np.sort(low[shown])[lost - 1] > np.sort(high[rest])[-lost]),
                    "proven_lost": float(np.sort(high[shown])[lost - 1] < np.sort(low[rest])[-lost])}


def _clip_level(pilot, k):
    """Twice the k-th value of the pilot's mean map: the contested tokens seldom reach it, and the range shrinks."""
    return min(1.0, 2 * np.sort(pilot.mean(0))[-k]) or 1.0


def _maps(maps, name):
    maps = check_array(maps, name)
    if maps.ndim != 2 or len(maps) == 0 or not (np.isfinite(maps).all() and (maps >= 0).all()):
        raise ValueError(f"{name} has shape {maps.shape} or entries that are negative or NaN, wanted (draws, n) maps")
    if np.abs(maps.sum(1) - 1).max() > 1e-4:
        raise ValueError(f"{name} has rows that do not sum to 1 within 1e-4; normalise each draw before averaging")
    return maps / maps.sum(1, keepdims=True)
