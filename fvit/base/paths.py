"""Folders found from this file, never from the current folder, and the one way a file is written or changed."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
WEIGHTS = PACKAGE / "weights"
SHIPPED = ("scenes", "cifar10")  # data that the package has models for
NOTEBOOKS = ROOT / "notebooks"


def shipped(data: str, what: str) -> Path:
    """Folder of the weights of "vit", "denoiser" or "teacher" that were trained on `data`."""
    return WEIGHTS / (what if data == "scenes" else f"{data}-{what}")


def output_root() -> Path:
    """Folder that receives figures and results: the environment variable FVIT_OUT, else the repository root."""
    return Path(os.environ.get("FVIT_OUT") or ROOT).expanduser().absolute()


def figures_dir(profile: str) -> Path:
    """Figures of one profile; the folder is made by the first file written to it."""
    return output_root() / "figures" / profile


def results_dir(profile: str, root: Path | str | None = None) -> Path:
    """Tables of one profile under `root` (default `output_root`); made by the first file written to it."""
    return Path(root or output_root()) / "results" / profile
