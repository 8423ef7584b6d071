"""A checkout by git set as on Windows (core.autocrlf=true) has the bytes of this one: digests hold, models load."""

import shutil
import subprocess

import pytest
import torch

import fvit
from fvit.base import files, paths

MODELS = ("vit", "denoiser", "teacher", "cifar10-vit", "cifar10-denoiser", "cifar10-teacher", "caltech101-vit",
          "photographs-denoiser")


def git(folder, *arguments):
    return subprocess.run(["git", "-c", "core.autocrlf=true", "-c", "core.safecrlf=false", "-c", "user.name=x", "-c",
                           "user.email=x", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", params=[True, False], ids=["with .gitattributes", "without"])
def checkout(request, tmp_path_factory):
    """(folder, whether the attributes count there): what git gives back of the package and the notebooks."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    folder = tmp_path_factory.mktemp("checkout")
    unversioned = shutil.ignore_patterns("__pycache__", ".*", "checkpoint*")
    for name in ("fvit", "notebooks"):
        shutil.copytree(paths.ROOT / name, folder / name, ignore=unversioned)
    for name in ("requirements.lock", ".gitattributes")[: 1 + request.param]:
        shutil.copy(paths.ROOT / name, folder)
    git(folder, "init", "-q")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "all")
    for path in git(folder, "ls-files").splitlines():
        (folder / path).unlink()
    git(folder, "checkout", "-q", "--", ".")
    return folder, request.param


def test_every_file_has_the_same_bytes(checkout):
    folder, counts = checkout
    names = git(folder, "ls-files").splitlines()
    other = {name for name in names if (folder / name).read_bytes() != (paths.ROOT / name).read_bytes()}
    assert len(names) > 150
    assert other == set() if counts else {"requirements.lock", "fvit/weights/vit/config.json"} <= other


def test_digests_hold_and_models_load(checkout, monkeypatch):
    folder, counts = checkout
    changed = {model for model in MODELS if files.changed(folder / "fvit" / "weights" / model)}
    with_settings = {model for model in MODELS if "teacher" not in model}
    assert changed == (set() if counts else with_settings)
    here = fvit.load_vit("scenes"), fvit.load_denoiser("scenes"), fvit.load_images("scenes", n=1).x
    monkeypatch.setattr(paths, "WEIGHTS", folder / "fvit" / "weights")
    if not counts:
        with pytest.raises((OSError, ValueError), match=r"config\.json"):
            fvit.load_vit("scenes")
        return
    there = fvit.load_vit("scenes"), fvit.load_denoiser("scenes")
    with torch.no_grad():
        torch.testing.assert_close(there[0](here[2]), here[0](here[2]))
        torch.testing.assert_close(there[1](here[2], 0.25), here[1](here[2], 0.25))
