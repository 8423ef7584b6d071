"""A plain convolutional denoiser: what a network of the prior's size does that is no diffusion model."""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from fvit.base import paths
from fvit.base.checks import check_noisy
from fvit.base.files import read_json
from fvit.models.products import products
from fvit.models.weight_files import check_call, check_fits, check_sums, find_weights, read_weights, weights_mend

SIZES = {"width": 186, "depth": 12, "factor": 4}  # 3.3 M parameters, as many as the shipped diffusion model has


class PlainCNN(nn.Module):
    """den(x_noisy, sigma) -> images in [0, 1]: 3x3 convolutions on blocks of pixels, told sigma as one more channel.

    width, depth   channels, and convolutions in all
    factor         pixels a side of the blocks that are folded into channels; image sides are multiples of it
    levels         least and greatest sigma it was trained for
    precision      attribute, "float32" or "bfloat16": that of the products of its convolutions

    It estimates the noise in units of sigma and takes it away, for one image as for another: no schedule, no timestep.
    Source: Zhang et al. 2017 and 2018 (DnCNN, FFDNet); each layer adds to the one before in place of normalisation.
    """

    def __init__(self, width: int, depth: int, factor: int, levels=(0.0, float("inf"))):
        super().__init__()
        self.factor, self.levels, self.precision = factor, tuple(levels), "float32"
        channels = [3 * factor**2 + 1, *[width] * (depth - 1), 3 * factor**2]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))
        for layer in self.layers[:-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        with torch.no_grad():  # at first each layer adds little to the one before, and no noise is found
            for layer in self.layers[1:-1]:
                layer.weight.mul_(depth**-0.5)
            self.layers[-1].weight.zero_()
            for layer in self.layers:
                layer.bias.zero_()

    def noise(self, x_noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Estimate (B, 3, H, W) of the noise, in units of sigma (B,)."""
        folded = F.pixel_unshuffle(2 * x_noisy - 1, self.factor)
        level = sigma.to(folded).view(-1, 1, 1, 1).expand(-1, 1, *folded.shape[2:])
        values = self.layers[0](torch.cat([folded, level], 1))
        for layer in self.layers[1:-1]:
            values = values + layer(F.relu(values))
        return F.pixel_shuffle(self.layers[-1](values), self.factor)

    def forward(self, x_noisy: torch.Tensor, sigma: float) -> torch.Tensor:
        """Clean images (B, 3, H, W), differentiable in x_noisy; ValueError for sides that factor does not divide."""
        if any(side % self.factor for side in check_noisy(x_noisy, "x_noisy").shape[2:]):
            raise ValueError(f"x_noisy is {tuple(x_noisy.shape[2:])}, wanted multiples of {self.factor}; resize")
        own = x_noisy.to(self.layers[0].weight.dtype)
        with products(own.device.type, self.precision):
            found = self.noise(own, own.new_full((len(own),), sigma)).to(x_noisy.dtype)
        return (x_noisy - sigma * found).clamp(0, 1)

    def has_level(self, sigma: float) -> bool:
        """True where it was trained for sigma."""
        return bool(self.levels[0] <= sigma <= self.levels[1])


def load_cnn(source="scenes") -> PlainCNN:
    """Load what `fvit train cnn` wrote: "scenes", "cifar10", "photographs" or a folder; frozen, in evaluation mode.

    Raises FileNotFoundError or OSError where files are absent or damaged, ValueError where they do not fit.
    """
    folder = paths.shipped(source, "cnn") if source in paths.PRIORS else Path(source)
    mend = weights_mend(folder)
    [path] = files = find_weights(folder, "model", mend)
    check_sums(folder, mend)
    settings = read_json(folder / "config.json", mend)
    try:
        check_fits(lambda: PlainCNN(**settings), settings, files, mend)
        net = PlainCNN(**settings)
        net.load_state_dict(read_weights(files, mend))
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit {folder / 'config.json'} ({' '.join(str(error).split())[:200]}); "
                         f"{mend}") from None
    side = 2 * net.factor
    check_call(lambda: net(torch.zeros(1, 3, side, side), net.levels[0]), folder / "config.json", mend)
    return net.eval().requires_grad_(False)
