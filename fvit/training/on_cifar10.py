"""Training on CIFAR-10, its pictures in memory: our own recipe, for an hour and a half of one CPU core."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fvit.base import rng
from fvit.data.streams import stream_images
from fvit.models.cnn import load_cnn
from fvit.models.diffusers_files import load_denoiser
from fvit.training.cnn import Cleaning
from fvit.training.cures import Cured, OnAttacks, OnNoise
from fvit.training.denoiser import Denoising
from fvit.training.vit import Taught, Teaching, convolved, final_tokens, read_teacher, vit_config

HELD_OUT = 2000  # images of the training split on which choices are made; a fifth where there are fewer than 10,000
SHIFT = 4  # pixels by which an image is moved at most, as usual for CIFAR-10
HALVED = 0.7  # share of the ViT's run in which it sees half of the patches


@cache
def pictures(root: str | None) -> tuple[Tensor, Tensor]:
    """x (n, 3, 32, 32) uint8 and y (n,) of the training split, in the order of `load_images`: 150 MB."""
    batches = stream_images("cifar10", "train", batch_size=500, root=root)
    x, y = zip(*(((batch.x * 255).round().byte(), batch.y) for batch in batches), strict=True)
    return torch.cat(x), torch.cat(y)


class Cifar10:
    """Batches of the training split but for what is held out, each image once an epoch, mirrored at random.

    Batch `step` is x (batch, 3, 32, 32) in [0, 1] and y (batch,), and depends on (seed, step) only.
    .held_out  (x, y) as of `pictures`: the first images in the order of `load_images`
    """

    def __init__(self, seed: int, batch: int, root: Path | str | None = None):
        self.seed, self.batch = seed, batch
        x, y = pictures(None if root is None else str(root))
        first = min(HELD_OUT, len(x) // 5)
        self.held_out, self.x, self.y = (x[:first], y[:first]), x[first:], y[first:]
        if batch > len(self.x):
            raise ValueError(f"--batch {batch}: CIFAR-10 in {root or '$FVIT_DATA'} has {len(self.x)} images to train "
                             "on; take a smaller batch, or the whole set")
        self._order: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(step, len(self.x) // self.batch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.randperm(len(self.x), generator=rng.generator(self.seed, "epoch", epoch))
        pick = self._order[1][place * self.batch:(place + 1) * self.batch]
        mirrored = torch.rand(self.batch, 1, 1, 1, generator=rng.generator(self.seed, "mirror", step)) < 0.5
        x = self.x[pick].float() / 255
        return torch.where(mirrored, x.flip(3), x), self.y[pick]


class OnCifar10:
    """What the tasks share: the data."""

    def __init__(self, seed: int, root: Path | str | None = None):
        self.root = root
        super().__init__(seed)

    def batches(self, batch: int, chapter: int) -> Cifar10:
        self.data = Cifar10(self.seed, batch, self.root)
        return self.data

    def validation(self, n: int) -> Tensor:
        return self.data.held_out[0][:n].float() / 255

    @torch.no_grad()
    def accuracy(self, logits_of, n: int) -> dict[str, float]:
        logits = torch.cat([logits_of(x).float().cpu() for x in self.validation(n).split(100)])
        return {"accuracy": (logits.argmax(1) == self.data.held_out[1][:n]).double().mean().item()}


def moved(x: Tensor, g: torch.Generator) -> Tensor:
    """Images (B, 3, H, W), each shifted by up to SHIFT pixels; what comes in at a side is its mirror image."""
    windows = F.pad(x, [SHIFT] * 4, mode="reflect").unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
    top, left = torch.randint(0, 2 * SHIFT + 1, (2, len(x)), generator=g)
    return windows[torch.arange(len(x)), :, top, left]  # (B, 3, H, W)


# teacher and ViT ----------------------------------------------------------------------------------------------------
class Residual(nn.Module):
    """x plus two convolutions of it."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(convolved(width, width), *convolved(width, width)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.branch(x))


