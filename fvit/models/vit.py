"""A vision transformer that takes images in [0, 1]: its normalisation is its first layer."""

import numpy as np
import torch
from torch import nn

from fvit.base.checks import check_array, check_flag, check_noisy
from fvit.models.attention import capture_attention
from fvit.models.layouts import check_outline, is_swin, prove
from fvit.models.state import evaluated


class ViT(nn.Module):
    """A timm vision transformer behind its normalisation: images (B, 3, H, W) in [0, 1] -> logits (B, num_classes).

    .backbone  the timm module      .grid  (h, w) patches      .num_prefix_tokens  tokens before the patches (CLS, ...)
    .readers   slice of the tokens whose output the head reads: the class token, with that of distillation, or patches
    .windowed  True for a Swin transformer: attention within windows, and .grid is that of the last stage

    .num_classes  of its logits; 0 where there is no classifier and the answer is features

    Computes as in evaluation mode, whatever mode its owner sets: `train()` leaves it there, and a backbone in training
    mode is put into evaluation mode for each call alone. Parameters are frozen, unless `freeze` is False: then they are
    left as found. `vit.double()` computes in float64. What a model computes is proved on one image when it is wrapped
    (`layouts.prove`): ValueError where no explanation would be right.
    """

    def __init__(self, backbone: nn.Module, mean, std, name: str = "", freeze: bool = True):
        super().__init__()
        backbone = getattr(backbone, "_orig_mod", backbone)  # what torch.compile wraps, whose layers can be seen
        check_outline(backbone)
        weight = next(backbone.parameters())
        self.backbone = backbone
        self.name = name or type(backbone).__name__
        if mean is None or std is None:
            raise ValueError(f"{self.name} states no mean and std; give both: load_vit(..., mean=(.5,) * 3, "
                             "std=(.5,) * 3)")
        self.register_buffer("mean", _channels(mean, "mean").to(weight), persistent=False)  # (1, 3, 1, 1)
        self.register_buffer("std", _channels(std, "std").to(weight), persistent=False)
        self.windowed = is_swin(backbone)
        last = backbone.layers[-1].blocks[-1] if self.windowed else None
        self.grid = tuple(last.input_resolution if self.windowed else backbone.patch_embed.grid_size)
        self.image_size = tuple(backbone.patch_embed.img_size)
        self.num_prefix_tokens = getattr(backbone, "num_prefix_tokens", 0)
        if check_flag(freeze, "freeze"):
            self.eval().requires_grad_(False)
        self.layout = prove(self, capture_attention)
        self.num_classes, self.readers = self.layout.num_classes, self.layout.readers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) in the model's own precision."""
        check_noisy(x, size=self.image_size)
        with evaluated(self.backbone):
            return self.backbone((x.to(self.mean.dtype) - self.mean) / self.std)

    def train(self, mode: bool = True) -> "ViT":
        """Stays in evaluation mode: an image has one answer. Dropout acts where `.backbone` is called by itself."""
        return super().train(False)


def _channels(values, what: str) -> torch.Tensor:
    values = check_array(values, what)
    if values.shape != (3,) or not np.isfinite(values).all() or (what == "std" and not (values > 0).all()):
        raise ValueError(f"{what} is {values.tolist()}, wanted three finite numbers, one per channel, a std above 0")
    return torch.from_numpy(values)[None, :, None, None]  # (1, 3, 1, 1)


def check_vit(vit):
    """Return `vit` if it says of itself what a ViT of `load_vit` says, so that its attention has places."""
    if not (callable(vit) and all(hasattr(vit, name) for name in ("grid", "num_classes"))):
        raise ValueError(f"vit is a {type(vit).__name__}, wanted a ViT of fvit.load_vit; a timm module becomes one by "
                         "load_vit(module)")
    return vit
