"""Class folders on disk: which folders are splits, which are classes, and the number of each. Loads no torch.

root/CLASS/*, or root/SPLIT/CLASS/*, at any depth below CLASS. Or as Tiny ImageNet is unpacked: a split of one folder
and, beside it, an index val_annotations.txt.
"""

import os
import re
from pathlib import Path

from fvit.base.checks import check_choice

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
EVALUATION = ("test", "val")  # splits to evaluate on, in the order they are looked for
PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as torchvision's ImageFolder
HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")  # what systems put beside pictures
NO_CLASS = frozenset("images image imgs img jpegimages photos pictures data files all unknown unlabelled unlabeled "
                     "masks labels annotations segmentations".split())  # what folders are called that sort nothing
DEEPEST = 3  # folders within a class, one in another; beyond, this is some other tree, or a link that leads back
MOST = 100_000  # from here on, numbers are codes: no classifier counts so far


def read_class_folders(root: Path, split: str | None, known: dict[str, int] | None = None,
                       class_names: tuple[str, ...] | None = None, name: str = ""):
    """The pictures of a split with their classes, [(path, y), ...], and the name of each class.

    split   a folder of `root`, or another spelling of it (SPLITS); None the first of EVALUATION that has classes.
            Without splits all of `root` is "test"
    known   class folder -> y, and class_names, of a data set `name` whose classes are fixed

    y counts the folders of the training split in order of their names, else those of all splits together: it does not
    depend on the split that is read, and empty folders count. Folders that are all named by whole numbers below MOST
    mean these numbers, in a set with fixed classes too. Hidden files and folders are left out at every depth.

    Raises ValueError for a split that is not there, or whose folders are no classes; FileNotFoundError without images.
    """
    splits = _splits(root)
    if not splits:
        check_choice(split or "test", ("test",), f"split of {root}, which has none and is all 'test',")
    base = root / _chosen(root, splits, split) if splits else root
    found = _classes(base)
    if _sort_nothing(found):
        mend = (f"load {base} by its own path" if _splits(base) else
                f"put them into class folders, {base}/CLASS/*.jpg, or name their classes in {_index_path(base)}, in "
                "lines of image, tab, class")
        raise ValueError(f"{base} has its images in {_quoted(found)}, no name of a class; {mend}")
    if known is None:
        where, names = _training_classes(base, bool(splits))
        known = _numbers(names, where) or {each: place for place, each in enumerate(_in_order(names))}
        of = {y: each for each, y in known.items()}
        class_names = tuple(of.get(y, str(y)) for y in range(max(of, default=-1) + 1))
        whose, mend = f"those among the training classes in {where}", "rename or move it: y counts those"
    else:
        class_names = class_names or tuple(known)
        whose, mend = f"classes of {name}", f"move it, or load {base} by its path instead of the name"
        if (numbers := _numbers(found, base)) and max(numbers.values()) < len(class_names):
            known = numbers
    if strange := [each for each in found if each not in known]:
        raise ValueError(f"{base} has {_quoted(strange)}, wanted {whose}, such as {next(iter(known))!r}; {mend}")
    files = [(path, known[each]) for path, each in _images(base)]
    if not files:
        raise FileNotFoundError(f"no images in class folders below {base}; wanted {base}/CLASS/*.jpg or the like")
    return files, class_names


def has_split(root: Path, split: str) -> bool:
    """Whether `root` has a folder of this split, in any spelling, with class folders in it."""
    return any(canonical(each) == split for each in _splits(root))


def canonical(split):
    """The name of a split, "train", "val" or "test", for any spelling of it; anything else as it is."""
    return next((name for name, words in SPLITS.items() if str(split).casefold() in words), split)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a copy or a note of the system's, such as ._x.jpg or __MACOSX."""
    return name.startswith(".") or name in HIDDEN


def _splits(root: Path) -> list[str]:
    """Folders of `root` that hold class folders; none where the folders of `root` are the classes themselves."""
    splits, flat = [], False
    for folder in _inside(root)[0]:
        inside, has_images = _inside(folder, until_image=canonical(folder.name) not in SPLITS)
        if canonical(folder.name) not in SPLITS and (has_images or all(i.name.casefold() in NO_CLASS for i in inside)):
            flat |= has_images or bool(inside)  # a class, as CLASS/*.jpg or CLASS/images/*.jpg; else an empty folder
        elif inside:
            splits.append(folder.name)
    return splits if not flat or any(canonical(each) in SPLITS for each in splits) else []


