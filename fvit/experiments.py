"""The paper's experiments as rows: maps and predictions, with and without DDS, clean and under attack."""

import hashlib
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from fvit.attacks import explanation_loss, pgd, prediction_loss
from fvit.checks import check_choice
from fvit.explanations import METHODS, explain_pass, forward_pass
from fvit.memory import in_memory
from fvit.metrics import l2_change, rank_correlation, topk_overlap
from fvit.perturbation import TENTHS, perturbation_curve
from fvit.segmentation import segmentation_scores
from fvit.smoothing import DDS
from fvit.theory import renyi_divergence

AIMS = {"prediction": None, "explanation": "raw_attention", "rollout": "rollout"}  # aim of an attack -> map it moves
SEGMENTATION = "labelled inter_bg inter_fg average_precision f1".split()  # the other columns follow from these
REPREDICTED = " (re-predicted)"  # suffix of a metric whose map explains the class predicted under attack


@dataclass
class View:
    """What one model says of B images: `probs` (B, C), and method -> (B, h, w)."""

    probs: torch.Tensor
    maps: dict[str, torch.Tensor]

    @property
    def predicted(self) -> torch.Tensor:
        return self.probs.argmax(1)


@dataclass(frozen=True)
class Bench:
    """A ViT bare and behind DDS, at the sizes of a profile; `smoothing` is "none" or "dds" throughout.

    seed           evaluations of clean images draw from it; those of attacked ones from seed + 1, so that overlap is
                   never that of equal noise. Attacks draw from the streams "pgd" and "eot", which neither shares
    attack_draws   draws a step of an attack made through DDS (expectation over transformation)
    """

    vit: torch.nn.Module
    den: torch.nn.Module
    sigma: float
    n_samples: int
    k: int
    attack_steps: int
    attack_draws: int
    eval_batch: int = 64
    precision: str = "float32"
    seed: int = 0

    @property
    def settings(self) -> dict:
        """All that rows depend on besides code and images, for `blocks.run_blocks`: sizes, and digests of networks."""
        sizes = {name: value for name, value in vars(self).items() if name not in ("vit", "den")}
        return {**sizes, "networks": [network_digest(self.vit), network_digest(self.den)]}

    def smoother(self, seed: int) -> DDS:
        return DDS(self.vit, self.den, sigma=self.sigma, n_samples=self.n_samples, seed=seed,
                   batch_size=self.eval_batch, precision=self.precision)

    def view(self, smoothing, x, ids, methods, target=None, seed=None) -> View:
        """Maps of `methods` and the prediction; `target` (B,) fixes the class explained, None takes the predicted."""
        if check_choice(smoothing, ("none", "dds"), "smoothing") == "dds":
            found = self.smoother(self.seed if seed is None else seed)(x, ids=ids, method=list(methods), target=target)
            return View(next(iter(found.values())).probs.double(), {m: out.heatmap for m, out in found.items()})
        sized = SimpleNamespace(batch_size=self.eval_batch)
        return in_memory(lambda: self._bare(x, methods, target, sized.batch_size), sized)

    def _bare(self, x, methods, target, batch) -> View:
        parts = []
        for start in range(0, len(x), batch):
            rows = slice(start, start + batch)
            with torch.no_grad():
                record = forward_pass(self.vit, x[rows], methods)
                classes = record.logits.argmax(1) if target is None else target[rows]
                parts.append((record.logits.double().softmax(1), [explain_pass(record, m, classes) for m in methods]))
        probs, maps = zip(*parts, strict=True)
        return View(torch.cat(probs), dict(zip(methods, map(torch.cat, zip(*maps, strict=True)), strict=True)))

    def attack(self, aim, through, x, ids, clean: View, eps) -> torch.Tensor:
        """PGD (linf) on the prediction, or on the top-k of a map with the class held (AIMS), made on the ViT itself
        ("vit") or through the whole DDS ("dds"). `clean` is the view, by that model, of `x`."""
        model = self.vit if check_choice(through, ("vit", "dds"), "through") == "vit" else self.smoother(self.seed)
        method = AIMS[check_choice(aim, AIMS, "aim of an attack")]
        if method is None:
            loss = prediction_loss(model, clean.predicted, n_samples=self.attack_draws, ids=ids)
        else:
            loss = explanation_loss(model, clean.maps[method], self.k, keep_class=clean.predicted, method=method,
                                    n_samples=self.attack_draws, ids=ids)
        return pgd(loss, x, eps=eps, steps=self.attack_steps, seed=self.seed, ids=ids)


def network_digest(network) -> str:
    """sha256 over the weights and buffers of a network and the schedule of a denoiser; "" for a plain function."""
    if not isinstance(network, torch.nn.Module):
        return ""
    found = hashlib.sha256(getattr(network, "prediction_type", "").encode())
    found.update(np.asarray(getattr(network, "alphas_cumprod", ()), dtype=np.float64).tobytes())
    for name, values in sorted([*network.named_parameters(), *network.named_buffers()]):
        found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        found.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


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
