"""What the scores of notebook 08 are held against: maps that know nothing, the mask, and denoising without noise."""

from dataclasses import replace

import pandas as pd
import torch

from fvit.base import rng
from fvit.experiments.attack_rows import Table, labels, perturbation
from fvit.experiments.bench import Bench, View
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


def all_controls(bench: Bench, images, radii, maps=CONTROL_MAPS) -> pd.DataFrame:
    """`control_rows` and `denoise_only_rows`."""
    return pd.concat([control_rows(bench, images, maps), denoise_only_rows(bench, images, radii)], ignore_index=True)


def denoise_only(bench: Bench):
    """The ViT behind the denoiser, told `bench.sigma`, with no noise added: images (B, 3, H, W) -> logits (B, C)."""
    return lambda x: bench.vit(bench.den(x, bench.sigma))


def denoise_only_rows(bench: Bench, images, radii) -> pd.DataFrame:
    """Is `denoise_only` right on clean images, on those attacked through the ViT alone, and through the denoiser?

    radii     linf, in [0, 1] pixel units
    returns   tidy rows, defence "denoise_only", method "", metric "right"; attacks on the prediction made on "vit"
              (transferred, as in `attack_rows`) and on "denoise_only" (adaptive), with the steps of the bench
    """
    model, table = denoise_only(bench), Table(bench, images, ())

    def look(x, **attack):
        with torch.no_grad():
            found = torch.cat([model(part) for part in x.split(bench.eval_batch)]).argmax(1)
        table.put({"defence": "denoise_only", **attack}, right=(found.cpu() == images.y).double())
        return found

    predicted = look(images.x)
    bare = bench.view("none", images.x, images.ids, ["raw_attention"])
    adaptive = replace(bench, vit=model, den=None)  # the same attack, on another function
    clean = View(torch.nn.functional.one_hot(predicted.cpu(), bare.probs.shape[1]).double(), {})
    for made_on, on, view in (("vit", bench, bare), ("denoise_only", adaptive, clean)):
        for eps in radii:
            x_adv = on.attack("prediction", "vit", images.x, images.ids, view, eps)
            look(x_adv, aim="prediction", made_on=made_on, eps=float(eps))
    return conform(pd.concat(table.frames), **labels(bench, images))
