"""The photographs that the scenes stand on: a table of them, and each as an image.

Those of scikit-image and scikit-learn are read from their wheels; the others are crops that ship with fvit. Authors and
licences: docs/photographs.md.
"""

import csv
import io
import zlib
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

from fvit.base.paths import PACKAGE

FOLDER = PACKAGE / "data" / "photographs"
TABLE = FOLDER / "photographs.csv"
TABLE_CRC32 = 0xAD8AC9B2  # a photograph in another split would make other scenes, and nobody would see it


@cache
def table() -> list[dict[str, str]]:
    """Rows of TABLE: name, split, crc32 (of the file, hexadecimal), file (in its package), and where it is from."""
    text = TABLE.read_text(encoding="utf-8")
    if zlib.crc32(text.encode()) != TABLE_CRC32:
        raise OSError(f"{TABLE} is damaged, or not the table that the scenes are made of; reinstall fvit")
    return list(csv.DictReader(io.StringIO(text)))


@cache
def names(split: str) -> tuple[str, ...]:
    """Names of the photographs of "train", "val" or "test"; each belongs to one split only."""
    return tuple(row["name"] for row in table() if row["split"] == split)


@cache
def photograph(name: str) -> Image.Image:
    """One photograph as 8-bit RGB; OSError if it is not there, or not to the bit the one that the table means."""
    [row] = [row for row in table() if row["name"] == name]
    package, _, inside = row["file"].partition("/")
    path = files(package) / inside
    mend = "reinstall fvit" if package == "fvit" else "reinstall scikit-image and scikit-learn from the lock"
    if not path.is_file():
        raise FileNotFoundError(f"photograph {name!r} is not at {path}; {mend}")
    data = path.read_bytes()
    if f"{zlib.crc32(data):08x}" != row["crc32"]:
        raise OSError(f"{path} is damaged, or not the picture that the scenes are made of; {mend}")
    return Image.open(io.BytesIO(data)).convert("RGB")


@cache
def is_grey(name: str) -> bool:
    return bool(np.ptp(np.asarray(photograph(name)), axis=2).max() == 0)
