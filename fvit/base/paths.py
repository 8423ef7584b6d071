"""Folders found from this file, or, where fvit is installed without a clone, from the current folder."""

import os
from contextlib import suppress
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
IS_CLONE = all((PACKAGE.parent / name).exists() for name in ("pyproject.toml", "notebooks/words"))
ROOT = PACKAGE.parent if IS_CLONE else PACKAGE / "repository"  # what a wheel has of it: notebooks, figures, results
WEIGHTS = PACKAGE / "weights"
SHIPPED = ("scenes", "cifar10")  # data that the package has models for
PRIORS = (*SHIPPED, "photographs")  # those of denoisers and plain CNNs
PRIOR_OF = {"caltech101": "photographs"}  # name of a ViT -> that of the prior for its images, where it is another
MODELS = {"teacher": SHIPPED, "vit": (*SHIPPED, "caltech101"), "denoiser": PRIORS, "cnn": PRIORS,
          "vit_noise": SHIPPED, "vit_adversarial": SHIPPED}  # what `fvit train` makes -> of which data
VITS = {data: (data, "vit") for data in MODELS["vit"]} | {  # name of a ViT -> whose weights, as of `shipped`
    f"{data}-{cure}": (data, f"vit_{cure}") for data in SHIPPED for cure in ("noise", "adversarial")}


def _notebooks() -> Path:
    """Where `fvit notebooks` copied them, if the current folder is there or one below; else those of ROOT."""
    with suppress(OSError):  # a current folder that is gone
        for folder in (Path.cwd(), Path.cwd().parent):
            if (folder / "SHA256SUMS").is_file() and (folder / "words").is_dir():
                return folder
    return ROOT / "notebooks"


NOTEBOOKS = _notebooks()


def shipped(data: str, what: str) -> Path:
    """Folder of the weights of "vit", "denoiser", "cnn", "vit_noise", ... that were trained on `data`."""
    return WEIGHTS / (what if data == "scenes" else f"{data}-{what}")


def trained(data: str, what: str) -> Path:
    """Folder that a training fills unless told: in a clone that of the shipped weights, else one of the output."""
    folder = shipped(data, what)
    return folder if IS_CLONE else output_root() / folder.relative_to(PACKAGE)


def output_root() -> Path:
    """Folder that receives figures and results.

    The environment variable FVIT_OUT; else the clone that fvit runs from; else fvit-out, beside notebooks that were
    copied by `fvit notebooks`, or in the current folder. Nothing is ever written to where packages are installed.
    """
    if told := os.environ.get("FVIT_OUT"):
        return Path(told).expanduser().absolute()
    if NOTEBOOKS != ROOT / "notebooks":
        return NOTEBOOKS / "fvit-out"
    return ROOT if IS_CLONE else Path.cwd() / "fvit-out"


def figures_dir(profile: str) -> Path:
    """Figures of one profile; the folder is made by the first file written to it."""
    return output_root() / "figures" / profile


def results_dir(profile: str, root: Path | str | None = None) -> Path:
    """Tables of one profile under `root` (default `output_root`); made by the first file written to it."""
    return Path(root or output_root()) / "results" / profile
