"""A ViT and a diffusion prior of different image sizes: antialiased resizing, and what it does to noise and radii.

Resizing is linear, x -> U x, and separable: U = A kron B for the two sides. Noise is added once, by DDS, and where is a
choice with a consequence for certificates: sigma and radius live where the noise is added (docs/theory.md, section 5).

noise_at="vit"    images at the ViT's size get the noise, z; the prior sees U (x + sigma z). What follows is
                  post-processing, so `certify` gives radii for the ViT's images, with sigma itself. But U z is not
                  white: its root mean square is `noise_gain` (0.665 from 224 to 256), low frequencies pass by up to
                  ||U|| (1.148). No timestep expects that; the prior is told a level in between, see `told_gain`
noise_at="prior"  DDS gets images at the prior's size and adds the noise there, as the prior was trained on. Radii hold
                  for images of that size; for others resized to it `radius_before` divides by the operator norm. In
                  linf, resizing never lengthens: radii carry over
"""

import copy
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from fvit.base.checks import check_choice, check_shape, check_size


def resize(x: torch.Tensor, size) -> torch.Tensor:
    """Images (B, 3, H, W) resized to `size` pixels (a side, or (height, width)), bilinear with antialiasing.

    Linear and differentiable; weights are positive and sum to 1, so values stay in their range. Equal sizes: x itself.
    Note: no PIL rounding to bytes in between, unlike the loaders of data sets.
    """
    size = check_size(size)
    return x if tuple(x.shape[-2:]) == size else interpolate(x, size, mode="bilinear", antialias=True)


@cache
def resize_matrix(before: int, after: int) -> np.ndarray:
    """The resize of one side as a matrix (after, before), float64; rows sum to 1."""
    basis = torch.eye(before, dtype=torch.float64)[None, None]  # each column is the image of one pixel
    return resize(basis, (after, before))[0, 0].numpy()


def operator_norm(before, after) -> float:
    """max ||U x|| / ||x|| (l2) of the resize from size `before` to `after`: a product, as the resize is separable."""
    return float(np.prod([np.linalg.norm(resize_matrix(*sides), 2) for sides in _sides(before, after)]))


def noise_gain(before, after) -> float:
    """Root mean square over pixels of the std of U z, z standard normal: ||U||_F / sqrt(pixels after)."""
    return float(np.prod([np.linalg.norm(resize_matrix(*sides)) / sides[1] ** 0.5 for sides in _sides(before, after)]))


def told_gain(before, after) -> float:
    """Level the prior is told, over sigma, where noise is resized: geometric mean of `noise_gain` and ||U||.

    Note: ours, chosen by measurement. From 48 and 56 to the shipped denoiser's 64 pixels at sigma 0.25, and from 56 at
    0.1, this mean came within 0.2 dB of the best level tried; the root mean square, told which it leaves noise behind,
    missed it by 0.5 to 2.3 dB (24 validation scenes).
    """
    return (noise_gain(before, after) * operator_norm(before, after)) ** 0.5


def radius_before(radius, before, after):
    """l2 radius that holds for images of size `before`, if `radius` holds for what the resize to `after` makes of them.

    radius / ||U||, number or array; ABSTAIN (-1) and other values <= 0 stay. No larger one holds for every classifier.
    """
    return np.where(np.asarray(radius) > 0, np.asarray(radius) / operator_norm(before, after), radius)[()]


def connect(vit, den, size, noise_at: str = "vit"):
    """(vit, den) for `DDS(vit, den, ...)`, `certify` and attacks, with a prior of `size` pixels (a side, or (h, w)).

    noise_at   "vit": the DDS takes images of the ViT's size, "prior": of the prior's, as load_images(..., size=256)
               reads them or `resize` makes them. The module's text says what certificates mean in each

    Sizes that agree change nothing, to the bit. Raises ValueError for a size that is none, or an unknown noise_at.
    Source: the reference code adds noise at both sizes (docs/reference-code.md, fault 2).
    """
    if check_choice(noise_at, ("vit", "prior"), "noise_at") == "vit":
        return vit, ResizedDenoiser(den, size, vit.image_size)
    return ResizedViT(vit, size), den


class _Resized(nn.Module):
    """A network behind a resize: has what the network has that bears the name `inside`."""

    inside: str

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == self.inside:
                raise
            return getattr(getattr(self, self.inside), name)


class ResizedDenoiser(_Resized):
    """A denoiser behind a resize and back: images of size `before` in and out, of size `size` where it works.

    Has what the denoiser has; `timestep` and `has_level` are for the level it is told, `network` takes images in.
    """

    inside = "den"

    def __init__(self, den, size, before):
        super().__init__()
        self.den, self.size, self.before = den, check_size(size), check_size(before)
        self.gain = told_gain(self.before, self.size)  # of the level the denoiser is told, over sigma

    def forward(self, x_noisy: torch.Tensor, sigma: float, **options) -> torch.Tensor:
        """x_hat (B, 3, H, W) in [0, 1], differentiable; options, such as `steps`, go to the denoiser."""
        x = resize(check_shape(x_noisy, "x_noisy", self.before), self.size)
        return resize(self.den(x, sigma * self.gain, **options), self.before)

    def network(self, x_t: torch.Tensor, t) -> SimpleNamespace:
        """The prior's network behind the same resizes, for other chains than the denoiser's own."""
        return SimpleNamespace(sample=resize(self.den.network(resize(x_t, self.size), t).sample, self.before))

    def timestep(self, sigma: float) -> int:
        return self.den.timestep(sigma * self.gain)

    def has_level(self, sigma: float) -> bool:
        return not hasattr(self.den, "has_level") or self.den.has_level(sigma * self.gain)

    @property
    def precision(self) -> str:
        return self.den.precision

    @precision.setter
    def precision(self, value: str) -> None:
        den = copy.copy(self.den)  # DDS sets it on a shallow copy of the bridge: the caller's denoiser keeps its own
        den.precision = value
        self._modules = dict(self._modules)
        self.den = den


class ResizedViT(_Resized):
    """A ViT behind a resize: images of `size` in, all else, grid, blocks and classes, as the ViT has it."""

    inside = "vit"

    def __init__(self, vit, size):
        super().__init__()
        self.vit, self.image_size = vit, check_size(size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) of images (B, 3, H, W) of that size."""
        return self.vit(resize(check_shape(x, size=self.image_size), self.vit.image_size))


def _sides(before, after) -> list[tuple[int, int]]:
    return [sides for sides in zip(check_size(before), check_size(after), strict=True) if sides[0] != sides[1]]
