"""What scores are held against: maps that know nothing, the mask, maps made a second time, and other defences."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from fvit.base import rng
from fvit.experiments.attack_rows import Table, attack_rows, labels, perturbation
from fvit.experiments.bench import Bench, View
from fvit.metrics.maps import top_k, topk_overlap
from fvit.records.defence_names import check as check_defences
from fvit.records.defence_names import code
from fvit.records.rows import conform
from fvit.records.words import CONTROL_MAPS


def control_rows(bench: Bench, images, maps=CONTROL_MAPS) -> pd.DataFrame:
    """Perturbation hits of orders that no explanation made: tidy rows, `method` one of `maps`.

    images   as of `load_images`; "mask" ranks the pixels of the object first, ignored ones with the background, and
             needs images that have masks
    """
    shape = images.x.shape[2:]
    noise = [rng.numpy_generator(bench.seed, "random order", i).random(tuple(shape)) for i in images.ids]
    orders = {"random_order": torch.stack([torch.from_numpy(z) for z in noise]),
              "constant_map": torch.zeros(len(images), *shape)}
    if "mask" in maps:
        orders["mask"] = (images.mask == 1).double()
    table = Table(bench, images, ())
    for method in maps:
        table.put({"method": method}, **perturbation(bench, images, View(None, orders), None, method))
    return conform(pd.concat(table.frames), **labels(bench, images))


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
