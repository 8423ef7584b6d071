"""Certificates from finitely many draws: a radius that holds with a stated probability, or none."""

import copy
from fractions import Fraction
from itertools import product

import numpy as np
import torch

from fvit.base.checks import as_list, check_choice, check_count, check_flag, check_k, check_number
from fvit.explanations.own import method_name
from fvit.explanations.passes import check_method
from fvit.theory.divergences import tokens_to_break
from fvit.theory.from_draws import (
    CERTIFICATES,
    FAILURE,
    as_if_exact,
    certify_draws,
    certify_label,
    certify_until,
    judged,
    shown_label,
    shown_set,
    votes,
)
from fvit.theory.radii import OF_A_MEAN

__all__ = ["CERTIFICATES", "certify", "certify_draws", "certify_label", "certify_until", "draw_maps", "judged",
           "shown_label", "shown_set", "votes"]
ABSTAIN = -1.0


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
                   [as_if_exact(drawn[0], k, b, name) for b in betas]) for name in plugin]
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
