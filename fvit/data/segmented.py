"""Data sets with masks: ImageNet-Segmentation, Cityscapes. 1 object, 0 background, -1 ignore."""

from pathlib import Path

import numpy as np
from PIL import Image

from fvit.base.checks import check_choice
from fvit.data.class_folders import canonical, is_hidden
from fvit.data.folders import imagenet_classes
from fvit.data.pictures import Picture, Source, distinct, library, read_rgb

FRAME = "_leftImg8bit.png"  # what names of Cityscapes' images end in


class ImageNetSegmentation(Source):
    """gtsegs_ijcv.mat (Guillaumin et al. 2014): 4,276 ImageNet images, each with its object's outline.

    Of several annotations the first (docs/reference-code.md, 3.1). Ids are the file's own, as "n02105855_2933", else
    places in it. y is the class among the 1,000 of ImageNet-1k, -1 where the WordNet id is none of theirs.
    """

    def __init__(self, root: Path, split: str | None):
        check_choice(canonical(split or "test"), ("test",), "split of imagenet-seg")
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


class Cityscapes(Source):
    """Cityscapes, leftImg8bit with gtFine: road users are 1, what its benchmark leaves out of evaluation -1.

    objects   names of classes that count as object, default those with instances, from person to bicycle
    Ids as "frankfurt_000000_000294"; groups are cities, as frames of one drive resemble each other. y is the label id
    of the class that covers most of the object pixels, -1 for none.
    """

    def __init__(self, root: Path, split: str | None, objects=None):
        from torchvision.datasets import Cityscapes as Layout

        split = check_choice(canonical(split or "val"), ("train", "val"), "split with annotations")
        for part in ("leftImg8bit", "gtFine"):
            if not (root / part / split).is_dir():
                raise FileNotFoundError(f"no folder {root / part / split}; unpack {part}_trainvaltest.zip in {root}")
        folder = root / "leftImg8bit" / split
        images = [image for image in sorted(folder.glob(f"*/*{FRAME}"))
                  if not (is_hidden(image.name) or is_hidden(image.parent.name))]
        if not images:
            raise FileNotFoundError(f"no {folder}/CITY/*{FRAME}; unpack leftImg8bit_trainvaltest.zip in {root}")
        names = [image.name.removesuffix(FRAME) for image in images]
        self.pairs = [(image, root / "gtFine" / split / image.parent.name / f"{name}_gtFine_labelIds.png")
                      for image, name in zip(images, names, strict=True)]
        labels = [label for label in Layout.classes if label.id >= 0]
        default = [label.name for label in labels if label.has_instances and not label.ignore_in_eval]
        counted = wanted_objects(objects, [label.name for label in labels], default)
        self.meaning = np.full(256, -1, dtype=np.int8)  # label id -> mask value; 255 is a licence plate's -1
        for label in labels:
            self.meaning[label.id] = 1 if label.name in counted else -1 if label.ignore_in_eval else 0
        super().__init__("cityscapes", distinct(names), [image.parent.name for image, _ in self.pairs],
                         tuple(label.name for label in labels))

    def read(self, i: int) -> Picture:
        image, target = self.pairs[i]
        with Image.open(target) as file:
            labels = np.asarray(file)
        mask = self.meaning[labels]
        inside = labels[mask == 1]
        return Picture(read_rgb(image), int(np.bincount(inside).argmax()) if len(inside) else -1, mask)


def wanted_objects(objects, known, default) -> set[str]:
    """The names of classes that count as object, `default` where none are given; ValueError for unknown ones."""
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