def _chosen(root: Path, splits: list[str], split: str | None) -> str:
    """The folder of the split that is asked for, or is to be evaluated on."""
    if split:
        alike = [each for each in splits if canonical(each) == canonical(split)]
        if split in splits or len(alike) != 1:
            flat = [each for each in _inside(root)[0] if canonical(each.name) == canonical(split)]
            if flat and not alike:
                raise ValueError(f"{flat[0]} has no class folders, wanted {flat[0]}/CLASS/*.jpg; splits that have: "
                                 f"{', '.join(splits)}")
            return check_choice(split, splits, f"split of {root}:")
        return alike[0]
    able = [each for kind in EVALUATION for each in splits if canonical(each) == kind]
    if not able:
        raise ValueError(f"{root} has the splits {', '.join(splits)}, none of them test or val with class folders; say "
                         f"which to take with split=, e.g. split={splits[0]!r}, or load the folder that holds them")
    return next((each for each in able if not _sort_nothing(_classes(root / each))), able[0])


def _training_classes(base: Path, is_split: bool) -> tuple[Path, list[str]]:
    """The classes that y counts, and where they are: the training split beside a split `base`, else all splits.

    A folder that is named as a split and lies beside others is one, also where it is loaded by its own path.
    """
    base = Path(os.path.abspath(base))
    beside = [base.parent / each for each in _splits(base.parent)] if is_split or canonical(base.name) in SPLITS else []
    if base not in beside:
        return base, _classes(base)
    names = {folder: names for folder in beside if not _sort_nothing(names := _classes(folder))}
    train = [folder for folder in names if canonical(folder.name) == "train"]
    return (train or [base.parent])[0], sorted({each for folder in train or names for each in names[folder]})


def _classes(base: Path) -> list[str]:
    """Names of the classes of a split: in its index, else of its folders."""
    return sorted(set(_index(base).values())) or [folder.name for folder in _inside(base)[0]]


def _images(base: Path) -> list[tuple[Path, str]]:
    """Every image of a split and its class, in the order of their paths; ValueError beyond DEEPEST."""
    index, found = _index(base), []
    for folder in _inside(base)[0]:
        for at, inside, files in os.walk(folder, followlinks=True):
            inside[:] = sorted(each for each in inside if not is_hidden(each))
            if len(Path(at).relative_to(folder).parts) > DEEPEST:
                raise ValueError(f"{at} lies more than {DEEPEST} folders deep in {folder}, wanted class folders, "
                                 f"{base}/CLASS/*.jpg; give the folder that holds them")
            found += [(Path(at, each), index.get(each) if index else folder.name) for each in sorted(files)
                      if each.lower().endswith(PICTURES) and not is_hidden(each)]
    if lacking := [path for path, each in found if each is None]:
        raise ValueError(f"{_index_path(base)} names no class of {lacking[0].name}, nor of {len(lacking) - 1} others; "
                         "unpack the set again, or move them")
    return found


def _index_path(base: Path) -> Path:
    return base / f"{canonical(base.name)}_annotations.txt"


def _index(base: Path) -> dict[str, str]:
    """Image -> class, as Tiny ImageNet's val/val_annotations.txt has them; empty where there is none."""
    path = _index_path(base)
    if not path.is_file():
        return {}
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if bad := [line for line in lines if len(line) < 2]:
        raise ValueError(f"{path} has the line {bad[0][0]!r}, wanted image, tab, class; unpack the set again")
    return {line[0]: line[1] for line in lines}


def _inside(folder: Path, until_image: bool = False) -> tuple[list[Path], bool]:
    """Visible folders in `folder`, by name, and whether images lie beside them; none where they do, if `until_image`:
    of a folder with a thousand images only the first is looked at."""
    found, has_images = [], False
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.name.lower().endswith(PICTURES) and not entry.is_dir():
                has_images = True
                if until_image:
                    return [], True
            elif entry.is_dir():
                found.append(folder / entry.name)
    return sorted(found), has_images


def _numbers(names: list[str], where: Path) -> dict[str, int] | None:
    """Class folder -> the number that its name is; None unless all are whole numbers below MOST."""
    if not names or not all(map(_is_number, names)):
        return None
    numbers = {each: int(each) for each in _in_order(names)}
    for one, other in zip(numbers, list(numbers)[1:], strict=False):
        if numbers[one] == numbers[other]:
            raise ValueError(f"{where} has the class folders {one!r} and {other!r}, which are one number; rename one")
    return numbers if max(numbers.values()) < MOST else None


def _in_order(names: list[str]) -> list[str]:
    return sorted(names, key=lambda each: (int(each), each)) if all(map(_is_number, names)) else sorted(names)


def _is_number(name: str) -> bool:
    return re.fullmatch("[0-9]+", name) is not None


def _sort_nothing(names: list[str]) -> bool:
    """Whether folders of these names are no classes: "images", or "train" and "val"."""
    return bool(names) and all(name.casefold() in NO_CLASS or canonical(name) in SPLITS for name in names)


def _quoted(names: list[str]) -> str:
    several = ", ".join(map(repr, names[:5])) + f" and {len(names) - 5} more" * (len(names) > 5)
    return f"the folders {several}" if len(names) > 1 else f"a folder {several}"
