"""A batch of images with what is known of each: what every source of images gives."""

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Images:
    """A batch of images with what is known of each.

    x        (B, 3, H, W) float32 in [0, 1]
    y        (B,) class index, -1 where there is none; (B, 2) for pair scenes, left digit first
    mask     (B, H, W) int8; (B, 2, H, W) for pairs: 1 object, 0 background, -1 ignore; None where the set has none
    ids      B names, unique
    groups   the cluster of each for every interval: of a scene its photograph, of a street scene its city
    name     of the data set
    skipped  ids of images that were asked for and could not be read; they are not among the B
    """

    x: torch.Tensor
    y: torch.Tensor
    mask: torch.Tensor | None
    ids: list[str]
    groups: list[str]
    class_names: tuple[str, ...]
    name: str = "scenes"
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)
