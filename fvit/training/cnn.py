"""Training of the plain CNN: images, noise, levels and loss are those of the denoiser, the network is another.

What the two differ in is what a diffusion prior has and a plain denoiser has not: its architecture, its schedule.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from fvit.base import files, rng
from fvit.models.cnn import SIZES, PlainCNN
from fvit.training.denoiser import SIGMA_RANGE, VAL_SIGMAS, as_json, noise_levels


class Cleaning:
    """What the loop needs to train a plain CNN. A subclass gives `image_size`, `batches` and `validation`."""

    name = "cnn"

    def __init__(self, seed: int):
        self.model = PlainCNN(**SIZES, levels=SIGMA_RANGE).to(memory_format=torch.channels_last)
        self.lr, self.weight_decay, self.seed = 1e-3, 0.0, seed

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        x, g = batch[0], rng.generator(self.seed, "noise", step)
        sigma, weight = noise_levels(len(x), g)
        noise = torch.randn(x.shape, generator=g)
        x_noisy = (x + sigma.view(-1, 1, 1, 1) * noise).to(device)
        error = model.noise(x_noisy, sigma.to(device)).float() - noise.to(device)
        yield (weight.to(device) * error.square().mean((1, 2, 3))).mean()

    @torch.no_grad()
    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        x, psnr = self.validation(min(n, 64)), {}
        for sigma in VAL_SIGMAS:
            z = torch.randn(x.shape, generator=rng.generator(0, "psnr", f"{sigma:.4f}"))
            x_hat = model((x + sigma * z).to(device), sigma).cpu()
            psnr[f"psnr_{sigma:.3g}"] = (-10 * (x_hat - x).square().mean((1, 2, 3)).log10()).mean().item()
        return psnr

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        half = {k: v.half().contiguous() for k, v in weights.items()}
        files.write_summed(out, {"model.safetensors": save(half, metadata={"format": "pt"}),
                                 "config.json": as_json({**SIZES, "levels": list(SIGMA_RANGE)})})
