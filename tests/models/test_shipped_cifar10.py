"""The shipped models of CIFAR-10: what they reach on its test images, against what docs/shipped.md says.

`python tests/models/test_shipped_cifar10.py ROOT` measures its table; ROOT/test/frog/0001.jpg is an image.
"""

import os
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from models.test_shipped import stated

import fvit
from fvit.smoothing import add_noise
from fvit.theory import intervals

SIGMAS = (8 / 255, 0.1, 0.25, 0.5)
N_ACCURACY, N_DRAWS = 10_000, 1000  # images of the table of docs/shipped.md
ARCHIVE = "cifar10-imagefolder.tar.xz"  # test/frog/0001.jpg, ...
ACCURACY = "CIFAR-10: accuracy, test images"


def row_of(what: str, sigma: float) -> str:
    return f"CIFAR-10: {what} at sigma {sigma:.3g}"


@torch.no_grad()
def hits(root: Path, n: int) -> torch.Tensor:
    """Is the class right: (n,)."""
    vit, data = fvit.load_vit("cifar10"), fvit.load_images("cifar10", "test", n, root=root)
    return torch.cat([vit(x).argmax(1) for x in data.x.split(250)]) == data.y


@torch.no_grad()
def draws(root: Path, sigma: float, n: int) -> dict[str, torch.Tensor]:
    """One draw of noise of each of n images, as it is and denoised: PSNR in dB, and is the class right, (n,) each."""
    vit, den = fvit.load_vit("cifar10"), fvit.load_denoiser("cifar10")
    data = fvit.load_images("cifar10", "test", n, root=root)
    noisy = add_noise(data.x, sigma, 0, "psnr", data.ids, 0)
    found = {}
    for name, image in (("noisy", noisy), ("denoised", torch.cat([den(x, sigma) for x in noisy.split(100)]))):
        found[f"{name} PSNR"] = -10 * (image - data.x).square().mean((1, 2, 3)).log10()
        found[f"{name} hits"] = torch.cat([vit(x).argmax(1) for x in image.split(250)]) == data.y
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Where CIFAR-10's test images are: $FVIT_DATA/cifar10, or unpacked from the archive beside it."""
    data = Path(os.environ.get("FVIT_DATA") or "$FVIT_DATA")
    if (data / "cifar10").is_dir():
        return data / "cifar10"
    if not (data / ARCHIVE).is_file():
        pytest.skip(reason=f"CIFAR-10 is not on this machine: neither $FVIT_DATA/cifar10 nor $FVIT_DATA/{ARCHIVE}")
    folder = tmp_path_factory.mktemp("cifar10")
    with tarfile.open(data / ARCHIVE) as archive:
        archive.extractall(folder, [item for item in archive if item.name.startswith("test")], filter="data")
    return folder


def test_vit_on_images_it_has_not_seen(root):
    """On the first 400 test images the number there is believable."""
    right = hits(root, 400)
    rate, low, high = intervals.rate_interval(int(right.sum()), len(right), level=0.999)
    assert low <= stated(ACCURACY) <= high and stated(ACCURACY) >= 0.6 and rate > 0.55


@pytest.mark.parametrize("sigma", SIGMAS)
def test_denoiser_on_images_it_has_not_seen(root, sigma):
    """It gains at least 3 dB; the number theres are believable beside 48 images."""
    found = draws(root, sigma, 48)
    gained = found["denoised PSNR"].mean() - found["noisy PSNR"].mean()
    assert gained > 3
    error = found["denoised PSNR"].std().item() / 48**0.5
    assert abs(found["denoised PSNR"].mean().item() - stated(row_of("PSNR", sigma))) < 3 * error
    for name in ("noisy", "denoised"):
        _, low, high = intervals.rate_interval(int(found[f"{name} hits"].sum()), 48, level=0.999)
        assert low <= stated(row_of(f"accuracy of one {name} draw", sigma)) <= high


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    right = hits(folder, N_ACCURACY)
    rate, low, high = intervals.rate_interval(int(right.sum()), len(right))
    print(f"| {ACCURACY} | {rate:.3f} | {low:.3f} to {high:.3f} | {N_ACCURACY:,} | |")
    for sigma in SIGMAS:
        found = draws(folder, sigma, N_DRAWS)
        mean, low, high = intervals.mean_interval(found["denoised PSNR"])
        print(f"| {row_of('PSNR', sigma)} | {mean:.2f} dB | {low:.2f} to {high:.2f} | {N_DRAWS:,} | "
              f"{found['noisy PSNR'].mean():.2f} dB |")
        for name in ("noisy", "denoised"):
            rate, low, high = intervals.rate_interval(int(found[f"{name} hits"].sum()), N_DRAWS)
            row = row_of(f"accuracy of one {name} draw", sigma)
            print(f"| {row} | {rate:.3f} | {low:.3f} to {high:.3f} | {N_DRAWS:,} | |")
