"""Training on scenes made as they are needed: their batches, the teacher and the ViT, and their denoiser.

Our own recipe. What mattered on two CPU cores: small crops first, easy scenes first, and many kinds of background.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fvit.base import rng
from fvit.data import scenes
from fvit.training.cnn import Cleaning
from fvit.training.cures import Cured, OnAttacks, OnNoise
from fvit.training.denoiser import Denoising
from fvit.training.vit import Taught, Teaching, convolved, final_tokens, read_teacher, vit_config

CHAPTER, REUSE = 4096, 6  # scenes drawn at once, and how often each is seen, every time recoloured
PAIR_SHARE = 0.4
validation_scenes = cache(scenes.load_scenes)  # of (split, n): choices are made on these and never on test scenes


class Scenes:
    """Batches of training scenes; batch `step` depends on (seed, step) only, whatever was asked before."""

    def __init__(self, seed: int, batch: int, chapter: int = CHAPTER):
        self.seed, self.batch, self.chapter = seed, batch, max(chapter, batch)
        self._held: tuple | None = None

    def _chapter(self, number: int) -> tuple:
        """x (n, 3, 64, 64) uint8, label distribution (n, 10), mask (n, 64, 64); one digit's box (n, 4), class (n,)."""
        if self._held is None or self._held[0] != number:
            parts, n_pairs = [], round(PAIR_SHARE * self.chapter)
            for split, n in (("train", self.chapter - n_pairs), ("train_pairs", n_pairs)):
                x, y, masks, _ = scenes.scene_batch(split, self.seed, range(number * n, (number + 1) * n))
                parts.append((x, F.one_hot(y, 10).float().mean(1), masks.any(1), boxes(masks[:, 0]), y[:, 0]))
            self._held = (number, *(torch.cat(p) for p in zip(*parts, strict=True)))
        return self._held[1:]

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        g, steps = rng.generator(self.seed, "batch", step), self.chapter * REUSE // self.batch  # of a chapter
        x, y, mask, box, first = self._chapter(step // steps)
        pick = torch.randperm(len(x), generator=g)[: self.batch]
        x = x[pick].float() / 255
        channels = torch.stack([torch.randperm(3, generator=g) for _ in pick])  # colour carries no class
        x = torch.gather(x, 1, channels[:, :, None, None].expand_as(x))
        negative = torch.rand(len(x), 1, 1, 1, generator=g) < 0.3
        return torch.where(negative, 1 - x, x), y[pick], mask[pick], box[pick], first[pick]


def boxes(masks: Tensor) -> Tensor:
    """Bounding boxes (B, 4) = top, bottom, left, right (ends exclusive) of masks (B, H, W)."""
    sides, size = (masks.any(2).int(), masks.any(1).int()), masks.shape[1]  # rows and columns that show something
    return torch.stack([end for side in sides for end in (side.argmax(1), size - side.flip(1).argmax(1))], 1)


def fade_in(x: Tensor, mask: Tensor, progress: float) -> Tensor:
    """Scenes that come up over their masks during the first third of a run, from white digits on black.

    Tints and polarity hide the strokes from a new network, whose loss otherwise stays on its plateau for 30,000 images.
    """
    share = min(1.0, 0.1 + 3 * progress)
    return share * x + (1 - share) * mask[:, None].float()


# the ViT ------------------------------------------------------------------------------------------------------------
def vit_stage(progress: float) -> int:
    """Side in patches of the window seen at this share of the run: close-ups first, an easy-to-hard curriculum."""
    return 8 if progress < 0.3 else 12 if progress < 0.6 else 16


def close_up(x: Tensor, box: Tensor, window: int, g: torch.Generator) -> Tensor:
    """Square windows of `window` pixels around the boxed digits, resized where the digit would not fit."""
    top, bottom, left, right = box.float().unbind(1)
    side = torch.clamp(torch.maximum(bottom - top, right - left) + 4 + 6 * torch.rand(len(x), generator=g), min=window)
    side = side if window > 32 else torch.maximum(bottom - top, right - left) + 2 + 8 * torch.rand(len(x), generator=g)
    slack = side[:, None] - torch.stack([right - left, bottom - top], 1)
    centre = torch.stack([left + right, top + bottom], 1) / 2 + slack * (torch.rand(len(x), 2, generator=g) - 0.5)
    size = x.shape[-1]
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side / size
    theta[:, :, 2] = 2 * centre / size - 1
    grid = F.affine_grid(theta, [len(x), 3, window, window], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def vit_tokens(vit: nn.Module, x: Tensor, corner: tuple[int, int]) -> Tensor:
    """Final tokens (B, 1 + n, dim) of images that fill a window of the patch grid whose corner is given."""
    tokens = vit.patch_embed.proj(2 * x - 1)  # (B, dim, g, g)
    g, grid = tokens.shape[-1], vit.patch_embed.grid_size[0]
    position = vit.pos_embed[:, 1:].unflatten(1, (grid, grid))
    position = position[:, corner[0] : corner[0] + g, corner[1] : corner[1] + g].flatten(1, 2)
    return final_tokens(vit, tokens.flatten(2).transpose(1, 2) + position)


class Teacher(nn.Module):
    """A small convolutional network that says for each patch how much it speaks for each class."""

    def __init__(self, width: int = 48):
        super().__init__()
        self.stem = nn.Sequential(*convolved(3, width // 2, 2), *convolved(width // 2, width, 2))
        self.blocks = nn.ModuleList(
            nn.Sequential(*convolved(width, width, 1, d), *convolved(width, width, 1, d)[:2]) for d in (1, 2, 2)
        )
        self.evidence = nn.Conv2d(width, 10, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 10), the smooth maximum over patches; and what the ViT is to match, (B, n patches, width + 10)."""
        features = self.stem(2 * x - 1)
        for block in self.blocks:
            features = F.relu(features + block(features))
        evidence = self.evidence(features)
        return evidence.float().flatten(2).logsumexp(2), torch.cat([features, evidence], 1).flatten(2).transpose(1, 2)


class OnScenes:
    """What the tasks share: the data."""

    source = "scenes"

    def batches(self, batch: int, chapter: int) -> Scenes:
        return Scenes(self.seed, batch, chapter)


class TeacherTask(OnScenes, Teaching):
    """The teacher of scenes: cross-entropy on whole ones."""

    network = Teacher

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        x, y = fade_in(batch[0], batch[2], progress), batch[1]
        yield F.cross_entropy(model(x.to(device))[0], y.to(device))

    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        return accuracies(lambda x: model(x.to(device))[0], n)


@torch.no_grad()
def accuracies(logits_of: Callable[[Tensor], Tensor], n: int) -> dict[str, float]:
    """Share of n validation scenes, and of n pair scenes, whose digits are the most likely classes."""
    right = {}
    for name, split in (("accuracy", "val"), ("pairs_both_in_top2", "val_pairs")):
        data = validation_scenes(split, n)
        classes = data.y.view(n, -1).sort(1).values
        top = torch.cat([logits_of(x).float().cpu() for x in data.x.split(64)]).topk(classes.shape[1]).indices
        right[name] = (top.sort(1).values == classes).all(1).double().mean().item()
    return right


class ViTTask(OnScenes, Taught):
    """The ViT of scenes: 256 patches."""

    config = vit_config(64, depth=5)

    def load_teacher(self) -> nn.Module:
        return read_teacher(Teacher(), "scenes")

    def examples(self) -> Tensor:
        return scenes.scene_batch("train", self.seed, range(64))[0].float() / 255

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        x, y, mask, box, first = batch
        x = fade_in(x, mask, progress)
        g, side = rng.generator(self.seed, "window", step), vit_stage(progress)
        if side < 16:
            x, y = close_up(x, box, 4 * side, g), F.one_hot(first, 10).float()
        corner = torch.randint(0, 17 - side, (2,), generator=g).tolist()
        size = 16 if device.type == "cpu" else len(x)  # the attention of 16 images fits a processor's cache
        for x_part, y_part in zip(x.to(device).split(size), y.to(device).split(size), strict=True):
            _, wanted = self.teach(x_part)
            tokens = vit_tokens(model["vit"], x_part, corner)
            yield self.loss(model, tokens, y_part, wanted) * len(x_part) / len(x)

    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        vit = model["vit"]
        return accuracies(lambda x: vit.head(vit_tokens(vit, x.to(device), (0, 0))[:, 0]), n)


class DenoiserTask(OnScenes, Denoising):
    """The denoiser of scenes."""

    image_size = 64

    def validation(self, n: int) -> Tensor:
        return validation_scenes("val", n).x


class CNNTask(Cleaning, DenoiserTask):
    """The plain CNN of scenes, trained on the denoiser's images for as long."""


class CuredOnScenes(OnScenes, Cured):
    """The ViT of scenes, further trained; pairs are labelled by both of their digits."""

    config = ViTTask.config

    def labelled(self, batch: tuple, step: int) -> tuple[Tensor, Tensor]:
        return batch[:2]

    def accuracy(self, logits_of: Callable[[Tensor], Tensor], n: int) -> dict[str, float]:
        return accuracies(logits_of, n)


class NoiseTask(OnNoise, CuredOnScenes):
    """On noisy scenes."""


class AdversarialTask(OnAttacks, CuredOnScenes):
    """On attacked scenes."""


TASKS = {task.name: task for task in (TeacherTask, ViTTask, DenoiserTask, CNNTask, NoiseTask, AdversarialTask)}
