"""COCO instances, and what annotation tools export in that form. 1 object, 0 background, -1 ignore."""

import json
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from fvit.base.checks import check_choice
from fvit.data.class_folders import canonical
from fvit.data.pictures import Picture, Source, distinct, library, read_rgb
from fvit.data.segmented import wanted_objects


class Coco(Source):
    """COCO instances: every annotated object is 1, and a crowd, which no outline separates, -1 where no object lies.

    objects   names of categories that count as object, default all; those of others are background
    Ids are file names without suffix, with their folders, as "night/0001". y is the category that covers most of the
    image's object pixels, -1 for none. An outline that cannot be drawn is left out of the mask and named in `reasons`:
    a polygon of fewer than 3 points, runs of another size, an object without outline or of no category.
    """

    def __init__(self, root: Path, split: str | None, objects=None):
        split = check_choice(canonical(split or "val"), ("train", "val"), "split with annotations")
        indices = {year: root / "annotations" / f"instances_{split}{year}.json" for year in (2017, 2014)}
        year = next((year for year, path in indices.items() if path.exists()), 2017)
        index, folder = indices[year], f"{split}{year}"
        self.images, self.annotations, categories = _read_index(index)
        self.folder = root / folder
        library("pycocotools.mask")  # its absence is told at once
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder {self.folder}, whose images {index.name} lists; unpack {folder}.zip")
        self.category = {number: place for place, number in enumerate(categories)}  # 1 ... 90 with gaps -> 0 ... 79
        self.counted = wanted_objects(objects, list(categories.values()), list(categories.values()))
        ids = distinct([PurePosixPath(entry["file_name"]).with_suffix("").as_posix() for entry in self.images])
        super().__init__("coco", ids, ids, tuple(categories.values()))

    def read(self, i: int) -> Picture:
        entry, lacks = self.images[i], []
        image = read_rgb(self.folder / entry["file_name"])
        nothing = np.zeros((entry["height"], entry["width"]), dtype=bool)
        crowd, covered = nothing, {}  # category -> its pixels, also where objects overlap
        for annotation in self.annotations.get(entry["id"], []):
            place = self.category.get(annotation.get("category_id"))
            if place is not None and self.class_names[place] not in self.counted:
                continue
            outline, bad = draw(annotation.get("segmentation"), *nothing.shape)
            bad += ["it is of no category of the index"] if place is None else []
            lacks += [f"annotation {annotation.get('id')}: {why}" for why in bad[:1]]
            if place is not None and annotation.get("iscrowd", 0):
                crowd = crowd | outline
            elif place is not None:
                covered[place] = covered.get(place, nothing) | outline
        inside = np.logical_or.reduce([nothing, *covered.values()])
        mask = np.where(inside, 1, np.where(crowd, -1, 0)).astype(np.int8)
        most = max(sorted(covered), key=lambda place: covered[place].sum(), default=-1)
        return Picture(image, most if inside.any() else -1, mask, _said(lacks))


def draw(segmentation, height: int, width: int) -> tuple[np.ndarray, list[str]]:
    """The pixels (height, width) of an object, bool, and what is wrong with those parts that are left out.

    segmentation   polygons [[x, y, x, y, ...], ...], or one of them; or runs {"size", "counts"}, column by column, as
                   numbers or as COCO's text
    """
    pixels, bad, rle = np.zeros((height, width), dtype=bool), [], library("pycocotools.mask")
    if not (segmentation and isinstance(segmentation, dict | list)):
        return pixels, ["it has no outline"]
    several = isinstance(segmentation, list) and isinstance(segmentation[0], list)
    for part in segmentation if several else [segmentation]:
        try:
            if isinstance(part, dict):
                pixels |= _from_runs(part, height, width)
            else:
                polygon = rle.frPyObjects([_points(part, height, width)], height, width)
                pixels |= rle.decode(polygon)[..., 0].astype(bool)
        except (ValueError, TypeError, KeyError, OverflowError) as err:
            bad.append(str(err) if isinstance(err, ValueError) else f"{type(err).__name__}: {err}")
    return pixels, bad


def _points(polygon, height: int, width: int) -> list[float]:
    """A polygon as x, y, x, y, ...; ValueError for one that encloses nothing: four numbers would be read as a box."""
    points = np.asarray(polygon, dtype=float)
    if points.ndim != 1 or points.size % 2 or points.size < 6:
        raise ValueError(f"a polygon of {points.size} numbers, wanted x and y of three points or more")
    if not (np.abs(points) <= 10 * max(height, width)).all():  # NaN too
        raise ValueError("a polygon with points far outside of the image, or NaN")
    return points.tolist()


def _from_runs(runs: dict, height: int, width: int) -> np.ndarray:
    """Pixels of run lengths, off and on in turn. Of another total, pycocotools gives whatever was in memory before."""
    counts = runs["counts"]
    counts = np.asarray(_decoded(counts) if isinstance(counts, str | bytes) else counts)
    if counts.dtype.kind not in "iu" or (counts < 0).any() or list(runs["size"]) != [height, width] or (
            counts.sum() != height * width):
        raise ValueError(f"runs of {counts.sum()} pixels and size {runs['size']}, wanted {[height, width]}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _decoded(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text: five bits a letter from 48 on, and from the fourth number on the difference from
    the one two before."""
    text, counts = text.encode() if isinstance(text, str) else text, []
    if not all(48 <= letter < 112 for letter in text) or (text and text[-1] - 48 & 32):
        raise ValueError("runs whose text is cut off, or none of COCO's")
    letters = iter(text)
    for letter in letters:
        value, shift = 0, 0
        while True:
            value |= (letter - 48 & 31) << shift
            shift += 5
            if not letter - 48 & 32:
                break
            letter = next(letters)
        if letter - 48 & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def _said(lacks: list[str]) -> str:
    return lacks[0] + f", and {len(lacks) - 1} more" * (len(lacks) > 1) if lacks else ""


def _read_index(index: Path) -> tuple[list[dict], dict, dict]:
    """Images by id, annotations by image id, and categories id -> name by id."""
    mend = "unpack annotations_trainval2017.zip again"
    if not index.is_file():
        raise FileNotFoundError(f"no file {index}; {mend}")
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        if missing := {"images", "annotations", "categories"} - set(found):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        images = [{"id": entry["id"], "file_name": entry["file_name"].replace("\\", "/"),
                   "height": int(entry["height"]), "width": int(entry["width"])} for entry in found["images"]]
        categories = {entry["id"]: str(entry["name"]) for entry in sorted(found["categories"], key=lambda c: c["id"])}
        for what, numbers in (("image", {entry["id"] for entry in images}), ("category", categories)):
            if len(numbers) < len(found["images" if what == "image" else "categories"]):
                raise ValueError(f"two of one {what} id, whose objects nobody can tell apart; were two exports joined?")
        annotations = defaultdict(list)
        for annotation in found["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
        if annotations and not any(entry["id"] in annotations for entry in images):
            raise ValueError(f"no annotation is of one of its images: image_id is {next(iter(annotations))!r}, ids of "
                             f"images are as {[entry['id'] for entry in images[:1]]}")
        return sorted(images, key=lambda entry: entry["id"]), dict(annotations), categories
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        what = f"{index} is truncated or no index of COCO instances"
        raise OSError(f"{what} ({type(err).__name__}: {err}); {mend}") from err
