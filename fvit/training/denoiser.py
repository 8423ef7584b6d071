"""Training of a denoiser: the network and the noise are the same whatever the images are."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from fvit.base import files, rng
from fvit.models import schedule

UNET_CONFIG = {  # diffusers' UNet2DModel on 2x2 blocks of pixels taken as channels
    "in_channels": 12, "out_channels": 12, "layers_per_block": 1, "norm_num_groups": 16,
    "block_out_channels": [48, 96, 128], "attention_head_dim": 32,
    "down_block_types": ["DownBlock2D"] * 3, "up_block_types": ["UpBlock2D"] * 3}
SCHEDULER_CONFIG = {
    "_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear",
    "beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "epsilon", "clip_sample": False}
SIGMA_RANGE = (0.008, 0.55)  # noise the denoiser is trained on, [0, 1] units
VAL_SIGMAS = (8 / 255, 0.1, 0.25, 0.5)


def as_json(config: dict) -> str:
    return json.dumps(config, indent=2) + "\n"


def noise_levels(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """sigma (n,), log-uniform over SIGMA_RANGE, and the weight of each in the loss."""
    low, high = torch.tensor(SIGMA_RANGE).log()
    sigma = (low + (high - low) * torch.rand(n, generator=g)).exp()
    return sigma, (sigma / 0.1).sqrt()  # equal share of decibels, not of noise energy


class Denoising:
    """What the loop needs to train a denoiser: noise prediction, noise levels log-uniform over the range in use.

    A subclass for a set of images gives `image_size`, `batches` and `validation`.
    """

    name = "denoiser"

    def __init__(self, seed: int):
        from diffusers import UNet2DModel

        unet = UNet2DModel(sample_size=self.image_size // 2, **UNET_CONFIG)  # 3.3 M parameters
        self.model = unet.to(memory_format=torch.channels_last)
        self.lr, self.weight_decay, self.seed = 1e-3, 0.0, seed
        self.alphas_cumprod = schedule.linear_alphas_cumprod()

    def _noised(self, x: Tensor, sigma: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_t in [-1, 1] as 2x2 blocks, t, the noise drawn and the cumulative alpha, all (B, ...)."""
        t = torch.tensor([schedule.sigma_to_timestep(float(s), self.alphas_cumprod) for s in sigma])
        ac = torch.tensor(self.alphas_cumprod, dtype=torch.float32)[t][:, None, None, None]
        noise = torch.randn(x.shape, generator=g)
        x_t = ac.sqrt() * (2 * x - 1) + (1 - ac).sqrt() * noise
        return *(F.pixel_unshuffle(v, 2).contiguous(memory_format=torch.channels_last) for v in (x_t, noise)), t, ac

    def losses(self, model, batch: tuple, step: int, progress: float, device: torch.device) -> Iterator[Tensor]:
        x, g = batch[0], rng.generator(self.seed, "noise", step)
        sigma, weight = noise_levels(len(x), g)
        x_t, noise, t, _ = self._noised(x, sigma, g)
        error = model(x_t.to(device), t.to(device)).sample.float() - noise.to(device)
        yield (weight.to(device) * error.square().mean((1, 2, 3))).mean()

    @torch.no_grad()
    def validate(self, model: nn.Module, n: int, device: torch.device) -> dict[str, float]:
        x = self.validation(min(n, 64))
        psnr = {}
        for sigma in VAL_SIGMAS:
            x_t, _, t, ac = self._noised(x, torch.full((len(x),), sigma), rng.generator(0, "psnr", f"{sigma:.4f}"))
            eps = model(x_t.to(device), t.to(device)).sample.float().cpu()
            x_hat = ((x_t - (1 - ac).sqrt() * eps) / ac.sqrt()).clamp(-1, 1)
            mse = (F.pixel_shuffle(x_hat, 2) / 2 + 0.5 - x).square().mean((1, 2, 3))
            psnr[f"psnr_{sigma:.3g}"] = (-10 * mse.log10()).mean().item()
        return psnr

    def save(self, weights: dict[str, Tensor], out: Path) -> None:
        half = {k: v.half().contiguous() for k, v in weights.items()}
        unet = {"_class_name": "UNet2DModel", "sample_size": self.image_size // 2, **UNET_CONFIG}
        files.write_summed(out, {
            "unet/diffusion_pytorch_model.safetensors": save(half, metadata={"format": "pt"}),
            "unet/config.json": as_json(unet),
            "scheduler/scheduler_config.json": as_json(SCHEDULER_CONFIG),
            "fvit.json": as_json({"pixel_unshuffle": 2}),
        })
