"""What the scores of notebook 08 are held against: maps that know nothing, the mask, and denoising without noise."""

from dataclasses import replace

import pandas as pd
import torch

from fvit.base import rng
from fvit.experiments.bench import Bench
from fvit.metrics.perturbation import TENTHS, perturbation_curve

CONTROL_MAPS = ("random order", "constant map", "mask")
DENOISE = "denoise"  # smoothing of the rows: the ViT behind the denoiser alone, a deterministic function


def control_rows(bench: Bench, images, maps=CONTROL_MAPS) -> pd.DataFrame:
    """Perturbation hits of orders that no explanation made: tidy rows, `method` one of `maps`.

    images   as of `load_images`; "mask" ranks the pixels of the object first, ignored ones with the background, and
             needs images that have masks
    """
    shape = images.x.shape[2:]
    noise = [rng.numpy_generator(bench.seed, "random order", i).random(tuple(shape)) for i in images.ids]
    orders = {"random order": torch.stack([torch.from_numpy(z) for z in noise]),
              "constant map": torch.zeros(len(images), *shape)}
    if "mask" in maps:
        orders["mask"] = (images.mask == 1).double()
    frames = []
    for method in maps:
        for kind in ("positive", "negative"):
            hits = perturbation_curve(bench.vit, images.x, images.y, orders[method], kind, bench.eval_batch)
            frames += [_rows(bench, images, method, "none", "none", 0, f"{kind} {10 * t}", hits[:, t]) for t in TENTHS]
    return pd.concat(frames, ignore_index=True)


def all_controls(bench: Bench, images, radii, maps=CONTROL_MAPS) -> pd.DataFrame:
    """`control_rows` and `denoise_only_rows`."""
    return pd.concat([control_rows(bench, images, maps), denoise_only_rows(bench, images, radii)], ignore_index=True)


def denoise_only(bench: Bench):
    """The ViT behind the denoiser, told `bench.sigma`, with no noise added: images (B, 3, H, W) -> logits (B, C)."""
    return lambda x: bench.vit(bench.den(x, bench.sigma))


def denoise_only_rows(bench: Bench, images, radii) -> pd.DataFrame:
    """Is `denoise_only` right on clean images, on those attacked through the ViT alone, and through the denoiser?

    radii     linf, in [0, 1] pixel units
    returns   tidy rows, smoothing DENOISE, method "", metric "right"; attacks "prediction via vit" (transferred) and
              "prediction via denoise" (adaptive), with the steps of the bench; the former is that of `attack_rows`
    """
    model = denoise_only(bench)

    def right(x):
        with torch.no_grad():
            logits = torch.cat([model(part) for part in x.split(bench.eval_batch)])
        return logits.argmax(1), (logits.argmax(1).cpu() == images.y).double()

    predicted, hits = right(images.x)
    frames = [_rows(bench, images, "", DENOISE, "none", 0, "right", hits)]
    bare = bench.view("none", images.x, images.ids, ["raw_attention"])
    adaptive = replace(bench, vit=model, den=None)  # the same attack, on another function
    clean = type(bare)(torch.nn.functional.one_hot(predicted, bare.probs.shape[1]).double(), {})
    for through, on, view in (("vit", bench, bare), (DENOISE, adaptive, clean)):
        for eps in radii:
            x_adv = on.attack("prediction", "vit", images.x, images.ids, view, eps)
            frames.append(_rows(bench, images, "", DENOISE, f"prediction via {through}", eps, "right", right(x_adv)[1]))
    return pd.concat(frames, ignore_index=True)


def _rows(bench, images, method, smoothing, attack, eps, metric, values):
    return pd.DataFrame({
        "dataset": getattr(images, "name", "scenes"), "image_id": images.ids, "model": getattr(bench.vit, "name", ""),
        "method": method, "smoothing": smoothing, "sigma": bench.sigma if smoothing == DENOISE else 0.0, "n_samples": 1,
        "attack": attack, "eps": float(eps), "norm": "linf" if eps else "", "metric": metric, "value": values.cpu()})
