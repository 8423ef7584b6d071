"""Mask images of own pictures: which belongs to which, and what their values mean. Loads no torch.

What the values mean is decided for a folder as a whole: of one mask alone, 255 may be the object or the void.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fvit.base.checks import as_integer, check_source
from fvit.data.class_folders import DEEPEST, PICTURES, is_hidden

ORIENTATION = 0x0112  # of EXIF: 1 is upright, 5 to 8 are turned by a quarter
WANTED = "wanted 0 and 255, or 0 and 1, or a palette of colours whose entry 0 is black; void=VALUE is left out"


class MaskFiles:
    """The masks of the pictures below the folder `images`: those below `masks` of the same relative path and stem.

    void   value of masks that is to be ignored; default 255 beside 1 or in a palette, and 128 beside 255

    Masks are grey, black and white RGB, one bit, or of a palette: in one with colours entry 0 is background and each
    other an object, one of greys is read by its greys.
    Raises ValueError or FileNotFoundError, each naming a file, for a picture without mask, a mask without picture, of
    another size or with other values, and where nobody can tell what is meant.
    """

    def __init__(self, images: Path, masks, void: int | None = None):
        if void is not None and as_integer(void) not in range(256):
            raise ValueError(f"void={void!r}, wanted the value that is left out of masks, 0 to 255")
        masks = Path(os.path.expanduser(check_source(masks, "masks")))
        if not masks.is_dir():
            raise FileNotFoundError(f"no folder {masks} of masks; wanted a mask image for each picture in {images}, of "
                                    "the same path and stem")
        here, there = images.resolve(), masks.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise ValueError(f"the masks in {masks} and the pictures in {images} lie in each other; put them side by "
                             f"side, {images.name}/a.jpg and {images.name}-masks/a.png")
        self.images, self.of = images, _pairs(images, masks)
        seen = {path: _values(path) for path in self.of.values()}
        self.least, self.void = _meaning({path: (kind, {*np.bincount(values.ravel()).nonzero()[0].tolist()})
                                          for path, (kind, values) in seen.items()}, as_integer(void))

    @property
    def pictures(self) -> list[Path]:
        """All of them, in the order of their paths."""
        return sorted(self.of)

    def read(self, picture: Path) -> np.ndarray:
        """Its mask (H, W) int8: 1 object, 0 background, -1 ignore."""
        _, values = _values(self.of[picture])
        return np.where(values == self.void, -1, values >= self.least).astype(np.int8)


def _pairs(images: Path, masks: Path) -> dict[Path, Path]:
    """Picture -> mask, of one size each."""
    pictures, found = dict(_by_stem(images)), dict(_by_stem(masks))
    if not pictures:
        raise FileNotFoundError(f"no pictures in {images}; wanted {', '.join(PICTURES[:3])} or the like")
    if missing := sorted({*pictures} - {*found}):
        raise FileNotFoundError(f"no mask for {pictures[missing[0]]}, wanted {masks / missing[0]}.png or the like; "
                                f"{len(missing)} of {len(pictures)} pictures have none")
    if surplus := sorted({*found} - {*pictures}):
        raise ValueError(f"{found[surplus[0]]} is a mask of no picture in {images}; {masks} has {len(surplus)} such; "
                         "move them, or name them as their pictures")
    for stem, path in pictures.items():
        _check_size(path, found[stem])
    return {path: found[stem] for stem, path in pictures.items()}


def _by_stem(folder: Path) -> Iterator[tuple[str, Path]]:
    """(relative path without suffix, path) of each image below a folder; ValueError where two have one stem."""
    before = {}
    for at, inside, files in os.walk(folder, followlinks=True):
        if len(Path(at).relative_to(folder).parts) > DEEPEST + 2:  # a split and a class come before
            raise ValueError(f"{at} lies more than {DEEPEST + 2} folders deep in {folder}, or a link leads back; give "
                             "the folder that holds the images")
        inside[:] = sorted(each for each in inside if not is_hidden(each))
        for path in (Path(at, each) for each in sorted(files) if each.lower().endswith(PICTURES)):
            if is_hidden(path.name):
                continue
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in before:
                raise ValueError(f"{before[stem]} and {path} have one stem, so that nobody can tell which belongs to "
                                 "which mask or picture; rename one")
            before[stem] = path
            yield stem, path


def _check_size(picture: Path, mask: Path) -> None:
    """ValueError unless both have one size, and the mask's pixels are those of the picture as it is stored."""
    with Image.open(picture) as image, Image.open(mask) as other:
        size, wanted, turned = other.size, image.size, image.getexif().get(ORIENTATION, 1)
    upright = "save it upright: ImageOps.exif_transpose(Image.open(...)).save(...)"
    if size != wanted:
        meant = f"; its EXIF orientation {turned} turns it, {upright}" if size == wanted[::-1] and turned > 4 else ""
        raise ValueError(f"{mask} is {size[0]} x {size[1]} pixels and {picture} {wanted[0]} x {wanted[1]}{meant}")
    if 1 < turned < 5 or (turned > 4 and size[0] == size[1]):
        raise ValueError(f"{picture} has the EXIF orientation {turned}, so that nobody can tell whether its mask is "
                         f"turned too; {upright}")


def _values(path: Path) -> tuple[str, np.ndarray]:
    """"grey" and the greys (H, W) uint8 of a mask, or "palette" and its entries."""
    with Image.open(path) as image:
        if image.mode in ("LA", "RGBA", "PA"):
            if image.getchannel("A").getextrema() != (255, 255):
                raise ValueError(f"{path} is transparent in places, {WANTED}")
            image = image.convert("L" if image.mode == "LA" else "RGB")
        if image.mode == "P":
            colours = np.array(image.getpalette("RGB")).reshape(-1, 3)
            if (colours == colours[:, :1]).all():
                return "grey", np.asarray(image.convert("L"))
            if colours[0].any():
                raise ValueError(f"{path} has a palette whose entry 0 is {tuple(colours[0].tolist())}, {WANTED}")
            return "palette", np.asarray(image)
        if image.mode not in ("1", "L", "RGB"):
            raise ValueError(f"{path} has mode {image.mode}, {WANTED}")
        values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ValueError(f"{path} has colours and no palette, {WANTED}")
        values = values[..., 0]
    return "grey", values


def _meaning(seen: dict[Path, tuple[str, set[int]]], void: int | None) -> tuple[int, int]:
    """The least value that means an object, and the one that is left out (-1: none)."""
    kinds = {kind: path for path, (kind, _) in seen.items()}
    if len(kinds) > 1:
        raise ValueError(f"{kinds['grey']} is grey and {kinds['palette']} has a palette of colours; save all alike")
    if "palette" in kinds:
        return 1, 255 if void is None else void
    values = set().union(*(own for _, own in seen.values())) - {void}
    for least, default in ((1, 255), (255, 128)):
        if values <= {0, least}:
            return least, -1 if void is None else void
        if void is None and values <= {0, least, default} and any({least, default} <= own for _, own in seen.values()):
            return least, default
    strange = next(path for path, (_, own) in seen.items() if values <= {0, 1, 255} or not own <= {0, 1, 255, void})
    several = f"{sorted(values)[:6]}{' ...' * (len(values) > 6)}"
    why = ("some masks are of 0 and 1 and others of 0 and 255: say void=255, or save all alike"
           if values <= {0, 1, 255} else "soft edges, as of JPEG, are made hard by .point(lambda v: 255 * (v > 127))")
    raise ValueError(f"the masks have the values {several}, {strange.name} among them; {WANTED}; {why}")
