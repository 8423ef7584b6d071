"""The paper's experiments as rows: maps and predictions, with and without DDS, clean and under attack."""

from dataclasses import replace

import numpy as np
import pandas as pd

from fvit.base.checks import check_choice
from fvit.experiments.bench import FREE, MOVED, OTHER, Bench, corner
from fvit.experiments.defences import is_random, levels
from fvit.explanations.methods import METHODS
from fvit.metrics.maps import l2_change, rank_correlation, top_k, topk_overlap
from fvit.metrics.perturbation import TENTHS, perturbation_curve
from fvit.metrics.segmentation import SEGMENTATION, segmentation_scores
from fvit.models.weight_files import network_digest
from fvit.records.defence_names import check as check_defences
from fvit.records.defence_names import code
from fvit.records.rows import conform
from fvit.theory.divergences import renyi_divergence


def attack_rows(bench: Bench, images, *, methods, attacks, radii, measures, defences=("none", "dds")) -> pd.DataFrame:
    """Rows of every measure for `images` behind each defence: clean, fresh noise, and each attack at each radius.

    images     as of `load_images`: x, y, mask, ids
    methods    names of METHODS. The attacks "explanation" and "explanation_free", on raw attention, are measured on all
               of them; one that aims at the map of another method, whose name it has ("gradcam"), and "corner" on the
               map that they move
    attacks    pairs (aim, made_on), see `Bench.attack`. Made on the ViT ("vit") an attack is the ViT's own, and
               transferred for all others; made on a defence it is that one's own, adaptive. "own" stands for each of
               the defences but "none". Made on another ViT, "vit:SOURCE" with SOURCE as of `load_vit`, it moves what
               that one shows and predicts, and is transferred for all; rows name it by its own name, "vit:NAME"
    radii      linf, in [0, 1] pixel units; 0 is the clean image, always measured
    measures   names of MEASURES
    defences   names as of `records.defence_names.check`; "none" is the bare ViT
    returns    tidy rows. Those of aim "none" hold the clean scores, with `fidelity`; those of "fresh_noise" the clean
               image met by other draws: the ceiling of every stability score of a defence that adds noise

    Maps explain the class predicted on the clean image (`explained` "fixed"). Under attack, class-specific methods are
    measured a second time with the class predicted then ("re-predicted").
    """
    named = {code(name): name for name in check_defences(defences)}
    own = [defence for defence in named if defence != "none"]
    attacks = [(aim, on) for aim, made_on in attacks for on in (own if made_on == "own" else [made_on])]
    others = _others(bench, [on for _, on in attacks if on.startswith(OTHER)])
    attacks = [(aim, on if on in others else code(on)) for aim, on in attacks]
    for aim, made_on in attacks:
        check_choice(aim, MOVED, "aim of an attack")
        check_choice(made_on, ["vit", *own, *others], "model that an attack is made on")
    table = Table(bench, images, measures, named)
    needed = list(dict.fromkeys([*methods, *(MOVED[aim] for aim, _ in attacks if MOVED[aim])]))
    clean = {d: table.view(d, images.x, images.ids, needed) for d in dict.fromkeys(["none", *named])}
    for defence in named:
        table.add({"defence": defence}, clean[defence], methods)
        for method in methods:
            kept = topk_overlap(clean["none"].maps[method], clean[defence].maps[method], bench.k)
            table.put({"defence": defence, "method": method, "explained": "fixed"}, fidelity=kept)
    for defence in table.noisy:
        again = table.view(defence, images.x, images.ids, methods, clean[defence].predicted, bench.seed + 1)
        table.add({"defence": defence, "aim": "fresh_noise"}, again, methods, clean[defence])
    for on, other in others.items():
        clean[on] = other.view("none", images.x, images.ids, needed)
    for aim, made_on in attacks:
        for eps in (eps for eps in radii if eps > 0):
            before = clean["none" if made_on == "vit" else made_on]
            maker, through = (others[made_on], "vit") if made_on in others else (bench, named.get(made_on, made_on))
            x_adv = maker.attack(aim, through, images.x, images.ids, before, eps)
            shown = list(methods) if aim in ("prediction", "explanation", FREE) else [MOVED[aim]]
            for defence in [made_on] if made_on in own else named:
                about = {"defence": defence, "aim": aim, "eps": float(eps),
                         "made_on": OTHER + maker.vit.name if made_on in others else made_on}
                _add_attacked(table, about, x_adv, shown, clean[defence])
    return conform(pd.concat(table.frames), **labels(bench, images))


def _others(bench, named):
    """{made_on: bench} of other ViTs; ValueError for one that is this ViT, and for two of one name."""
    found = {made_on: bench.on_vit(made_on) for made_on in named}
    for made_on, other in found.items():
        if network_digest(other.vit) == network_digest(bench.vit):
            raise ValueError(f"made_on={made_on!r} is the ViT itself, on which an attack is its own; use 'vit'")
        if len(same := [on for on, another in found.items() if another.vit.name == other.vit.name]) > 1:
            raise ValueError(f"{' and '.join(same)} would both be vit:{other.vit.name} in the rows; rename one of them")
    return found


