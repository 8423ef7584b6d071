"""A diffusion model as a denoiser: noisy image in [0, 1] units in, clean image out, by closed form."""

import copy
import shutil
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fvit.base import devices
from fvit.base.checks import as_integer, check_choice, check_noisy
from fvit.models.schedule import in_schedule, sigma_to_timestep, timestep_to_sigma

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


class Denoiser(nn.Module):
    """Denoise x + sigma * noise: `den(x_noisy, sigma)`, images (B, 3, H, W) in [0, 1] units, one network call.

    network           called network(x_t, t) with x_t in the [-1, 1] range and t (B,) int64; answers with `.sample`
    alphas_cumprod    (T,) decreasing, prod of (1 - beta); kept in float64
    prediction_type   what `.sample` estimates: "epsilon", "sample" or "v_prediction"
    learned_variance  the network emits twice the channels; the second half is dropped
    precision         "float32": the network's own precision, or "bfloat16": its calls run under autocast
    multiple          image sides must be multiples of it, as the network halves them repeatedly
    """

    def __init__(self, network, alphas_cumprod, prediction_type: str = "epsilon", learned_variance: bool = False,
                 precision: str = "float32", multiple: int = 1):
        super().__init__()
        self.network = network
        self.alphas_cumprod = np.asarray(alphas_cumprod, dtype=np.float64)
        self.prediction_type = check_choice(prediction_type, PREDICTION_TYPES, "prediction_type")
        self.learned_variance, self.precision, self.multiple = learned_variance, precision, multiple
        _refuse_labels(getattr(network, "config", {}))

    @property
    def precision(self) -> str:
        return self._precision

    @precision.setter
    def precision(self, value: str) -> None:
        self._precision = check_choice(value, ("float32", "bfloat16"), "precision")

    def timestep(self, sigma: float) -> int:
        """Index nearest in log noise level to 2 * sigma in [-1, 1] units; ValueError outside the schedule."""
        return sigma_to_timestep(sigma, self.alphas_cumprod)

    def has_level(self, sigma: float) -> bool:
        """True where the schedule has a level for `sigma`; it has none for sigma = 0."""
        return in_schedule(sigma, self.alphas_cumprod)

    def forward(self, x_noisy: torch.Tensor, sigma: float, steps: int = 1) -> torch.Tensor:
        """Clean images (B, 3, H, W), clamped to [0, 1], differentiable in `x_noisy`.

        x_noisy   x + sigma * noise, (B, 3, H, W); x in [0, 1]
        steps     1: one network call; n: the deterministic chain (DDIM, eta = 0), evenly spaced from `timestep(sigma)`

        float32, or float64 if images and network are. Raises ValueError for a wrong shape, sigma outside the schedule,
        or too many steps. Source: Carlini et al. 2023 (one shot), Song et al. 2021 (DDIM). Taught in notebook 03.
        """
        check_noisy(x_noisy, "x_noisy")
        if any(side % self.multiple for side in x_noisy.shape[-2:]):
            raise ValueError(f"x_noisy is {tuple(x_noisy.shape[-2:])}, wanted multiples of {self.multiple}; resize")
        start = self.timestep(sigma)
        if as_integer(steps) not in range(1, start + 2):
            raise ValueError(f"steps={steps} at sigma={sigma}, which is t={start}; wanted 1 <= steps <= {start + 1}")
        timesteps = np.linspace(start, -1, steps + 1).round().astype(int)[:-1]  # -1 stands for the clean image
        levels = [2 * timestep_to_sigma(t, self.alphas_cumprod) for t in timesteps] + [0.0]  # in [-1, 1] units
        u = 2 * x_noisy - 1  # x_t / sqrt(ac): signal plus `level` times noise
        for t, level, next_level in zip(timesteps, levels[:-1], levels[1:], strict=True):
            x_hat = self._estimate(u, int(t), level)
            u = x_hat + next_level / level * (u - x_hat)  # the same noise, less of it; at level 0 just x_hat
        double = x_noisy.dtype == self._network_dtype(u) == torch.float64
        return ((u + 1) / 2).clamp(0, 1).to(torch.float64 if double else torch.float32)

    def _estimate(self, u: torch.Tensor, t: int, level: float) -> torch.Tensor:
        """E[x | x_t] in [-1, 1] units from u = x_t / sqrt(ac). Note: unclipped, unlike DDPMScheduler's."""
        scale = float(self.alphas_cumprod[t]) ** 0.5
        output = self._call(scale * u, t).to(u.dtype)
        if self.prediction_type == "epsilon":
            return u - level * output
        if self.prediction_type == "sample":
            return output
        return scale**2 * u - scale * level * output  # v = sqrt(ac) noise - sqrt(1 - ac) x

    def _call(self, x_t: torch.Tensor, t: int) -> torch.Tensor:
        x_t = x_t.to(self._network_dtype(x_t))
        times = torch.full((len(x_t),), t, dtype=torch.long, device=x_t.device)
        if self.precision == "bfloat16":
            x_t = x_t.contiguous(memory_format=torch.channels_last)  # what bf16 convolutions want
        with devices.autocast(x_t.device.type, self.precision):
            output = self.network(x_t, times).sample
        wanted = x_t.shape[1] * (2 if self.learned_variance else 1)
        if output.shape[1] != wanted:
            raise ValueError(f"the network answers with {output.shape[1]} channels, wanted {wanted}; "
                             f"set learned_variance={not self.learned_variance} if it emits a variance or none")
        return output.chunk(2, dim=1)[0] if self.learned_variance else output

    def _network_dtype(self, x: torch.Tensor) -> torch.dtype:
        return next((p.dtype for p in self.parameters()), x.dtype)  # a function without parameters follows its input


