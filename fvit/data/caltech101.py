"""Caltech-101 as torchvision unpacks it: 101 classes of photographs, the authors' outlines as masks (CC BY 4.0).

Which photographs are read, and for what, depends on each photograph alone and never on which others are there.
"""

import re
from functools import cache, reduce
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from fvit.base import rng
from fvit.base.checks import check_choice
from fvit.data.class_folders import canonical, is_hidden
from fvit.data.pictures import Picture, Source, read_rgb

CLASSES = tuple(  # in the order of torchvision, so that y is its label; BACKGROUND_Google is no class there either
    "Faces Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai brain "
    "brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body "
    "cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar "
    "elephant emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill "
    "headphone hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus "
    "mandolin mayfly menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid "
    "revolver rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish "
    "stegosaurus stop_sign strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat "
    "windsor_chair wrench yin_yang".split())
IMAGES, OUTLINES = "101_ObjectCategories", "Annotations"
OUTLINED = {"Faces": "Faces_2", "Faces_easy": "Faces_3", "Motorbikes": "Motorbikes_16", "airplanes": "Airplanes_Side_2"}
SPLITS = {"train": (0.0, 0.5), "val": (0.5, 0.58), "test": (0.58, 1.0)}  # of the photographs, by hash
OUTLINED_OF = {"train_outlined": "train", "val_outlined": "val", "outlined": "test"}
SHARES = {**{split: split for split in SPLITS}, "train_natural": "train", **OUTLINED_OF}
SAME = {  # numbers of pictures that show one photograph or drawing: high-passed, 96x96, they correlate by .8 or more
    "anchor": "5 16", "brontosaurus": "9 13", "buddha": "8 83, 12 13", "crayfish": "1 23",
    "garfield": "23 24 25, 27 32 33 34", "gerenuk": "4 25", "grand_piano": "41 51", "hedgehog": "1 10", "ibis": "76 79",
    "llama": "1 10", "lotus": "6 15, 23 33", "mayfly": "3 14", "menorah": "16 17, 83 84",
    "metronome": "2 3 4, 5 6 10 11", "minaret": "25 51", "nautilus": "20 33", "octopus": "2 3 4 5, 18 35",
    "pagoda": "7 13", "pigeon": "2 6", "pyramid": "8 43", "revolver": "9 10, 36 60", "rhino": "51 55",
    "soccer_ball": "13 58", "stegosaurus": "14 38, 15 58, 32 43", "stop_sign": "1 22 34 43 56, 47 48",
    "strawberry": "2 33", "trilobite": "41 64", "water_lilly": "1 9, 12 37", "yin_yang": "2 14 45"}
FIRST = {(name, int(number)): int(group.split()[0])
         for name, groups in SAME.items() for group in groups.split(",") for number in group.split()}
SHORTEST, CHROMA, EDGE, BARE = 160, 4, 10, 0.25  # of `is_natural`: pixels, of 255, of 255, share


class Caltech101(Source):
    """101_ObjectCategories/CLASS/image_NNNN.jpg and Annotations/CLASS/annotation_NNNN.mat, in `root` or its caltech101.

    split   "train", "val", "test" | "train_outlined", "val_outlined", "outlined" (of "test"): those with an outline |
            "train_natural". "train" has every picture of its share, all others those of `is_natural`
    y counts all 101 classes, whichever are there, as torchvision does. Ids are as "panda/image_0001", groups the id of
    the first picture of the same photograph. A picture without an outline has -1 everywhere in its mask; without the
    folder of outlines there are no masks.
    """

    def __init__(self, root: Path, split: str | None):
        split = check_choice(canonical(split or "test"), SHARES, "split of caltech101")
        root = next((folder for folder in (root, root / "caltech101") if (folder / IMAGES).is_dir()), root)
        self.folder, outlines = root / IMAGES, root / OUTLINES
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder {self.folder}; unpack {IMAGES}.tar.gz in {root}, or let torchvision do "
                                    "it: Caltech101(FOLDER, download=True)")
        self.has_outlines = outlines.is_dir()
        if not self.has_outlines and split in OUTLINED_OF:
            raise FileNotFoundError(f"no folder {outlines}, which split {split!r} is about; unpack {OUTLINES}.tar in "
                                    f"{root}")
        self.pictures, groups = [], []
        for name, number in _there(self.folder):
            photograph, path = first(name, number), self.folder / name / f"image_{number:04d}.jpg"
            outline = outlines / OUTLINED.get(name, name) / f"annotation_{number:04d}.mat"
            outline = outline if self.has_outlines and outline.is_file() else None
            if (of_split(photograph) != SHARES[split] or (split in OUTLINED_OF and outline is None)
                    or (split != "train" and not _is_natural_file(path, *_state(path)))):
                continue
            self.pictures.append((path, CLASSES.index(name), outline))
            groups.append(photograph)
        if not groups:
            raise FileNotFoundError(f"no picture of split {split!r} in {self.folder}; unpack {IMAGES}.tar.gz again")
        ids = [f"{path.parent.name}/{path.stem}" for path, *_ in self.pictures]
        super().__init__("caltech101", ids, groups, CLASSES)

    def read(self, i: int) -> Picture:
        path, label, outline = self.pictures[i]
        image, lacks = read_rgb(path), ""
        mask = np.full(image.size[::-1], -1, dtype=np.int8) if self.has_outlines else None
        if outline is not None:
            try:
                mask = draw(outline, *mask.shape)
            except Exception as err:  # scipy raises a dozen classes on broken bytes
                lacks = f"{outline.name}: {type(err).__name__}: {err}"
        return Picture(image, label, mask, lacks)


