"""A batch of images with what is known of each: what every source of images gives."""

import operator
from dataclasses import dataclass, field, replace

import torch
from torch.utils.data import Dataset


@dataclass(frozen=True, eq=False)
class Images(Dataset):
    """A batch of images with what is known of each; as a torch Dataset, `images[i]` is (x, y, id) of one.

    A slice, or a list of ids or places, gives the Images of these: in a loop over a DataLoader
    `for x, y, ids in DataLoader(images, 8, shuffle=True)`, `images[ids].mask` are the masks of its batch.

    x        (B, 3, H, W) float32 in [0, 1]
    y        (B,) class index, -1 where there is none; (B, 2) for pair scenes, left digit first
    mask     (B, H, W) int8; (B, 2, H, W) for pairs: 1 object, 0 background, -1 ignore; None where the set has none
    ids      B names, unique
    groups   the cluster of each for every interval: of a scene its photograph, of a street scene its city
    name     of the data set
    skipped  ids of images that were asked for and could not be read; they are not among the B
    reasons  id -> why, of these and of images whose mask lacks an object that could not be read
    """

    x: torch.Tensor
    y: torch.Tensor
    mask: torch.Tensor | None
    ids: list[str]
    groups: list[str]
    class_names: tuple[str, ...]
    name: str = "scenes"
    skipped: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return self[list(range(len(self))[i])]
        if isinstance(i, list | tuple):
            places = [self._place(each) for each in i]
            ids, groups = [[of[place] for place in places] for of in (self.ids, self.groups)]
            mask = None if self.mask is None else self.mask[places]
            return replace(self, x=self.x[places], y=self.y[places], mask=mask, ids=ids, groups=groups)
        place = self._place(i)
        return self.x[place], self.y[place], self.ids[place]

    def _place(self, i) -> int:
        """The place of an id, or of an integer that is one; IndexError for another."""
        if isinstance(i, str):
            if i not in self.ids:
                raise IndexError(f"no image {i!r} among these {len(self)} of {self.name}")
            return self.ids.index(i)
        place = operator.index(i)
        if not -len(self) <= place < len(self):
            raise IndexError(f"no image {place} among these {len(self)} of {self.name}")
        return place % len(self)
