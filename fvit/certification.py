"""Certificates from finitely many draws: a radius that holds with a stated probability, or none."""

import copy
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np
import torch

from fvit.base.checks import as_list, check_array, check_choice, check_count, check_flag, check_k, check_number
from fvit.explanations.own import method_name
from fvit.explanations.passes import check_method
from fvit.theory.bounds import dkw_margin, mean_bound, rate_bound
from fvit.theory.cdf_radii import cdf_rho
from fvit.theory.divergences import tokens_to_break
from fvit.theory.radii import OF_A_MEAN, certified_radius, coordinate_rho, renyi_rho, sharp_rho

ABSTAIN = -1.0
FAILURE = "failure_prob", "(0, 1)", "e.g. 1e-3"
CERTIFICATES = ("votes", "clipped", "cdf", "sharp", "renyi")
LOOKS = ((1 / 8, 1 / 6), (1 / 4, 1 / 6), (1 / 2, 1 / 6), (1, 1 / 2))  # share of the draws, share of failure_prob
HOPE = 0.5  # that a limit in favour of a token is wrong, by which `certify_until` gives an image up


def certify(dds, x, k, beta, n_samples, failure_prob, ids=None, method="raw_attention", target=None,
            certificate="votes", plugin=(), prediction=False, until=None):
    """Radius around each image within which a share `beta` of its shown top-k tokens stays in the top-k.

    The shown set is the top-k of the certificate's own map over the draws that `dds` itself makes, the pilot: for
    "sharp" and "renyi" of `dds(x, ids).heatmap`, for "votes" of the same with aggregate="votes". The n_samples draws
    that bound come from streams of their own ("certify"), so that the choice of the set costs nothing.

    x             (B, 3, H, W) in [0, 1]
    beta          overlap to keep, or a list of them
    n_samples     draws that bound, an image, or a list: the first so many of one sample. Fixed beforehand: raising it
                  after a look, or picking the best of a list, voids failure_prob
    failure_prob  probability, over the draws, that a radius is wrong: each in the answer by itself
    target        (B,) class explained, for class-specific methods: a constant, chosen without looking at x
    certificate   one of CERTIFICATES, a list of them on the same draws, or "all". Each speaks of its own map:
                  "votes": share of draws with the token in their top-k, by exact binomial bounds;
                  "clipped": mean of min(map, c), c twice the pilot's k-th value, by betting bounds, token by token;
                  "cdf": the same map by bounds of each token's whole law;
                  "sharp", "renyi": the mean map, by betting bounds in the sharp and in the divergence certificate
    plugin        "votes" and certificates of `certified_radius`, to compare: what the mean of all draws would give if
                  it were exact, in rows of metric "plugin_radius"; they guarantee nothing, their failure_prob is 1.
                  A share of votes counts as half a draw from 0 and from 1 at least, which keeps its radius finite
    prediction    also certify the class that the pilot predicts, from the same draws: by itself, in rows of metric
                  "label_radius" (level NaN), and together with the top-k, in rows of "joint_radius", within which
                  neither is lost. Of "votes" it is the class that most draws predict, of the others that of the mean
                  probabilities; a column `label` names it. A joint radius is the lesser of the two, and for one beta
                  wrong with probability at most failure_prob, undivided: it is wrong only where the half that truly
                  breaks first is. To state several radii of an image, divide by their number
    until         a radius as in the answer: an image is done once its own reaches it, or once even limits in favour of
                  every token, each as likely wrong as right, would not (a futility stop, which claims nothing). Looks
                  are taken after an eighth, a quarter, half and all of n_samples, and share failure_prob (LOOKS); of
                  each image the best radius and the draws it took are stated. For one certificate, beta and number of
                  draws, without plugin and prediction
    returns       DataFrame, a row for each image, certificate, n_samples and beta: image_id, model, method, defence,
                  sigma, norm, k, n_pilot, metric ("radius"), certificate, n_samples, failure_prob, level (beta) and
                  radius (l2, in [0, 1] pixel units; every smaller one is certified; ABSTAIN = -1 where none is)

    The guarantee is on the expected map at every image within the radius, with this image's c, and not on an average
    over frozen seeds. To pick the best of several radii, or speak of several at once, divide failure_prob by how many.
    As all randomised smoothing it takes float arithmetic for exact.
    Raises ValueError for bad images, k, beta, n_samples, failure_prob, names, sigma = 0, or a missing target.
    Source: ours (docs/theory.md, Theorems 3, 5 and 6, Proposition 14), in the line of Cohen et al. 2019. Taught in
    notebook 07.
    """
    import pandas as pd  # late: only tables need it

    if not hasattr(dds, "check"):
        raise ValueError(f"dds is a {type(dds).__name__}, wanted a fvit.DDS(vit, den, sigma)")
    ids, target = dds.check(x, ids, [method], target)
    several = CERTIFICATES if certificate == "all" else certificate, beta, n_samples
    names, betas, sizes = ([one] if as_list(one) is None else as_list(one) for one in several)
    if not (names and betas and sizes):
        raise ValueError(f"certificate={certificate}, beta={beta}, n_samples={n_samples}: an empty list asks nothing")
    for name in names:
        check_choice(name, CERTIFICATES, "certificate")
    k = check_k(k, int(np.prod(dds.vit.grid)))
    if dds.sigma == 0:
        raise ValueError("sigma=0 adds no noise, and without noise nothing is certified; give the DDS a sigma > 0")
    if target is None and check_method(method).class_specific:
        raise ValueError(f"method {method!r} explains a class: give target (B,), constants chosen without looking at x")
    sizes, failure_prob = [check_count(n, "n_samples") for n in sizes], check_number(failure_prob, *FAILURE)
    check_flag(prediction, "prediction")
    _check_until(until, names, betas, sizes, plugin, prediction)
    sampler = copy.copy(dds)
    sampler.draws = "independent"  # pairs are half as many units, which costs more than their smaller variance gives
    for name in plugin:
        check_choice(name, ("votes", *OF_A_MEAN), "certificate of plugin")
    levels = [float(Fraction(str(b))) for b in betas if tokens_to_break(k, b)]  # which refuses what is no share
    rows = []
    for i, image_id in enumerate(ids):
        one, of = (x[i:i + 1], image_id), (method, None if target is None else target[i:i + 1])
        pilot, drawn = _draw(dds, *one, "dds", range(dds.n_samples), *of), None
        shared = {"image_id": image_id, "model": str(getattr(dds.vit, "name", "")), "method": method_name(method),
                  "defence": "dds" if dds.denoises else "noise_only", "sigma": dds.sigma, "norm": "l2", "k": k,
                  "n_pilot": dds.n_samples}
        found = []  # (metric, certificate, draws, failure_prob, [level], [radius over sigma])
        if until is None:
            drawn = _draw(sampler, *one, "certify", range(max(sizes)), *of)
        else:
            rho, n = certify_until(lambda at, one=one, of=of: _draw(sampler, *one, "certify", at, *of)[0], pilot[0], k,
                                   betas[0], sizes[0], failure_prob, until / dds.sigma, names[0])
            found.append(("radius", names[0], n, failure_prob, levels, [rho]))
        for name, n in product(names, sizes) if until is None else ():
            rho = certify_draws(pilot[0], drawn[0][:n], k, betas, failure_prob, name)
            found.append(("radius", name, n, failure_prob, levels, rho))
            if prediction:
                label = certify_label(pilot[1], drawn[1][:n], failure_prob, name)
                found.append(("label_radius", name, n, failure_prob, [np.nan], [label]))
                found.append(("joint_radius", name, n, failure_prob, levels, np.minimum(rho, label)))
        found += [("plugin_radius", name, max(sizes), 1.0, levels,
                   [_as_if_exact(drawn[0], k, b, name) for b in betas]) for name in plugin]
        rows += [{**shared, "metric": metric, "certificate": name, "n_samples": n, "failure_prob": p, "level": level,
                  "radius": ABSTAIN if metric != "plugin_radius" and r <= 0 else dds.sigma * r}
                 | ({"label": shown_label(pilot[1], name)} if prediction else {})
                 for metric, name, n, p, at, rho in found for level, r in zip(at, rho, strict=True)]
    return pd.DataFrame(rows)