class Teacher(nn.Module):
    """A small residual network whose last 8x8 grid is that of the ViT's patches."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(convolved(3, 32), convolved(32, 64, 2), Residual(64), convolved(64, 128, 2),
                                      Residual(128))
        self.evidence = nn.Conv2d(128, 10, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 10), the mean over patches; and what the ViT is to match, (B, 64, 138)."""
        features = self.features(2 * x - 1)
        evidence = self.evidence(features)
        return evidence.float().mean((2, 3)), torch.cat([features, evidence], 1).flatten(2).transpose(1, 2)


class TeacherTask(OnCifar10, Teaching):
    """The teacher of CIFAR-10: cross-entropy, on images moved and mirrored."""

    network = Teacher

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        x = moved(batch[0], rng.generator(self.seed, "move", step)).contiguous(memory_format=torch.channels_last)
        yield F.cross_entropy(model(x.to(device))[0], batch[1].to(device))

    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        return self.accuracy(lambda x: model(x.to(device))[0], n)


def vit_tokens(vit: nn.Module, x: Tensor, keep: Tensor) -> Tensor:
    """Final tokens (B, 1 + n, dim): the class token and those of the patches `keep` (B, n), which see one another."""
    tokens = vit.patch_embed(2 * x - 1) + vit.pos_embed[:, 1:]  # (B, 64, dim)
    return final_tokens(vit, tokens.gather(1, keep[:, :, None].expand(-1, -1, tokens.shape[2])))


class ViTTask(OnCifar10, Taught):
    """The ViT of CIFAR-10, 64 patches, 1.2 M parameters; its classes are half the label's, half the teacher's say.

    At first it sees half of each image's patches, which doubles the images an hour (as Li et al. 2023 train CLIP).
    """

    config = vit_config(32, depth=6)

    def load_teacher(self) -> nn.Module:
        return read_teacher(Teacher(), "cifar10").to(memory_format=torch.channels_last)

    def examples(self) -> Tensor:
        data = Cifar10(self.seed, 1, self.root)
        data.batch = min(64, len(data.x))
        return data(0)[0]

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        g = rng.generator(self.seed, "move", step)
        x, label = moved(batch[0], g), F.one_hot(batch[1], 10).float()
        keep = torch.rand(len(x), 64, generator=g).argsort(1)[:, :32 if progress < HALVED else 64]
        x, label, keep = x.to(device), label.to(device), keep.to(device)
        logits, wanted = self.teach(x.contiguous(memory_format=torch.channels_last))
        wanted = wanted.gather(1, keep[:, :, None].expand(-1, -1, wanted.shape[2]))
        yield self.loss(model, vit_tokens(model["vit"], x, keep), (label + logits.softmax(1)) / 2, wanted)

    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        return self.accuracy(lambda x: model["vit"](2 * x.to(device) - 1), n)


# the denoiser -------------------------------------------------------------------------------------------------------
class DenoiserTask(OnCifar10, Denoising):
    """The denoiser of CIFAR-10. It starts from that of the scenes, which knows noise and photographs already."""

    image_size = 32

    def __init__(self, seed: int, root: Path | str | None = None):
        super().__init__(seed, root)
        self.lr = 5e-4
        self.model.load_state_dict(load_denoiser("scenes").network.unet.state_dict())


class CNNTask(OnCifar10, Cleaning):
    """The plain CNN of CIFAR-10; like the denoiser it starts from that of the scenes."""

    image_size = 32

    def __init__(self, seed: int, root: Path | str | None = None):
        super().__init__(seed, root)
        self.lr = 5e-4
        self.model.load_state_dict(load_cnn("scenes").state_dict())


class CuredOnCifar10(OnCifar10, Cured):
    """The ViT of CIFAR-10, further trained on images moved and mirrored."""

    source, config = "cifar10", ViTTask.config

    def labelled(self, batch: tuple, step: int) -> tuple[Tensor, Tensor]:
        return moved(batch[0], rng.generator(self.seed, "move", step)), F.one_hot(batch[1], 10).float()


class NoiseTask(OnNoise, CuredOnCifar10):
    """On noisy images."""


class AdversarialTask(OnAttacks, CuredOnCifar10):
    """On attacked images."""


TASKS = {task.name: task for task in (TeacherTask, ViTTask, DenoiserTask, CNNTask, NoiseTask, AdversarialTask)}
