"""One picture of a data set: read from its file, with label and mask, and resized by the published conventions."""

from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

PAPER_SIZE = 224  # pixels a side, of ViTs and of both evaluations (docs/reference-code.md, section 3)


class Picture(NamedTuple):
    """An image of mode RGB, its class (-1: none), and its mask (H, W) int8 (1 object, 0 background, -1 ignore)."""

    image: Image.Image
    label: int
    mask: np.ndarray | None = None
    lacks: str = ""  # what of the mask could not be read, and why


@dataclass
class Source:
    """A data set on disk. Subclasses give `read(i) -> Picture`, which raises whatever a broken file makes it raise.

    Raises ValueError for a name of a file, folder or class that is not UTF-8: no table of results could hold it.
    """

    name: str
    ids: list[str]
    groups: list[str]
    class_names: tuple[str, ...]
    size: int = PAPER_SIZE

    def __post_init__(self):
        for name in (self.name, *self.class_names, *self.ids, *self.groups):
            if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
                raise ValueError(f"the name {name!r} in {self.name!r} is not UTF-8, so no table can hold it; rename "
                                 "it, e.g. by convmv -f latin1 -t utf8 --notest FOLDER")


def as_tensors(picture: Picture, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """A picture as x (3, h, w) uint8, y () int64 and mask (h, w) int8 or None, of size (h, w).

    As torchvision's Resize((h, w)) on PIL images, the mask by nearest pixel (docs/reference-code.md, 3.1 and 3.2).
    """
    image, label, mask, _ = picture
    if mask is not None and mask.shape[::-1] != image.size:
        raise ValueError(f"its mask is {mask.shape[::-1]} pixels, the image {image.size}")
    height, width = size
    x = np.array(image.resize((width, height), Image.Resampling.BILINEAR))  # (h, w, 3); a no-op at its own size
    if mask is not None:  # PIL has no signed bytes: -1 travels as 255
        mask = Image.fromarray(mask.view(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        mask = torch.from_numpy(np.array(mask).view(np.int8))
    return torch.from_numpy(x).permute(2, 0, 1).contiguous(), torch.tensor(label), mask


def read_rgb(path: Path | str) -> Image.Image:
    """The image in a file as 8-bit RGB, as torchvision's folder loader reads it: what published accuracies refer to.

    Alpha is dropped, not blended, and an EXIF orientation not applied: masks refer to the pixels as they are stored.
    Raises what Pillow raises for a broken or truncated file; ValueError for more than 8 bits, which it would clip.
    """
    with Image.open(path) as image:
        if image.mode == "F" or image.mode.startswith("I"):
            raise ValueError(f"it has mode {image.mode}, more than 8 bits a channel; save it with 8")
        if "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")  # a palette with transparency: Pillow warns on the direct way
        return image.convert("RGB")


def distinct(names: list[str]) -> list[str]:
    """The same names; one that occurs more than once, or is empty, gets its place appended: ids must be unique."""
    counts = Counter(names)
    return [name if name and counts[name] == 1 else f"{name}#{i}" for i, name in enumerate(names)]


def library(name: str):
    """Import a package of the extra `paper`; the ImportError says how to get it."""
    try:
        return import_module(name)
    except ImportError as err:
        raise ImportError(f"{name} is needed for this data set; it comes with pip install 'fvit[paper]'") from err
