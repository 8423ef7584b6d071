"""Further training of the shipped ViT, on images that are changed first: other cures of fragility than DDS."""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from fvit.attacks import pgd
from fvit.base import files
from fvit.models.vit_files import load_vit
from fvit.smoothing import add_noise
from fvit.training.denoiser import as_json


class Cured:
    """What the loop needs: cross-entropy of the ViT of `source` on changed images, from its shipped weights on.

    A cure gives `name`, and `changed(vit, x, y, where, progress)`: x as of `add_noise`, y a distribution over classes
    (B, 10), `where` names the streams. A set of images gives `source`, `config`, `labelled(batch, step)` -> (x, y), and
    `accuracy(logits_of, n)` on validation images.
    """

    def __init__(self, seed: int):
        self.seed, self.lr, self.weight_decay = seed, 3e-4, 0.05
        self.model = load_vit(self.source, freeze=False).requires_grad_(True)
        for block in self.model.backbone.blocks:
            block.attn.fused_attn = False  # half the time of the fused kernel's backward in bfloat16 on a CPU

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        x, y = (values.to(device) for values in self.labelled(batch, step))
        size = 16 if device.type == "cpu" else len(x)  # the attention of 16 images fits a processor's cache
        for first in range(0, len(x), size):
            x_part, y_part = x[first:first + size], y[first:first + size]
            shown = self.changed(model, x_part, y_part, f"{step} {first}", progress)
            yield F.cross_entropy(model(shown).float(), y_part) * len(x_part) / len(x)

    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        """Accuracies on clean images, and on changed ones: an attack there is on what the ViT says of the clean one."""
        def on_changed(x):
            x = x.to(device)
            said = F.one_hot(model(x).argmax(1), 10).float()
            return model(self.changed(model, x, said, "validation", 1.0))

        return self.accuracy(lambda x: model(x.to(device)), n) | {
            f"{name}_changed": value for name, value in self.accuracy(on_changed, min(n, 64)).items()}

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        vit = {k.removeprefix("backbone."): v.float().contiguous() for k, v in weights.items()}
        files.write_summed(out, {"model.safetensors": save(vit, metadata={"format": "pt"}),
                                 "config.json": as_json(self.config)})


class OnNoise(Cured):
    """Gaussian noise, so that the ViT can be smoothed without a denoiser (Cohen et al. 2019)."""

    name, sigma = "vit_noise", 0.25

    def changed(self, vit, x, y, where, progress):
        return add_noise(x, self.sigma, self.seed, f"train {where}", range(len(x)), 0)


class OnAttacks(Cured):
    """Adversarial training (Madry et al. 2018): PGD (linf) against the ViT as it is now, on its own labels, of a radius
    that grows over the first quarter of the run."""

    name, eps, steps = "vit_adversarial", 8 / 255, 3

    def changed(self, vit, x, y, where, progress):
        def loss(images, step):
            return F.cross_entropy(vit(images).float(), y, reduction="none")

        eps = self.eps * min(1.0, 4 * progress)
        return pgd(loss, x, eps, steps=self.steps, seed=self.seed, ids=[f"train {where} {i}" for i in range(len(x))])
