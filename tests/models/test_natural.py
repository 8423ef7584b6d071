"""The classifier and the prior for photographs of 224 pixels: what they reach on test photographs, against what
docs/natural.md says. `python tests/models/test_natural.py` measures its table; it needs the photographs and the wheel.
"""

import re
import sys

import pytest
import torch

import fvit
from fvit.base import paths
from fvit.data.streams import stream_images
from fvit.smoothing import add_noise
from fvit.theory import intervals

sys.path.insert(0, str(paths.ROOT / "tools"))
import ffdnet

SIGMAS, N_DENOISED, FLOOR = (8 / 255, 0.1, 0.25), 100, 0.87
ACCURACY = "accuracy, test photographs, 101 classes"


@torch.no_grad()
def hits(n: int | None = None) -> torch.Tensor:
    """Is the class right, of the first picture of each photograph: (n,)."""
    vit, right, seen = fvit.load_vit("caltech101"), [], set()
    for batch in stream_images("caltech101", "test", n):
        first = [i for i, group in enumerate(batch.groups) if not (group in seen or seen.add(group))]
        right.append((vit(batch.x).argmax(1) == batch.y)[first])
    return torch.cat(right)


@torch.no_grad()
def decibels(name: str, sigma: float, n: int) -> torch.Tensor:
    """PSNR (n,) of one draw of noise on test photographs, denoised once; "FFDNet" is that of tools/ffdnet.py."""
    den, found = ffdnet.network() if name == "FFDNet" else fvit.load_denoiser(name), []
    for batch in stream_images("caltech101", "test", n, batch_size=8):
        x_hat = den(add_noise(batch.x, sigma, 0, "psnr", batch.ids, 0), sigma)
        found.append(-10 * (x_hat - batch.x).square().mean((1, 2, 3)).log10())
    return torch.cat(found)


def said(row: str) -> float:
    """The number that the table of docs/natural.md gives for a row."""
    found = re.search(rf"^\| {re.escape(row)} \| ([\d.]+)", (paths.ROOT / "docs/natural.md").read_text("utf-8"), re.M)
    assert found, f"docs/natural.md has no row {row!r}"
    return float(found[1])


def needs(load):
    """What `load` gives; the test is skipped where files are not there, with what was said of them."""
    try:
        return load()
    except FileNotFoundError as error:
        pytest.skip(reason=str(error))


def test_the_classifier_on_photographs_it_has_not_seen():
    right = needs(lambda: hits(150))
    rate, low, high = intervals.rate_interval(int(right.sum()), len(right), level=0.999)
    assert low <= said(ACCURACY) <= high and said(ACCURACY) >= FLOOR and rate > FLOOR - 0.1


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_prior_beats_those_of_scenes_and_of_cifar10_on_photographs_it_has_not_seen(sigma):
    own, *others = (needs(lambda name=name: decibels(name, sigma, 12)) for name in ("photographs", "scenes", "cifar10"))
    assert all((own - other).mean() > 0.2 for other in others)
    row = f"PSNR at sigma {sigma:.3g}, prior for photographs"
    assert abs(own.mean().item() - said(row)) < 4 * own.std().item() / 12**0.5


def measure():
    right = hits()
    print(f"| {ACCURACY} | {intervals.rate_interval(int(right.sum()), len(right))}, n = {len(right)} |", flush=True)
    for sigma in SIGMAS:
        found = {name: decibels(name, sigma, N_DENOISED) for name in ("photographs", "scenes", "cifar10", "FFDNet")}
        for name, value in found.items():
            more = intervals.mean_interval((found["photographs"] - value).numpy())
            print(f"| PSNR at sigma {sigma:.3g}, {name} | {value.mean():.2f}, prior for photographs more by {more} |",
                  flush=True)


if __name__ == "__main__":
    sys.exit(measure())
