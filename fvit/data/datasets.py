"""The data sets on disk that have a name, how to get each, and where one is. Loads no torch."""

import os
from difflib import get_close_matches
from pathlib import Path

from fvit.base.checks import check_choice, check_source

KNOWN = {  # name: what opens it, in fvit.data, and how to get it
    "imagenet": ("folders.imagenet",
                 "ILSVRC 2012 from image-net.org, after registration; in class folders, val/n01440764/*"),
    "imagenet-seg": ("segmented.ImageNetSegmentation",
                     "gtsegs_ijcv.mat from calvin-vision.net/bigstuff/proj-imagenet/data"),
    "coco": ("coco.Coco",
             "val2017.zip and annotations_trainval2017.zip from cocodataset.org, unpacked side by side"),
    "cityscapes": ("segmented.Cityscapes",
                   "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from cityscapes-dataset.com, after "
                   "registration, unpacked side by side"),
    "cifar10": ("folders.cifar10",
                "cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz, unpacked, or class folders test/frog/"),
    "caltech101": ("caltech101.Caltech101",
                   "torchvision.datasets.Caltech101(FOLDER, download=True) unpacks it to FOLDER/caltech101, 137 MB"),
}


def find(source, root=None, masks=None, void=None) -> Path:
    """Where the data set `source` is: a name of KNOWN in `root` or $FVIT_DATA/<name>, or a folder of one's own.

    masks, void   as of `load_images`: for a folder alone
    Raises ValueError for an unknown name; FileNotFoundError for a set that is absent, with how to get it.
    """
    if masks is None and void is not None:
        raise ValueError(f"void={void!r} without masks=; it is the value that is left out of them")
    if check_source(source) in KNOWN:
        if masks is not None:
            raise ValueError(f"masks={str(masks)!r} with {source}; masks= is for a folder of your own pictures")
        _, how = KNOWN[source]
        if root is None and not os.environ.get("FVIT_DATA"):
            raise FileNotFoundError(f"where is {source}? Give root=, or set FVIT_DATA to the folder that holds "
                                    f"{source}/. To get it: {how}")
        folder = _home(Path(os.environ["FVIT_DATA"]) / source if root is None else root)
        if not folder.exists():
            raise FileNotFoundError(f"no folder {folder} with {source}. To get it: {how}")
        return folder
    folder = _home(source)
    if not folder.is_dir():
        if isinstance(source, str) and len(folder.parts) == 1:
            check_choice(source, ("scenes", *KNOWN, "a folder of class folders"), "image source")
        raise FileNotFoundError(f"no folder {folder}; wanted one of class folders, CLASS/*.jpg or SPLIT/CLASS/*.jpg"
                                f"{meant(folder)}")
    if root is not None:
        raise ValueError(f"root={str(root)!r} with the folder {folder}; root= is for sets that have a name")
    return folder


def _home(path) -> Path:
    return Path(os.path.expanduser(path))  # unlike Path's own, no error for ~nobody, which is then no folder


def meant(path, known=()) -> str:
    """"; did you mean ...?" where something near `path` has a like name, or is among the names `known`; else ""."""
    path = Path(path)
    there = [str(path.parent / name) for name in os.listdir(path.parent)] if path.parent.is_dir() else []
    close = get_close_matches(str(path), [*known, *there], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