def _check_until(until, names, betas, sizes, plugin, prediction):
    if until is None:
        return
    check_number(until, "until", "(0, inf)", "a radius in [0, 1] pixel units")
    if max(map(len, (names, betas, sizes))) > 1 or plugin or prediction:
        raise ValueError("until= asks for one certificate, one beta and one n_samples, without plugin or prediction; "
                         "leave it out to have several")


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
    """The same from the maps themselves: (len(betas),) radii in units of sigma, 0 where nothing is certified.

    pilot    (n_pilot, n) maps that choose the shown set, independent of the others
    draws    (n_samples, n) maps at the same image, each non-negative with sum 1, independent of one another
    Other arguments as `certify`; `shown_set` is the set they speak of.
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


def _as_if_exact(draws, k, beta, name):
    """The radius, in units of sigma, that the mean of the draws would give if it were exact."""
    if name != "votes":
        return certified_radius(draws.mean(0), k, beta, 1.0, certificate=name)
    n, k0, half = draws.shape[1], tokens_to_break(k, beta), 0.5 / len(draws)
    share = np.sort(votes(draws, k).mean(0).clip(half, 1 - half))
    return np.inf if k0 > min(k, n - k) else coordinate_rho(share[n - k:][:k0], share[:n - k][-k0:])


def certify_label(pilot, draws, failure_prob, certificate="votes"):
    """Radius, in units of sigma, within which the class `shown_label(pilot, certificate)` stays the predicted one, 0
    where nothing is certified: its share of draws, or its mean probability, stays above 1/2.

    pilot, draws   (n_pilot, C), (n_samples, C) class probabilities, independent; other arguments as `certify`

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


def draw_maps(dds, x, image_id, purpose, n_samples, method="raw_attention", target=None):
    """Maps (n_samples, tokens), float64, of one image x (1, 3, H, W), one for each draw of the streams `purpose`.

    "dds" are the draws of the map that is shown, "certify" those that bound; a portion of draws at a time.
    """
    return _draw(dds, x, image_id, purpose, range(n_samples), method, target)[0]


def _draw(dds, x, image_id, purpose, draws, method, target):
    """(maps, class probabilities) of draws, by their indices, as of `draw_maps`."""
    size = dds.batch_size
    with torch.no_grad():
        parts = [dds.maps(x, ids=[image_id], method=method, target=target, purpose=purpose,
                          draws=draws[at:at + size]) for at in range(0, len(draws), size)]
    return [torch.cat([values[0].flatten(1) for values in part]).cpu().double().numpy()
            for part in zip(*parts, strict=True)]


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