def kept_rows(bench: Bench, images, clean: dict, met: dict, named: dict) -> pd.DataFrame:
    """Rows of what defences keep of the top k of raw attention, and of fidelity, from maps that were made already.

    The attacks are free to change the class.

    clean     {defence: its maps (B, h, w) of the clean images}; that of "none" is what fidelity is held against
    met       {(defence, made_on): its maps of what it met}: the attack made on `made_on`; "": no attack, other draws
    named     {code: name} of the defences
    returns   a column photograph beside those of rows, for `Experiment.save`
    """
    pairs = []
    for defence, own in clean.items():
        pairs += [(defence, "topk_overlap", FREE if made_on else "fresh_noise", made_on, own, heat)
                  for (of, made_on), heat in met.items() if of == defence]
        pairs.append((defence, "fidelity", "none", "", own, clean["none"]))
    levels_of = {defence: bench.levels(named.get(defence, "none")) for defence in clean}
    return pd.concat([pd.DataFrame({
        "image_id": images.ids, "photograph": images.groups, "defence": defence, "aim": aim, "made_on": made_on,
        "metric": metric, **levels_of[defence], "value": topk_overlap(one, other, bench.k).cpu()})
        for defence, metric, aim, made_on, one, other in pairs], ignore_index=True)


def labels(bench: Bench, images) -> dict:
    """What the rows of `images` have in common, for `rows.conform`."""
    return {"dataset": getattr(images, "name", "scenes"), "model": getattr(bench.vit, "name", ""), "norm": "linf",
            "sigma": bench.sigma, "n_samples": bench.n_samples, "k": bench.k}


def _add_attacked(table, about, x_adv, methods, before):
    ids, seed = table.images.ids, table.bench.seed + 1
    after = table.view(about["defence"], x_adv, ids, methods, before.predicted, seed)
    table.add(about, after, methods, before)
    specific = [m for m in methods if METHODS[m].class_specific]
    if not specific:
        return
    maps = {m: after.maps[m].clone() for m in specific}
    changed = (after.predicted != before.predicted).nonzero()[:, 0]
    if len(changed):
        some = [ids[i] for i in changed.tolist()]
        anew = table.view(about["defence"], x_adv[changed], some, specific, after.predicted[changed], seed)
        for m, v in anew.maps.items():
            maps[m][changed] = v
    table.add(about, replace(after, maps=maps), specific, before, "re-predicted")


class Table:
    """Collects rows: one for each image, method and metric; `named` are the defences, {code: name}."""

    def __init__(self, bench, images, measures, named=()):
        self.bench, self.images, self.frames, self.named = bench, images, [], dict(named)
        self.measures = [MEASURES[check_choice(name, MEASURES, "measure")] for name in measures]
        made = {d: bench.defence(name) for d, name in self.named.items() if d != "none"}
        self.noisy = [d for d, defence in made.items() if is_random(defence)]
        self.columns = {d: levels(defence) for d, defence in made.items()}

    def view(self, defence, *what):
        return self.bench.view(self.named.get(defence, defence), *what)

    def add(self, about, view, methods, before=None, explained="fixed"):
        """All measures of a view; `before` is the clean view of the same model, None where this is it."""
        if explained == "fixed":
            self.put(about, **_predictions(view, self.images, before))
        for method in methods:
            for measure in self.measures:
                self.put(about | {"method": method, "explained": explained},
                         **measure(self.bench, self.images, view, before, method))

    def put(self, about, **metrics):
        """Values (B,) of each metric, or (B, 11): one at each share removed."""
        about = about | self.columns.get(about.get("defence"), {})
        for metric, values in metrics.items():
            values = np.asarray(values, dtype=np.float64)
            for level, column in [(np.nan, values)] if values.ndim == 1 else zip(SHARES, values.T, strict=True):
                self.frames.append(pd.DataFrame({"image_id": self.images.ids, "level": level, **about,
                                                 "metric": metric, "value": column}))


def _predictions(view, images, before):
    found = {"predicted": view.predicted, "right": (view.predicted == images.y).double()}
    if before is not None:
        found["class_kept"] = (view.predicted == before.predicted).double()
        found["renyi_divergence"] = renyi_divergence(before.probs.numpy(), view.probs.numpy(), order=2)
    return found


def _stability(bench, images, view, before, method):
    """Against the clean map of the same model; nothing where this is the clean map."""
    if before is None:
        return {}
    a, b = before.maps[method], view.maps[method]
    return {"topk_overlap": topk_overlap(a, b, bench.k), "rank_correlation": rank_correlation(a, b),
            "l2_change": l2_change(a, b)}


def _corner(bench, images, view, before, method):
    """How much of the top-k lies where the aim "corner" moves it to."""
    inside = corner(bench.vit.grid, bench.k).flatten()
    return {"in_corner": inside[top_k(view.maps[method], bench.k).cpu()].double().mean(1)}


def _segmentation(bench, images, view, before, method):
    return dict(segmentation_scores(view.maps[method], images.mask)[[*SEGMENTATION]])


def perturbation(bench, images, view, before, method):
    """Hits (B, 11) of the bare ViT as pixels of the *clean* image are removed in the order of the map."""
    return {kind: perturbation_curve(bench.vit, images.x, images.y, view.maps[method], kind, bench.eval_batch)
            for kind in ("positive", "negative")}


SHARES = [tenths / 10 for tenths in TENTHS]
MEASURES = {"stability": _stability, "corner": _corner, "segmentation": _segmentation, "perturbation": perturbation}