class PixelUnshuffled(nn.Module):
    """A UNet that works on factor x factor blocks of pixels folded into channels: same call, a smaller grid, faster."""

    def __init__(self, unet: nn.Module, factor: int):
        super().__init__()
        self.unet, self.factor = unet, factor

    def forward(self, x_t: torch.Tensor, t) -> SimpleNamespace:
        folded = self.unet(F.pixel_unshuffle(x_t, self.factor), t).sample  # (B, 3 * factor**2, H / factor, W / factor)
        return SimpleNamespace(sample=F.pixel_shuffle(folded, self.factor))


class TimeScaled(nn.Module):
    """A UNet that is told `scale` * t instead of t: same call, for one trained with rescaled timesteps.

    Source: Nichol and Dhariwal 2021, whose networks are told t * 1000 / T, a fraction where T is not 1000.
    """

    def __init__(self, unet: nn.Module, scale: float):
        super().__init__()
        self.unet, self.scale = unet, scale

    def forward(self, x_t: torch.Tensor, t) -> SimpleNamespace:
        return self.unet(x_t, self.scale * torch.as_tensor(t, dtype=torch.float32, device=x_t.device))


def _refuse_labels(config) -> None:
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        raise ValueError("the diffusion model is class-conditional, but a denoiser must not be told the class; "
                         "choose an unconditional model")


def compiled(den):
    """A copy of the denoiser whose network torch.compile makes when it is first called, sharing its weights.

    None, with one line that says why, where there is no network of its own, or no compiler for a CPU. Each new shape of
    a batch compiles anew, which takes up to minutes.
    """
    network, why = getattr(den, "_modules", {}).get("network"), ""
    if network is None:
        why = f"{type(den).__name__} has no network of its own to compile"
    elif next(network.parameters()).device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++"))):
        why = "no C++ compiler on this machine; install g++, or leave it"
    if why:
        print(f"torch.compile: {why}")
        return None
    faster = copy.copy(den)
    faster._modules = {**den._modules, "network": torch.compile(network)}
    return faster
