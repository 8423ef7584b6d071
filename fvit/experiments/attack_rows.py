"""The paper's experiments as rows: maps and predictions, with and without DDS, clean and under attack."""

from dataclasses import replace

import numpy as np
import pandas as pd

from fvit.base.checks import check_choice
from fvit.experiments.bench import AIMS, Bench
from fvit.explanations.methods import METHODS
from fvit.metrics.maps import l2_change, rank_correlation, topk_overlap
from fvit.metrics.perturbation import TENTHS, perturbation_curve
from fvit.metrics.segmentation import SEGMENTATION, segmentation_scores
from fvit.records.rows import REPREDICTED
from fvit.theory.divergences import renyi_divergence


def attack_rows(bench: Bench, images, *, methods, attacks, radii, measures) -> pd.DataFrame:
    """Rows of every measure for `images`, bare and with DDS: clean, fresh noise, and each attack at each radius.

    images     as of `load_images`: x, y, mask, ids
    methods    names of METHODS; attacks that aim at one map are measured on that map alone ("rollout" on rollout)
    attacks    pairs (aim, through), see `Bench.attack`; in the rows their name is "prediction via vit" and the like.
               Made on the ViT an attack is the ViT's own, and transferred for DDS; made through DDS it is adaptive
    radii      linf, in [0, 1] pixel units; 0 is the clean image, always measured
    measures   names of MEASURES

    The class explained is the one predicted on the clean image. Under attack, class-specific methods are measured a
    second time with the class predicted then: metrics with the suffix REPREDICTED.
    Rows of attack "none" hold the clean scores, with `fidelity`, the overlap with the bare clean map; those of "fresh
    noise" the clean image met by other draws: the ceiling of every stability score of DDS.
    """
    table = _Table(bench, images, measures)
    needed = list(dict.fromkeys([*methods, *(AIMS[aim] for aim, _ in attacks if AIMS[aim])]))
    clean = {s: bench.view(s, images.x, images.ids, needed) for s in ("none", "dds")}
    for smoothing, view in clean.items():
        table.add(smoothing, "none", 0.0, view, methods)
        for method in methods:
            table.put(smoothing, "none", 0.0, method, fidelity=table.overlap(clean["none"], view, method))
    again = bench.view("dds", images.x, images.ids, methods, clean["dds"].predicted, bench.seed + 1)
    table.add("dds", "fresh noise", 0.0, again, methods, clean["dds"])
    for aim, through in attacks:
        for eps in (eps for eps in radii if eps > 0):
            made_on = clean["none" if through == "vit" else "dds"]
            x_adv = bench.attack(aim, through, images.x, images.ids, made_on, eps)
            shown = ["rollout"] if aim == "rollout" else list(methods)
            for smoothing in ("none", "dds") if through == "vit" else ("dds",):
                _add_attacked(table, smoothing, f"{aim} via {through}", eps, x_adv, shown, clean[smoothing])
    return table.rows()


def _add_attacked(table, smoothing, attack, eps, x_adv, methods, before):
    bench, ids, seed = table.bench, table.images.ids, table.bench.seed + 1
    after = bench.view(smoothing, x_adv, ids, methods, before.predicted, seed)
    table.add(smoothing, attack, eps, after, methods, before)
    specific = [m for m in methods if METHODS[m].class_specific]
    if not specific:
        return
    maps = {m: after.maps[m].clone() for m in specific}
    changed = (after.predicted != before.predicted).nonzero()[:, 0]
    if len(changed):
        some = [ids[i] for i in changed.tolist()]
        for m, v in bench.view(smoothing, x_adv[changed], some, specific, after.predicted[changed], seed).maps.items():
            maps[m][changed] = v
    table.add(smoothing, attack, eps, replace(after, maps=maps), specific, before, suffix=REPREDICTED)


class _Table:
    """Collects rows: one for each image, method and metric."""

    def __init__(self, bench, images, measures):
        self.bench, self.images, self.frames = bench, images, []
        self.measures = [MEASURES[check_choice(name, MEASURES, "measure")] for name in measures]

    def add(self, smoothing, attack, eps, view, methods, before=None, suffix=""):
        """All measures of a view; `before` is the clean view of the same model, None where this is it."""
        if not suffix:
            self.put(smoothing, attack, eps, "", **_predictions(view, self.images, before))
        for method in methods:
            found = {}
            for measure in self.measures:
                found |= measure(self.bench, self.images, view, before, method)
            self.put(smoothing, attack, eps, method, **{name + suffix: values for name, values in found.items()})

    def put(self, smoothing, attack, eps, method, **metrics):
        smoothed = smoothing != "none"
        for metric, values in metrics.items():
            self.frames.append(pd.DataFrame({
                "dataset": getattr(self.images, "name", "scenes"), "image_id": self.images.ids,
                "model": getattr(self.bench.vit, "name", ""), "method": method, "smoothing": smoothing,
                "sigma": self.bench.sigma if smoothed else 0.0, "n_samples": self.bench.n_samples if smoothed else 1,
                "attack": attack, "eps": float(eps), "norm": "linf" if eps else "", "metric": metric,
                "value": np.asarray(values, dtype=np.float64)}))

    def overlap(self, a, b, method):
        return topk_overlap(a.maps[method], b.maps[method], self.bench.k).cpu()

    def rows(self):
        return pd.concat(self.frames, ignore_index=True)


def _predictions(view, images, before):
    found = {"predicted": view.predicted.cpu(), "right": (view.predicted.cpu() == images.y).double()}
    if before is not None:
        found["class_kept"] = (view.predicted == before.predicted).double().cpu()
        found["renyi_divergence"] = renyi_divergence(before.probs.cpu().numpy(), view.probs.cpu().numpy(), order=2)
    return found


def _stability(bench, images, view, before, method):
    """Against the clean map of the same model; nothing where this is the clean map."""
    if before is None:
        return {}
    a, b = before.maps[method], view.maps[method]
    return {"topk_overlap": topk_overlap(a, b, bench.k).cpu(), "rank_correlation": rank_correlation(a, b).cpu(),
            "l2_change": l2_change(a, b).cpu()}


def _segmentation(bench, images, view, before, method):
    scores = segmentation_scores(view.maps[method], images.mask)
    return {name: scores[name] for name in SEGMENTATION}


def _perturbation(bench, images, view, before, method):
    """Hits of the bare ViT as pixels of the *clean* image are removed in the order of the map."""
    hits = {kind: perturbation_curve(bench.vit, images.x, images.y, view.maps[method], kind, bench.eval_batch)
            for kind in ("positive", "negative")}
    return {f"{kind} {10 * tenths}": curve[:, tenths] for kind, curve in hits.items() for tenths in TENTHS}


MEASURES = {"stability": _stability, "segmentation": _segmentation, "perturbation": _perturbation}
