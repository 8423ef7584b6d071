"""What scores are held against: maps that know nothing, the mask, maps made a second time, and other defences."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import torch

from fvit.base import rng
from fvit.experiments.attack_rows import Table, attack_rows, labels, perturbation
from fvit.experiments.bench import Bench, View
from fvit.metrics.maps import top_k, topk_overlap
from fvit.metrics.perturbation import FILLS, perturbation_curve
from fvit.records.defence_names import check as check_defences
from fvit.records.defence_names import code
from fvit.records.rows import conform
from fvit.records.words import CONTROL_MAPS

KNOWN_MAPS = {"mask": True, "occlusion": True, "random_order": False, "inverted_mask": False}  # name -> is it good


def control_rows(bench: Bench, images, maps=CONTROL_MAPS) -> pd.DataFrame:
    """Perturbation hits of orders that no explanation made: tidy rows, `method` one of `maps`.

    images   as of `load_images`; "mask" ranks the pixels of the object first, ignored ones with the background, and
             needs images that have masks
    """
    orders = {"random_order": _random_order(bench, images),
              "uniform_map": torch.zeros(len(images), *images.x.shape[2:])}
    if "mask" in maps:
        orders["mask"] = (images.mask == 1).double()
    table = Table(bench, images, ())
    for method in maps:
        table.put({"method": method}, **perturbation(bench, images, View(None, orders), None, method))
    return conform(pd.concat(table.frames), **labels(bench, images))


def fill_rows(bench: Bench, images, fills=tuple(FILLS), patches=(1, 4)) -> pd.DataFrame:
    """Perturbation hits of maps that are known to be good and to be bad, with each fill and square: does the test tell
    them apart? Tidy rows, `method` one of KNOWN_MAPS, `variant` the fill and the side of the squares: "blur, 4".

    images   as of `load_images`, with masks

    "mask" ranks the object first, "inverted_mask" last, "random_order" knows nothing, and "occlusion" is the drop of
    the probability of y as rectangles are filled one at a time, with the same fill (`occlusion_map`).
    """
    known = {"mask": (images.mask == 1).double(), "inverted_mask": (images.mask != 1).double(),
             "random_order": _random_order(bench, images)}
    table = Table(bench, images, ())
    for fill in fills:
        maps = known | {"occlusion": occlusion_map(bench.vit, images.x, images.y, fill, bench.eval_batch)}
        for patch, method in product(patches, KNOWN_MAPS):
            hits = {kind: perturbation_curve(bench.vit, images.x, images.y, maps[method], kind, bench.eval_batch, fill,
                                             patch) for kind in ("positive", "negative")}
            table.put({"method": method, "variant": f"{fill}, {patch}"}, **hits)
    return conform(pd.concat(table.frames), **labels(bench, images))


@torch.no_grad()
def occlusion_map(vit, x, y, fill="black", batch_size=64) -> torch.Tensor:
    """How much of the probability of y goes with each of 8 rows of 8 equal rectangles: (B, 8, 8), on the CPU.

    x, y   (B, 3, H, W) in [0, 1], (B,) classes
    fill   what stands in the place of a rectangle, a name of `perturbation.FILLS`

    Raises ValueError for sides that 8 does not divide. Source: Zeiler and Fergus 2014.
    """
    if any(side % 8 for side in x.shape[2:]):
        raise ValueError(f"occlusion_map fills 8 x 8 equal rectangles, got images of {tuple(x.shape[2:])} pixels; "
                         "wanted sides that 8 divides")
    height, width = (side // 8 for side in x.shape[2:])
    parts = []
    for x_part, y_part in zip(x.split(batch_size), y.to(x.device).split(batch_size), strict=True):
        lost = []
        for row, column in product(range(8), range(8)):
            removed = torch.zeros_like(x_part[:, :1], dtype=torch.bool)
            removed[:, :, row * height:(row + 1) * height, column * width:(column + 1) * width] = True
            probs = vit(torch.where(removed, FILLS[fill](x_part, removed), x_part)).softmax(1)
            lost.append(-probs.gather(1, y_part[:, None])[:, 0])
        parts.append(torch.stack(lost, 1).unflatten(1, (8, 8)))
    return torch.cat(parts).cpu()


def _random_order(bench, images):
    shape = tuple(images.x.shape[2:])
    return torch.stack([torch.from_numpy(rng.numpy_generator(bench.seed, "random order", i).random(shape))
                        for i in images.ids])


def all_controls(bench: Bench, images, radii, maps=CONTROL_MAPS, defences=("denoise_only",)) -> pd.DataFrame:
    """`control_rows`, and whether other defences than bare and DDS are right: rows of metric "right" and method "",
    on clean images and under attacks on the prediction, transferred and their own.

    radii      linf, in [0, 1] pixel units
    defences   names as of `attack_rows`
    """
    if not defences:
        return control_rows(bench, images, maps)
    rows = attack_rows(bench, images, methods=[], attacks=[["prediction", "vit"], ["prediction", "own"]], radii=radii,
                       measures=[], defences=defences)
    return pd.concat([control_rows(bench, images, maps), rows[rows["metric"] == "right"]], ignore_index=True)


def repeat_rows(bench: Bench, images, methods, defences=("none",)) -> pd.DataFrame:
    """How far a map is itself again where nothing changes but the batch: rows of aim "repeat" and metric
    "topk_overlap", of the maps of a block against those of each image alone, with the same draws.

    What is below 1 is rounding. LRP divides by sums that nearly cancel, so in float32 its maps do not repeat exactly;
    no overlap under attack can be read without this one.
    """
    named = {code(name): name for name in check_defences(defences)}
    table, alone = Table(bench, images, (), named), replace(bench, eval_batch=1)
    for defence, name in named.items():
        first = bench.view(name, images.x, images.ids, methods)
        again = alone.view(name, images.x, images.ids, methods, first.predicted)
        for method in methods:
            table.put({"defence": defence, "aim": "repeat", "method": method, "explained": "fixed"},
                      topk_overlap=topk_overlap(first.maps[method], again.maps[method], bench.k).cpu())
    return conform(pd.concat(table.frames), **labels(bench, images))


def no_information_rows(bench: Bench, images, methods, defences=("none",)) -> pd.DataFrame:
    """The overlap that maps share which know nothing of each other's image: what is kept below it is nothing.

    returns   tidy rows of clean maps. Aim "other_image", metric "topk_overlap": the mean overlap of an image's map
              with those of all images of other groups (photographs). Defence "constant_map", metric "fidelity": that
              of the bare map with the mean map of those images

    All images are to be given at once, for a level over a block would hang on its size. Raises ValueError where all
    images are of one group.
    """
    groups = np.asarray(images.groups)
    other = torch.from_numpy(groups[:, None] != groups).double()  # (B, B)
    if not other.any(1).all():
        raise ValueError(f"all {len(groups)} images are of one group, {images.groups[0]!r}; give images of several")
    other = other / other.sum(1, keepdim=True)
    named = {code(name): name for name in check_defences(["none", *defences])}
    table = Table(bench, images, (), named)
    for defence, name in named.items():
        view = bench.view(name, images.x, images.ids, methods)
        for method in methods:
            maps = view.maps[method].double().cpu()
            if defence in map(code, defences):
                top = torch.zeros_like(maps.flatten(1)).scatter_(1, top_k(maps, bench.k), 1)
                table.put({"defence": defence, "aim": "other_image", "method": method, "explained": "fixed"},
                          topk_overlap=(top @ top.T / bench.k * other).sum(1))
            if defence == "none":
                constant = (other @ maps.flatten(1)).view_as(maps)
                table.put({"defence": "constant_map", "method": method, "explained": "fixed"},
                          fidelity=topk_overlap(maps, constant, bench.k))
    return conform(pd.concat(table.frames), **labels(bench, images))
