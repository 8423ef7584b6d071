"""Data sets of class folders: ImageNet, CIFAR-10 and any other; and CIFAR-10's own batches, which are pickles."""

import pickle
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from fvit.base.checks import check_choice
from fvit.data.class_folders import canonical, read_class_folders
from fvit.data.mask_files import MaskFiles
from fvit.data.pictures import Picture, Source, distinct, read_rgb

CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
IN_BATCHES = {("numpy", "ndarray"), ("numpy", "dtype"),  # all that the pickle of an array names, old and new
              ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}


class Folders(Source):
    """Images in class folders: root/SPLIT/CLASS/..., or root/CLASS/..., a set whose only split is "test".

    classes   class folder -> class index and class_names, where these are fixed; default as in `read_class_folders`
    samples   (path, class index) of each image. Ids are paths below root, as "test/frog/0001.jpg"
    """

    def __init__(self, root: Path, split: str | None, name: str, classes=None, class_names=None, size=None):
        self.samples, class_names = read_class_folders(root, split, classes, class_names, name)
        ids = [path.relative_to(root).as_posix() for path, _ in self.samples]
        super().__init__(name, ids, ids, class_names, **({"size": size} if size else {}))

    def read(self, i: int) -> Picture:
        path, label = self.samples[i]
        return Picture(read_rgb(path), label)


class Masked(Folders):
    """Own pictures with mask images: class folders as of `Folders`, or pictures that lie in `root` itself, whose y is
    -1; masks and void as of `MaskFiles`."""

    def __init__(self, root: Path, split: str | None, name: str, masks, void=None):
        self.masks = MaskFiles(root, masks, void)
        if all(path.parent != root for path in self.masks.pictures):
            super().__init__(root, split, name)
            return
        check_choice(split or "test", ("test",), f"split of {root}, which has none and is all 'test',")
        self.samples = [(path, -1) for path in self.masks.pictures]
        ids = [path.relative_to(root).as_posix() for path in self.masks.pictures]
        Source.__init__(self, name, ids, ids, ())

    def read(self, i: int) -> Picture:
        image, label, _, _ = super().read(i)
        return Picture(image, label, self.masks.read(self.samples[i][0]))


def imagenet(root: Path, split: str | None) -> Folders:
    """ImageNet-1k in class folders named by WordNet id, as val/n01440764/*.JPEG, or by class index, as ImageNetV2's
    0/*.jpeg ... 999/*.jpeg; y counts within all 1,000 classes."""
    return Folders(root, split, "imagenet", *imagenet_classes())


@cache
def imagenet_classes() -> tuple[dict[str, int], tuple[str, ...]]:
    """WordNet id -> class index, and the 1,000 names, from timm's wheel."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    names = tuple(info.index_to_description(number).split(",")[0] for number in range(info.num_classes()))
    return {wnid: number for number, wnid in enumerate(info.label_names())}, names


def cifar10(root: Path, split: str | None) -> Source:
    """CIFAR-10 at 32x32: class folders train/frog/*, test/frog/*, or the official python batches (`CifarBatches`)."""
    for folder in (root / "cifar-10-batches-py", root):
        if (folder / "data_batch_1").exists() or (folder / "test_batch").exists():
            return CifarBatches(folder, split)
    return Folders(root, split, "cifar10", {name: number for number, name in enumerate(CIFAR10)}, size=32)


class CifarBatches(Source):
    """The official cifar-10-batches-py: data_batch_1 to data_batch_5, or test_batch. Ids are "test_batch/FILENAME".

    Note: these are pickles, which torchvision's reader runs. Here one may name numpy's array and its parts, nothing
    else, and even they are not called: `_Inert` stands in, and pixels are read from its bytes.
    """

    def __init__(self, folder: Path, split: str | None):
        split = check_choice(canonical(split or "test"), ("train", "test"), "split")
        names = [f"data_batch_{n}" for n in range(1, 6)] if split == "train" else ["test_batch"]
        files = [folder / name for name in names]
        parts = [_read_batch(path) for path in files]
        self.pixels = np.concatenate([pixels for pixels, _, _ in parts])  # (n, 32, 32, 3) uint8
        self.labels = [label for _, labels, _ in parts for label in labels]
        ids = [f"{path.name}/{name}" for path, part in zip(files, parts, strict=True) for name in distinct(part[2])]
        super().__init__("cifar10", ids, ids, CIFAR10, 32)

    def read(self, i: int) -> Picture:
        return Picture(Image.fromarray(self.pixels[i]), self.labels[i])


class _Inert:
    """Stands in for everything a batch names: keeps what it is handed and does nothing."""

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):  # bytes as Python 3 writes them in Python 2's pickles
            return lambda text, encoding: text.encode("latin1")
        if (module, name) not in IN_BATCHES:
            raise ValueError(f"it names {module}.{name}, which no batch of CIFAR-10 does; it was not run")
        return _Inert


def _read_batch(path: Path) -> tuple[np.ndarray, list[int], list[str]]:
    """Pixels (n, 32, 32, 3) uint8, labels and file names of one batch; nothing in the file is executed."""
    mend = "unpack cifar-10-python.tar.gz again, or use class folders train/frog/*.png"
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}; {mend}")
    try:
        with path.open("rb") as file:
            batch = _Unpickler(file, encoding="latin1").load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        data = batch["data"].state[-1]  # the array's bytes, text where Python 2 wrote them
        data = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, np.uint8)
        pixels = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels, names = [int(label) for label in batch["labels"]], batch["filenames"]
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
        if not len(pixels) == len(labels) == len(names) or not set(labels) <= set(range(10)):
            raise ValueError(f"{len(pixels)} images, {len(labels)} labels, {len(names)} names, or labels beyond 0..9")
    except Exception as err:  # a broken pickle raises almost anything
        raise OSError(f"{path} is no batch of CIFAR-10 ({type(err).__name__}: {err}); {mend}") from err
    return pixels, labels, names
