"""Data sets on disk, opened by name: deterministic subsets, read in worker processes, batch by batch."""

import warnings
from functools import partial
from pkgutil import resolve_name

import torch
from torch.utils.data import DataLoader

from fvit.base import rng
from fvit.base.checks import check_count, check_size
from fvit.data.datasets import KNOWN, find
from fvit.data.folders import Folders
from fvit.data.images import Images
from fvit.data.pictures import Source

WITH_OBJECTS = ("coco", "cityscapes")


def open_source(source, split=None, root=None, objects=None) -> Source:
    """The data set `source`, of KNOWN or a folder of class folders; arguments and errors as of `load_images`."""
    if objects is not None and source not in WITH_OBJECTS:
        raise ValueError(f"objects={objects!r} with {source}; only {' and '.join(WITH_OBJECTS)} have such classes")
    folder = find(source, root)
    if source in KNOWN:
        opens = resolve_name(f"fvit.data.{KNOWN[source][0]}")
        return opens(folder, split, **({} if objects is None else {"objects": objects}))
    return Folders(folder, split, folder.resolve().name)


def choose(ids: list[str], n: int | None, seed: int = 0, start: int = 0) -> list[int]:
    """Positions of the images number start ... start + n - 1 in an order that (seed, id) alone decides.

    So a subset is the same whatever the order on disk, the first 100 of n=500 are n=100, and blocks of images join to
    the whole. ValueError for n or start out of range.
    """
    start = check_count(start, "start", least=0)
    stop = len(ids) if n is None else start + check_count(n, "n")
    if max(stop, start + 1) > len(ids):
        raise ValueError(f"n={n}, start={start}: there are {len(ids)} images; want start + n <= {len(ids)}")
    order = sorted(range(len(ids)), key=lambda i: (rng.stream_seed(seed, "subset", ids[i]), ids[i]))
    return order[start:stop]


def stream_images(source, split=None, n=None, *, batch_size=32, workers=0, seed=0, start=0, root=None, size=None,
                  objects=None) -> "ImageStream":
    """The images of `fvit.load_images`, in the same order, batch by batch: for sets that do not fit in memory.

    n            default all
    workers      processes that read and resize ahead; they change nothing but the speed
    Other arguments and errors as of `load_images`. Scenes are no data set on disk: load_images("scenes", start=...).
    """
    if source == "scenes":
        raise ValueError("scenes are drawn, not read; take them in portions: load_images('scenes', n=32, start=64)")
    opened = open_source(source, split, root, objects)
    return ImageStream(opened, choose(opened.ids, n, seed, start), size, batch_size, workers)


class ImageStream:
    """Batches of images of a source, read as they are needed: iterate, as often as you like, for `Images`.

    .ids      of all images asked for, in order      .name, .class_names  of the set      len()  batches at most
    .skipped  ids of images that could not be read: each is reported once, by a warning, and left out of its batch

    Raises OSError at the end if no image at all could be read.
    """

    def __init__(self, source: Source, positions, size=None, batch_size: int = 32, workers: int = 0):
        self.name, self.class_names, self.skipped = source.name, source.class_names, []
        self.ids = [source.ids[i] for i in positions]
        # A generator of its own: the loader draws a seed for its workers, which is nobody's business here.
        self._rows = DataLoader(positions, check_count(batch_size, "batch_size"), generator=torch.Generator(),
                                num_workers=check_count(workers, "workers", least=0),
                                collate_fn=partial(_read, source, check_size(source.size if size is None else size)))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self):
        read, reason = 0, None
        for rows in self._rows:
            broken = [(name, item) for name, _, item in rows if isinstance(item, str)]
            for name, why in broken:
                reason = reason or f"{name}: {why}"
                if name not in self.skipped:
                    self.skipped.append(name)
                    warnings.warn(f"skipped {name} of {self.name}: {why}; {len(self.skipped)} so far", stacklevel=2)
            if rows := [row for row in rows if not isinstance(row[2], str)]:
                read += len(rows)
                yield self._batch(rows, [name for name, _ in broken])
        if not read:
            raise OSError(f"none of the {len(self.ids)} images of {self.name} could be read, first {reason}")

    def _batch(self, rows, skipped) -> Images:
        ids, groups, items = zip(*rows, strict=True)
        x, y, mask = zip(*items, strict=True)
        return Images(x=torch.stack(x).float() / 255, y=torch.stack(y),
                      mask=None if mask[0] is None else torch.stack(mask), ids=list(ids), groups=list(groups),
                      class_names=self.class_names, name=self.name, skipped=skipped)


def _read(source, size, positions):
    """(id, group, item) of each image; where it cannot be read the item is the reason, so no worker dies of it."""
    rows = []
    for i in positions:
        try:
            item = source.item(i, size)
        except MemoryError:
            raise
        except Exception as err:  # Pillow, HDF5 and pycocotools raise a dozen classes on broken bytes
            item = f"{type(err).__name__}: {err}"
        rows.append((source.ids[i], source.groups[i], item))
    return rows
