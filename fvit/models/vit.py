"""A vision transformer that takes images in [0, 1]: its normalisation is its first layer."""

import numpy as np
import torch
from torch import nn

from fvit.base.checks import check_array, check_noisy


class ViT(nn.Module):
    """A timm vision transformer behind its normalisation: images (B, 3, H, W) in [0, 1] -> logits (B, num_classes).

    .backbone  the timm module      .grid  (h, w) patches      .num_prefix_tokens  tokens before the patches (CLS, ...)
    .readers   slice of the tokens whose output the head reads: the class token, with that of distillation, or patches
    .windowed  True for a Swin transformer: attention within windows, and .grid is that of the last stage

    In evaluation mode with frozen parameters; gradients reach the image only. `vit.double()` computes in float64.
    """

    def __init__(self, backbone: nn.Module, mean, std, name: str = ""):
        super().__init__()
        _check_layout(backbone)
        weight = next(backbone.parameters())
        self.backbone = backbone
        self.name = name or type(backbone).__name__
        if mean is None or std is None:
            raise ValueError(f"{self.name} states no mean and std; give both: load_vit(..., mean=(.5,) * 3, "
                             "std=(.5,) * 3)")
        self.register_buffer("mean", _channels(mean, "mean").to(weight), persistent=False)  # (1, 3, 1, 1)
        self.register_buffer("std", _channels(std, "std").to(weight), persistent=False)
        self.windowed = _is_swin(backbone)
        last = backbone.layers[-1].blocks[-1] if self.windowed else None
        self.grid = tuple(last.input_resolution if self.windowed else backbone.patch_embed.grid_size)
        self.image_size = tuple(backbone.patch_embed.img_size)
        self.num_classes = backbone.num_classes
        self.num_prefix_tokens = getattr(backbone, "num_prefix_tokens", 0)
        self.readers = _readers(backbone)
        self.eval().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) in the model's own precision."""
        check_noisy(x, size=self.image_size)
        return self.backbone((x.to(self.mean.dtype) - self.mean) / self.std)


def _is_swin(backbone: nn.Module) -> bool:
    stages = getattr(backbone, "layers", None)
    return isinstance(stages, nn.Sequential) and hasattr(getattr(stages[-1], "blocks", [None])[-1], "window_size")


def _readers(backbone: nn.Module) -> slice:
    """The tokens whose output the head reads; ours to define where the class token is not the only one."""
    if hasattr(backbone, "head_dist"):
        return slice(0, 2)  # timm averages the heads of the class and of the distillation token
    if getattr(backbone, "global_pool", "") == "token":
        return slice(0, 1)
    whole = getattr(backbone, "pool_include_prefix", False)
    return slice(0 if whole else getattr(backbone, "num_prefix_tokens", 0), None)


def _check_layout(backbone: nn.Module) -> None:
    """ValueError unless `backbone` has blocks with attention over one grid of patches, or stages as Swin has."""
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if not (hasattr(backbone, "blocks") and grid) and not _is_swin(backbone):
        raise ValueError(f"{type(backbone).__name__} is no plain vision transformer (blocks over one patch grid); "
                         "choose a timm ViT or DeiT")


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
