"""What frozen blocks say of pictures, computed once and kept in files; and the views of a picture.

What they say never changes, so that a step of training costs what the other blocks cost.
"""

import copy
import hashlib
import io
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fvit.base import devices, files, rng
from fvit.data.streams import ImageStream
from fvit.models.weight_files import network_digest

CHUNK = 32  # pictures in a file of tokens
SMALLEST = 0.6  # side of a crop, as a share of the picture's


def view(x: Tensor, g: torch.Generator) -> Tensor:
    """A picture (3, H, W) in [0, 1], cropped to a share of its sides and mirrored at random, at its size again."""
    height, width = x.shape[1:]
    share, top, left, turn = torch.rand(4, generator=g).tolist()
    h, w = (max(1, round((SMALLEST + (1 - SMALLEST) * share) * side)) for side in (height, width))
    top, left = round(top * (height - h)), round(left * (width - w))
    crop = F.interpolate(x[None, :, top:top + h, left:left + w], (height, width), mode="bilinear", align_corners=False)
    return crop[0].flip(2) if turn < 0.5 else crop[0]


def views(x: Tensor, ids: list[str], number: int, seed: int) -> Tensor:
    """View `number` of each picture (B, 3, H, W): 0 as it is, 1 mirrored, others cropped, the same each time."""
    if number < 2:
        return x.flip(3) if number else x
    return torch.stack([view(one, rng.generator(seed, "view", name, number)) for one, name in zip(x, ids, strict=True)])


class Played(nn.Module):
    """In the place of a block: it gives `tokens`, or what it is given where there are none."""

    tokens = None

    def forward(self, x, *_, **__):
        return x if self.tokens is None else self.tokens


class Trunk(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] -> tokens (B, N, dim) after the first `n` blocks of a timm ViT, frozen."""

    def __init__(self, backbone: nn.Module, n: int, mean: Tensor, std: Tensor):
        super().__init__()
        self.vit, self.found = copy.deepcopy(backbone).eval().requires_grad_(False), []
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        for place in range(n, len(backbone.blocks)):
            self.vit.blocks[place] = Played()
        self.vit.blocks[n - 1].register_forward_hook(lambda block, given, found: self.found.append(found))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        self.vit((x - self.mean) / self.std)
        return self.found.pop()


class Tokens:
    """The tokens of all views of the pictures of a stream, in files of CHUNK pictures that tell what made them.

    A file is named by the sha256 over frozen weights, precision, view and pixels; one that is there is not made again.
    .y (n,) classes of the pictures that could be read and have one
    """

    def __init__(self, trunk: Trunk, stream: ImageStream, seed: int, n_views: int, folder: Path, device, precision):
        autocast, trunk = partial(devices.autocast, torch.device(device).type, precision), trunk.to(device)
        made = f"{network_digest(trunk)} {precision}"
        self._files, self._at, y, begun = [], [], [], time.monotonic()
        for batch in stream:
            pixels = f"{made} {seed} {batch.ids}".encode() + (batch.x * 255).round().byte().numpy().tobytes()
            paths = []
            for number in range(n_views):
                path = folder / f"{hashlib.sha256(f'{number} '.encode() + pixels).hexdigest()}.npy"
                if (kept := _mapped(path)) is None:
                    with autocast():
                        tokens = trunk(views(batch.x, batch.ids, number, seed).to(device)).half().cpu()
                    if not tokens.isfinite().all():
                        raise ValueError(f"tokens of {batch.ids[0]} or the next leave float16; freeze fewer blocks")
                    file = io.BytesIO()
                    np.save(file, tokens.numpy(), allow_pickle=False)
                    kept = _mapped(files.write_atomic(path, file.getvalue()))
                paths.append(kept)
            self._at += [(len(self._files), row) for row, label in enumerate(batch.y.tolist()) if label >= 0]
            self._files.append(paths)
            y.append(batch.y[batch.y >= 0])
            done = sum(map(len, y))
            left = (time.monotonic() - begun) / done * (len(stream.ids) - done)
            print(f"tokens of {done}/{len(stream.ids)} pictures, {left / 60:.0f} min left", file=sys.stderr, flush=True)
        self.y = torch.cat(y)

    def take(self, places: list[int], numbers: list[int]) -> Tensor:
        """Tokens (B, N, dim) float32 of some pictures, each in one of its views."""
        rows = [self._files[chunk][number][row] for (chunk, row), number in
                zip([self._at[place] for place in places], numbers, strict=True)]
        return torch.from_numpy(np.stack(rows)).float()


def _mapped(path: Path) -> np.ndarray | None:
    """The numbers of a file, which stay on disk; None if it is not there or not whole."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


class Pixels:
    """The pictures of a stream in memory, where no block is frozen; `take` gives them whole, or in views drawn anew."""

    def __init__(self, stream: ImageStream):
        parts = [(batch.x[batch.y >= 0], batch.y[batch.y >= 0]) for batch in stream]
        self.x = torch.cat([(x * 255).round().byte() for x, _ in parts])
        self.y = torch.cat([y for _, y in parts])

    def take(self, places: list[int], g: torch.Generator | None = None) -> Tensor:
        x = self.x[places].float() / 255
        return x if g is None else torch.stack([view(one, g) for one in x])
