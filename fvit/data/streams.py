"""Data sets on disk, opened by name: deterministic subsets, read in worker processes, batch by batch."""

import warnings
from functools import partial
from pkgutil import resolve_name
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader

from fvit.base import rng
from fvit.base.checks import check_count, check_size
from fvit.data.datasets import KNOWN, find
from fvit.data.folders import Folders, Masked
from fvit.data.images import Images
from fvit.data.pictures import Source, as_tensors

WITH_OBJECTS = ("coco", "cityscapes")


def open_source(source, split=None, root=None, objects=None, masks=None, void=None) -> Source:
    """The data set `source`, of KNOWN or a folder of one's own; arguments and errors as of `load_images`."""
    if objects is not None and source not in WITH_OBJECTS:
        raise ValueError(f"objects={objects!r} with {source}; only {' and '.join(WITH_OBJECTS)} have such classes")
    folder = find(source, root, masks, void)
    if source in KNOWN:
        opens = resolve_name(f"fvit.data.{KNOWN[source][0]}")
        return opens(folder, split, **({} if objects is None else {"objects": objects}))
    if masks is not None:
        return Masked(folder, split, folder.resolve().name, masks, void)
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
                  objects=None, masks=None, void=None) -> "ImageStream":
    """The images of `fvit.load_images`, in the same order, batch by batch: for sets that do not fit in memory.

    n            default all
    workers      processes that read and resize ahead; they change nothing but the speed
    Other arguments and errors as of `load_images`. Scenes are no data set on disk: load_images("scenes", start=...).
    """
    if source == "scenes":
        raise ValueError("scenes are drawn, not read; take them in portions: load_images('scenes', n=32, start=64)")
    opened = open_source(source, split, root, objects, masks, void)
    return ImageStream(opened, choose(opened.ids, n, seed, start), size, batch_size, workers)


class ImageStream:
    """Batches of images of a source, read as they are needed: iterate, as often as you like, for `Images`.

    .ids      of all images asked for, in order      .name, .class_names  of the set      len()  batches at most
    .skipped  ids of images that could not be read: each is reported once, by a warning, and left out of its batch
    .reasons  id -> why, of these and of images whose mask lacks an object that could not be read: also reported once

    Raises OSError at the end if no image at all could be read.
    """

    def __init__(self, source: Source, positions, size=None, batch_size: int = 32, workers: int = 0):
        self.name, self.class_names, self.skipped, self.reasons = source.name, source.class_names, [], {}
        self.ids = [source.ids[i] for i in positions]
        # A generator of its own: the loader draws a seed for its workers, which is nobody's business here.
        self._rows = DataLoader(positions, check_count(batch_size, "batch_size"), generator=torch.Generator(),
                                num_workers=check_count(workers, "workers", least=0),
                                collate_fn=partial(_read, source, check_size(source.size if size is None else size)))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self):
        read = 0
        for rows in self._rows:
            why = {row.id: row.lacks for row in rows if row.lacks}
            broken = [row.id for row in rows if row.item is None]
            for name in [name for name in why if name not in self.reasons]:
                self.reasons[name] = why[name]
                self.skipped += [name] if name in broken else []
                what = f"skipped {name}" if name in broken else f"the mask of {name} lacks a part"
                counted = f"; {len(self.skipped)} so far" if name in broken else ""
                warnings.warn(f"{what} of {self.name}: {why[name]}{counted}", stacklevel=2)
            if rows := [row for row in rows if row.item is not None]:
                read += len(rows)
                x, y, mask = zip(*(row.item for row in rows), strict=True)
                yield Images(x=torch.stack(x).float() / 255, y=torch.stack(y),
                             mask=None if mask[0] is None else torch.stack(mask), ids=[row.id for row in rows],
                             groups=[row.group for row in rows], class_names=self.class_names, name=self.name,
                             skipped=broken, reasons=why)
        if not read:
            first, why = next(iter(self.reasons.items()))
            raise OSError(f"none of the {len(self.ids)} images of {self.name} could be read, first {first}: {why}")


class Row(NamedTuple):
    """An image as it comes from a worker."""

    id: str
    group: str
    item: tuple | None  # as of `as_tensors`; None where the image cannot be read, so that no worker dies of it
    lacks: str  # why, or what of its mask could not be read


def _read(source, size, positions):
    rows = []
    for i in positions:
        try:
            picture = source.read(i)
            item, lacks = as_tensors(picture, size), picture.lacks
        except MemoryError:
            raise
        except Exception as err:  # Pillow, HDF5 and pycocotools raise a dozen classes on broken bytes
            item, lacks = None, f"{type(err).__name__}: {err}"
        rows.append(Row(source.ids[i], source.groups[i], item, lacks))
    return rows
