"""FFDNet (Zhang, Zuo and Zhang 2018) as a defence of one's own: somebody else's denoiser in the place of the prior.

`fvit run 12 --profile natural -p "defences=['tools/ffdnet.py:ffdnet']"`, with the authors' ffdnet_color.pth in the
folder that FVIT_DATA names, or in FFDNET. Its weights are not ours and do not travel with fvit.
"""

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import fvit


class FFDNet(nn.Module):
    """den(x_noisy, sigma) -> images (B, 3, H, W) in [0, 1], sides even: 12 convolutions on 2x2 blocks of pixels, told
    sigma as one more channel. It was trained for sigma up to 75/255."""

    MOST = 75 / 255

    def __init__(self, weights: Path):
        super().__init__()
        state = torch.load(weights, map_location="cpu", weights_only=True)
        self.model = nn.Sequential()
        for name in sorted((n for n in state if n.endswith(".weight")), key=lambda n: int(n.split(".")[1])):
            self.model.extend([nn.Conv2d(state[name].shape[1], state[name].shape[0], 3, padding=1), nn.ReLU()])
        self.model.pop(-1)  # the last layer gives the clean image
        self.load_state_dict(state)
        self.eval().requires_grad_(False)

    def forward(self, x_noisy, sigma: float):
        blocks = F.pixel_unshuffle(x_noisy.to(self.model[0].weight.dtype), 2)
        level = torch.full_like(blocks[:, :1], sigma)
        return F.pixel_shuffle(self.model(torch.cat([blocks, level], 1)), 2).clamp(0, 1).to(x_noisy.dtype)

    def has_level(self, sigma: float) -> bool:
        return 0 <= sigma <= self.MOST


def network() -> FFDNet:
    """FFDNet itself; FileNotFoundError where its weights are not."""
    file = Path(os.environ.get("FFDNET") or Path(os.environ.get("FVIT_DATA") or ".") / "ffdnet_color.pth")
    if not file.is_file():
        raise FileNotFoundError(f"no {file}; get ffdnet_color.pth from the authors' KAIR, or name it in FFDNET")
    return FFDNet(file)


def ffdnet(vit, sigma, n_samples, seed, batch_size, precision):
    """A DDS with FFDNet behind the noise."""
    den = network().to(next(vit.parameters()).device)
    return fvit.DDS(vit, den, sigma, n_samples=n_samples, seed=seed, batch_size=batch_size, precision=precision)
