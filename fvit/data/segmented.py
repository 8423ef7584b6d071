"""Data sets with masks: ImageNet-Segmentation, COCO, Cityscapes. 1 object, 0 background, -1 ignore."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image

from fvit.base.checks import check_choice
from fvit.data.folders import imagenet_classes
from fvit.data.pictures import Picture, Source, distinct, library, read_rgb


class ImageNetSegmentation(Source):
    """gtsegs_ijcv.mat (Guillaumin et al. 2014): 4,276 ImageNet images, each with its object's outline.

    Of several annotations the first (docs/reference-code.md, 3.1). Ids are the file's own, as "n02105855_2933", else
    places in it. y is the class among the 1,000 of ImageNet-1k, -1 where the WordNet id is none of theirs.
    """

    def __init__(self, root: Path, split: str | None):
        check_choice(split or "test", ("test",), "split of imagenet-seg")
        self.path = root if root.is_file() else root / "gtsegs_ijcv.mat"
        with _open_mat(self.path) as file:
            n = file["value/img"].size
            cells = [_cell(file, file["value/id"], i) for i in range(n if "value/id" in file else 0)]
            names = ["".join(map(chr, cell[()].ravel())) for cell in cells] or ["gtsegs"] * n
        ids = distinct(names)
        wnids, class_names = imagenet_classes()
        self.labels = [wnids.get(name.split("_")[0], -1) for name in names]
        super().__init__("imagenet-seg", ids, ids, class_names)

    def read(self, i: int) -> Picture:
        with _open_mat(self.path) as file:  # anew for each image: an open file must not cross into a worker process
            pixels = _cell(file, file["value/img"], i)[()].T  # MATLAB's columns come first: now (H, W, 3)
            outline = _cell(file, _cell(file, file["value/gt"], i), 0)[()].T  # (H, W)
        if not set(np.unique(outline)) <= {0, 1}:
            raise ValueError(f"its mask has values {np.unique(outline)[:5].tolist()}, wanted 0 and 1")
        return Picture(Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB"), self.labels[i],
                       np.ascontiguousarray(outline, dtype=np.int8))


class Coco(Source):
    """COCO instances: every annotated object is 1, and a crowd, which no outline separates, -1 where no object lies.

    objects   names of categories that count as object, default all; those of others are background
    Ids are file names without suffix. y is the category that covers most of the image's object pixels, -1 for none.
    """

    def __init__(self, root: Path, split: str | None, objects=None):
        split = check_choice(split or "val", ("train", "val"), "split with annotations")
        indices = {year: root / "annotations" / f"instances_{split}{year}.json" for year in (2017, 2014)}
        year = next((year for year, path in indices.items() if path.exists()), 2017)
        index, folder = indices[year], f"{split}{year}"
        self.coco, self.folder = _read_coco(index), root / folder
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder {self.folder}, whose images {index.name} lists; unpack {folder}.zip")
        categories = {number: name["name"] for number, name in sorted(self.coco.cats.items())}
        self.category = {number: place for place, number in enumerate(categories)}  # 1 ... 90 with gaps -> 0 ... 79
        self.counted = _wanted(objects, list(categories.values()), list(categories.values()))
        self.images = sorted(self.coco.imgs)
        ids = [Path(self.coco.imgs[number]["file_name"]).stem for number in self.images]
        super().__init__("coco", ids, ids, tuple(categories.values()))

    def read(self, i: int) -> Picture:
        entry = self.coco.imgs[self.images[i]]
        image = read_rgb(self.folder / entry["file_name"])
        nothing = np.zeros((entry["height"], entry["width"]), dtype=bool)
        crowd, covered = nothing, {}  # category -> its pixels, also where objects overlap
        for annotation in self.coco.imgToAnns[self.images[i]]:
            place, outline = self.category[annotation["category_id"]], self.coco.annToMask(annotation) > 0
            if self.class_names[place] in self.counted and annotation.get("iscrowd", 0):
                crowd = crowd | outline
            elif self.class_names[place] in self.counted:
                covered[place] = covered.get(place, nothing) | outline
        inside = np.logical_or.reduce([nothing, *covered.values()])
        mask = np.where(inside, 1, np.where(crowd, -1, 0)).astype(np.int8)
        return Picture(image, max(sorted(covered), key=lambda place: covered[place].sum(), default=-1), mask)


class Cityscapes(Source):
    """Cityscapes, leftImg8bit with gtFine: road users are 1, what its benchmark leaves out of evaluation -1.

    objects   names of classes that count as object, default those with instances, from person to bicycle
    Ids as "frankfurt_000000_000294"; groups are cities, as frames of one drive resemble each other. y is the label id
    of the class that covers most of the object pixels, -1 for none.
    """

    def __init__(self, root: Path, split: str | None, objects=None):
        from torchvision.datasets import Cityscapes as Layout

        split = check_choice(split or "val", ("train", "val"), "split with annotations")
        for part in ("leftImg8bit", "gtFine"):  # torchvision would unpack archives it finds, or name neither folder
            if not (root / part / split).is_dir():
                raise FileNotFoundError(f"no folder {root / part / split}; unpack {part}_trainvaltest.zip in {root}")
        found = Layout(str(root), split, "fine", "semantic")
        self.pairs = [(Path(image), Path(target)) for image, (target,) in zip(found.images, found.targets, strict=True)]
        labels = [label for label in found.classes if label.id >= 0]
        default = [label.name for label in labels if label.has_instances and not label.ignore_in_eval]
        counted = _wanted(objects, [label.name for label in labels], default)
        self.meaning = np.full(256, -1, dtype=np.int8)  # label id -> mask value; 255 is a licence plate's -1
        for label in labels:
            self.meaning[label.id] = 1 if label.name in counted else -1 if label.ignore_in_eval else 0
        ids = [image.name.removesuffix(".png").removesuffix("_leftImg8bit") for image, _ in self.pairs]
        super().__init__("cityscapes", ids, [image.parent.name for image, _ in self.pairs],
                         tuple(label.name for label in labels))

    def read(self, i: int) -> Picture:
        image, target = self.pairs[i]
        with Image.open(target) as file:
            labels = np.asarray(file)
        mask = self.meaning[labels]
        inside = labels[mask == 1]
        return Picture(read_rgb(image), int(np.bincount(inside).argmax()) if len(inside) else -1, mask)


def _wanted(objects, known, default) -> set[str]:
    if isinstance(objects, str):
        raise ValueError(f"objects={objects!r} is one text, wanted a list of class names: [{objects!r}]")
    return {check_choice(name, known, "class in objects") for name in (default if objects is None else objects)}


def _open_mat(path: Path):
    mend = "download gtsegs_ijcv.mat again"
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; {mend}")
    try:
        file = library("h5py").File(path, "r")
    except OSError as err:
        raise OSError(f"{path} is truncated or no HDF5 file, which MATLAB v7.3 writes ({err}); {mend}") from err
    if absent := [name for name in ("value/img", "value/gt") if name not in file]:
        file.close()
        raise OSError(f"{path} has no {absent[0]}, so it is not ImageNet-Segmentation; {mend}")
    return file


def _cell(file, cells, i: int):
    """The i-th cell of a MATLAB cell array, which is stored as references; an empty one is stored as numbers."""
    if library("h5py").check_ref_dtype(cells.dtype) is None:
        raise ValueError(f"{cells.name} holds numbers, wanted cells with at least one annotation")
    return file[cells[np.unravel_index(i, cells.shape)]]


def _read_coco(index: Path):
    mend = "unpack annotations_trainval2017.zip again"
    if not index.is_file():
        raise FileNotFoundError(f"no file {index}; {mend}")
    coco = library("pycocotools.coco").COCO()
    try:
        coco.dataset = json.loads(index.read_text(encoding="utf-8"))
        if missing := {"images", "annotations", "categories"} - set(coco.dataset):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        with redirect_stdout(io.StringIO()):  # it reports progress
            coco.createIndex()
        _ = [(entry["file_name"], entry["height"], entry["width"]) for entry in coco.imgs.values()]
    except (ValueError, KeyError, TypeError) as err:
        what = f"{index} is truncated or no index of COCO instances"
        raise OSError(f"{what} ({type(err).__name__}: {err}); {mend}") from err
    return coco