def first(name: str, number: int) -> str:
    """Id of the first picture of the photograph that CLASS `name` shows as image `number`.

    Faces_easy are cut out of Faces, Leopards 101 to 200 are 1 to 100 mirrored, and some are there twice (SAME).
    """
    if name == "Leopards" and number > 100:
        number -= 100
    number = FIRST.get((name, number), number)
    return f"{'Faces' if name == 'Faces_easy' else name}/image_{number:04d}"


def of_split(photograph: str) -> str:
    """The split of a photograph, from a hash of its id: half are "train", 8 % "val", 42 % "test"."""
    place = rng.stream_seed(0, "caltech101", photograph) / 2**64
    return next(name for name, (low, high) in SPLITS.items() if low <= place < high or high == 1)


def is_natural(image: Image.Image) -> bool:
    """Whether a picture is a colour photograph that fills its frame, of 160 pixels or more on the short side.

    Not: what is stored as grey, or whose greatest and least channel differ by less than 4 of 255 on average; and what
    has a quarter or more of its outermost pixels within 10 of white or of black in each channel: cut out, drawn, or
    turned, with black corners.
    """
    if image.mode != "RGB" or min(image.size) < SHORTEST:
        return False
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    bare = (border.min(1) >= 255 - EDGE) | (border.max(1) <= EDGE)
    most, least = (reduce(choose, image.split()) for choose in (ImageChops.lighter, ImageChops.darker))
    return bool(bare.mean() < BARE and np.asarray(ImageChops.subtract(most, least)).mean() >= CHROMA)


def draw(path: Path, height: int, width: int) -> np.ndarray:
    """The mask (height, width) int8 of an outline: 1 for pixels whose centre lies inside, 0 outside.

    The file counts pixels from 1, x first, from the left upper corner of the box. Raises ValueError for what is no
    outline of such a picture.
    """
    from scipy.io import loadmat  # late: half a second
    from skimage.draw import polygon

    found = loadmat(path, variable_names=["box_coord", "obj_contour"])
    box, contour = (np.asarray(found.get(name, ())) for name in ("box_coord", "obj_contour"))
    if box.size != 4 or contour.ndim != 2 or contour.shape[0] != 2 or contour.shape[1] < 3 or not all(
            part.dtype.kind in "iuf" and np.isfinite(part).all() for part in (box, contour)):
        raise ValueError(f"it has box_coord {box.shape} and obj_contour {contour.shape}, wanted numbers, 4 and (2, n)")
    top, _, left, _ = box.astype(float).ravel()
    x, y = contour[0] + left - 1, contour[1] + top - 1
    mask = np.zeros((height, width), dtype=np.int8)
    mask[polygon(y, x, mask.shape)] = 1
    if not mask.any():
        raise ValueError(f"its outline encloses no pixel of the picture of {width} x {height}")
    return mask


def _there(folder: Path) -> list[tuple[str, int]]:
    """(class, number) of every picture; ValueError for a folder that is no class."""
    found = []
    for place in sorted(folder.iterdir()):
        if is_hidden(place.name) or place.name == "BACKGROUND_Google" or not place.is_dir():
            continue
        if place.name not in CLASSES:
            raise ValueError(f"{folder} has a folder {place.name!r}, wanted the classes of caltech101; move it, or "
                             f"load {folder} by its path instead of the name")
        numbers = [re.fullmatch(r"image_(\d{4})\.jpg", path.name) for path in place.iterdir()]
        found += [(place.name, int(number[1])) for number in sorted(filter(None, numbers), key=lambda m: m[1])]
    return found


def _state(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


@cache
def _is_natural_file(path: Path, size: int, changed: int) -> bool:
    try:
        with Image.open(path) as image:
            return is_natural(image)
    except Exception:  # Pillow raises a dozen classes on broken bytes
        return True  # so that whoever reads it is told
