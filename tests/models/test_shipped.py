"""The shipped models: what they reach, against the floor that is asked and against what docs/shipped.md says.

`python tests/models/test_shipped.py 1000` measures the table of docs/shipped.md (`make measure`).
"""

import re
import sys

import pytest
import torch

import fvit
from fvit.base import paths
from fvit.smoothing import add_noise
from fvit.theory import intervals

FLOOR = {"accuracy": 0.90, "both": 0.85, "psnr": {8 / 255: 34.5, 0.1: 28.0, 0.25: 23.2, 0.5: 19.5}}


@torch.no_grad()
def hits(split: str, n: int) -> tuple[torch.Tensor, list[str]]:
    """Is the digit the most likely class; for pairs, are both digits the two most likely: (n,) and photographs."""
    vit, data = fvit.load_vit("scenes"), fvit.load_images("scenes", split, n)
    logits = torch.cat([vit(x) for x in data.x.split(64)])
    classes = data.y.view(n, -1)
    return (logits.topk(classes.shape[1]).indices.sort(1).values == classes.sort(1).values).all(1), data.groups


@torch.no_grad()
def psnr(sigma: float, n: int) -> tuple[torch.Tensor, list[str]]:
    """PSNR (n,) in dB of one-shot denoising, mean over images of each image's own."""
    den, data = fvit.load_denoiser("scenes"), fvit.load_images("scenes", "test", n)
    noisy = add_noise(data.x, sigma, 0, "psnr", data.ids, 0)
    x_hat = torch.cat([den(part, sigma) for part in noisy.split(64)])
    return -10 * (x_hat - data.x).square().mean((1, 2, 3)).log10(), data.groups


def stated(row: str) -> float:
    """The number that docs/shipped.md gives for a row."""
    found = re.search(
        rf"^\| {re.escape(row)} \| ([\d.]+)", (paths.ROOT / "docs" / "shipped.md").read_text(encoding="utf-8"), re.M
    )
    assert found, f"docs/shipped.md has no row {row!r}"
    return float(found[1])


ROWS = {"accuracy": "accuracy, test scenes", "both": "both digits in the top 2, pair scenes"}


@pytest.mark.parametrize(("what", "split"), [("accuracy", "test"), ("both", "pairs")])
def test_vit_on_unseen_scenes(what, split):
    """The first 400 of the table's 1,000 scenes reach the floor, and its number is believable beside them."""
    right, _ = hits(split, 400)
    rate, low, high = intervals.rate_interval(int(right.sum()), len(right), level=0.999)
    assert rate >= FLOOR[what]
    assert low <= stated(ROWS[what]) <= high and stated(ROWS[what]) >= FLOOR[what]


@pytest.mark.parametrize("sigma", list(FLOOR["psnr"]))
def test_denoiser_on_unseen_scenes(sigma):
    decibels, _ = psnr(sigma, 48)
    said, error = stated(f"PSNR at sigma {sigma:.3g}"), decibels.std().item() / 48**0.5
    assert decibels.mean().item() >= FLOOR["psnr"][sigma] <= said
    assert abs(decibels.mean().item() - said) < 3 * error


@pytest.mark.parametrize("data", paths.SHIPPED)
@pytest.mark.parametrize("what", ["teacher", "vit", "denoiser"])
def test_weights_are_small_and_safe(what, data):
    files = [p for p in paths.shipped(data, what).rglob("*") if p.is_file() and "checkpoint" not in p.name]
    assert {p.suffix or p.name for p in files} <= {".safetensors", ".json", ".csv", ".png", "SHA256SUMS"}
    assert sum(p.stat().st_size for p in files) <= 12e6
    assert {"training_log.csv", "training.png"} <= {p.name for p in files}


if __name__ == "__main__":
    n = int(sys.argv[1])
    for what, split in (("accuracy", "test"), ("both", "pairs")):
        right, photographs = hits(split, n)
        exact = intervals.rate_interval(int(right.sum()), n)
        clustered = intervals.mean_interval(right.double(), groups=photographs)
        intervals_shown = " | ".join(f"{low:.3f} to {high:.3f}" for _, low, high in (exact, clustered))
        print(f"| {ROWS[what]} | {exact[0]:.3f} | {intervals_shown} |")
    for sigma in FLOOR["psnr"]:
        decibels, photographs = psnr(sigma, n)
        mean, low, high = intervals.mean_interval(decibels)
        _, low_c, high_c = intervals.mean_interval(decibels, groups=photographs)
        print(f"| PSNR at sigma {sigma:.3g} | {mean:.2f} dB | {low:.2f} to {high:.2f} | {low_c:.2f} to {high_c:.2f} |")
