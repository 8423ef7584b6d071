"""Training on photographs at 224 pixels: a prior for them and the plain CNN beside it, on crops. Our own recipe.

The photographs are Caltech-101's training share and a sample of ImageNet; none that the prior is tested on is among
them, and choices are made on Caltech-101's validation share.
"""

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from fvit.base import rng
from fvit.data.datasets import find
from fvit.data.streams import stream_images
from fvit.models.cnn import load_cnn
from fvit.models.diffusers_files import load_denoiser
from fvit.training.cnn import Cleaning
from fvit.training.denoiser import Denoising

SIZE, CROP = 224, 112  # pixels a side of a photograph as it is classified, and of what is cut out of it
SAMPLE = "imagenet256"  # a folder of class folders beside caltech101: one photograph of each class of ImageNet, or more
HOW = "github.com/EliSchwartz/imagenet-sample-images in class folders, or any photographs of ImageNet: n01440764/*.JPEG"


def folders(root: Path | str | None) -> tuple[Path, Path]:
    """Those of Caltech-101 and of the sample in `root`, or in $FVIT_DATA; FileNotFoundError with how to get each."""
    caltech = find("caltech101", None if root is None else Path(root) / "caltech101")
    sample = Path(root or os.environ["FVIT_DATA"]).expanduser() / SAMPLE
    if not sample.is_dir():
        raise FileNotFoundError(f"no folder {sample} with a sample of ImageNet. To get it: {HOW}")
    return caltech, sample


@cache
def pictures(root: str | None) -> Tensor:
    """The photographs to train on, (n, 3, SIZE, SIZE) uint8: 150 kB each."""
    caltech, sample = folders(root)
    streams = (stream_images("caltech101", "train_natural", batch_size=100, root=caltech, size=SIZE),
               stream_images(sample, batch_size=100, size=SIZE))
    return torch.cat([(batch.x * 255).round().byte() for stream in streams for batch in stream])


class Photographs:
    """Batches of crops, each photograph at most once an epoch, mirrored at random.

    Batch `step` is x (batch, 3, CROP, CROP) in [0, 1] alone in a tuple, and depends on (seed, step) only.
    """

    def __init__(self, seed: int, batch: int, root: Path | str | None = None):
        self.seed, self.batch, self.x = seed, batch, pictures(None if root is None else str(root))
        if batch > len(self.x):
            raise ValueError(f"--batch {batch}: there are {len(self.x)} photographs to train on; take a smaller batch")
        self._order: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> tuple[Tensor]:
        epoch, place = divmod(step, len(self.x) // self.batch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.randperm(len(self.x), generator=rng.generator(self.seed, "epoch", epoch))
        pick, g = self._order[1][place * self.batch:(place + 1) * self.batch], rng.generator(self.seed, "crop", step)
        corners = torch.randint(0, SIZE - CROP + 1, (self.batch, 2), generator=g).tolist()
        x = torch.stack([self.x[i, :, top:top + CROP, left:left + CROP]
                         for i, (top, left) in zip(pick, corners, strict=True)]).float() / 255
        return (torch.where(torch.rand(self.batch, 1, 1, 1, generator=g) < 0.5, x.flip(3), x),)


class OnPhotographs:
    """What the tasks share: the data, and the start from what the scenes have taught."""

    image_size = CROP

    def __init__(self, seed: int, root: Path | str | None = None):
        super().__init__(seed)
        self.root, self.lr = root, 5e-4
        self.model.load_state_dict(self.of_scenes())

    def batches(self, batch: int, chapter: int) -> Photographs:
        return Photographs(self.seed, batch, self.root)

    def validation(self, n: int) -> Tensor:
        """Whole photographs (n, 3, SIZE, SIZE)."""
        [batch] = stream_images("caltech101", "val", n, batch_size=n, root=folders(self.root)[0], size=SIZE)
        return batch.x


class DenoiserTask(OnPhotographs, Denoising):
    """The prior for photographs."""

    def of_scenes(self) -> dict[str, Tensor]:
        return load_denoiser("scenes").network.unet.state_dict()


class CNNTask(OnPhotographs, Cleaning):
    """The plain CNN for photographs."""

    def of_scenes(self) -> dict[str, Tensor]:
        return load_cnn("scenes").state_dict()


TASKS = {task.name: task for task in (DenoiserTask, CNNTask)}
