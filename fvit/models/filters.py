"""Denoisers without a network, called as one, den(x, sigma) -> images in [0, 1], differentiable in x."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from fvit.base.checks import check_noisy, check_number


class Blur(nn.Module):
    """Gaussian blur of `width` pixels (std), whatever sigma is: scikit-image's `filters.gaussian`, edges repeated.

    Raises ValueError unless 0 < width <= 100.
    """

    def __init__(self, width: float):
        super().__init__()
        self.width = check_number(width, "width", "(0, 100]", "the std of the blur in pixels")

    def forward(self, x: torch.Tensor, sigma: float = 0.0) -> torch.Tensor:
        reach = int(4 * self.width + 0.5)
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / self.width) ** 2)
        kernel = (weights / weights.sum()).to(check_noisy(x))[None, None].expand(3, 1, -1)  # one for each channel
        padded = F.pad(x, (reach,) * 4, mode="replicate")
        rows = F.conv2d(padded, kernel[:, :, None], groups=3)
        return F.conv2d(rows, kernel[:, :, :, None], groups=3).clamp(0, 1)


class Wavelet(nn.Module):
    """Wavelet denoising, told the noise: Haar, each band's details drawn towards 0 by its own threshold (BayesShrink).

    The values of scikit-image's `denoise_wavelet(image, sigma, channel_axis=0)`, as torch computes them, so that an
    attack goes through it: thresholds hang on the image, and are differentiated with the rest.
    Source: Donoho and Johnstone 1994; Chang, Yu and Vetterli 2000 (thresholds).
    """

    def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        levels = max(int(math.log2(min(check_noisy(x).shape[2:]))) - 3, 1)
        return self._cleaned(x, sigma**2, levels).clamp(0, 1)

    def _cleaned(self, x, variance, levels):
        if levels == 0:
            return x
        height, width = x.shape[2:]
        even = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        a, b, c, d = (even[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
        bands = [(a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]
        mean = self._cleaned(bands[0], variance, levels - 1)
        p, q, r = (_shrunk(band, variance) for band in bands[1:])
        parts = torch.stack([mean + p + q + r, mean + p - q - r, mean - p + q - r, mean - p - q + r], 2) / 2
        return F.pixel_shuffle(parts.flatten(1, 2), 2)[..., :height, :width]


def _shrunk(details, variance):
    """Details of one band, (B, 3, h, w), each channel by its own threshold."""
    spread = (details.square().mean((2, 3), keepdim=True) - variance).clamp_min(torch.finfo(details.dtype).eps)
    return details.sign() * F.relu(details.abs() - variance / spread.sqrt())


class Told(nn.Module):
    """A denoiser that is told `level` whatever noise there is: den(x, level). Behind it, `DDS(vit, Told(den, level),
    sigma=0)` denoises and adds no noise."""

    def __init__(self, den, level: float):
        super().__init__()
        self.den, self.level = den, level

    def forward(self, x: torch.Tensor, sigma: float = 0.0) -> torch.Tensor:
        return self.den(x, self.level)
