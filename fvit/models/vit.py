"""Load a vision transformer that takes images in [0, 1]: its normalisation is its first layer."""

import difflib
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from fvit.base import paths
from fvit.base.checks import check_array, check_choice, check_flag, check_noisy, check_source
from fvit.base.files import read_json
from fvit.models.attention import capture_attention
from fvit.models.layouts import check_outline, is_swin, prove
from fvit.models.state import evaluated
from fvit.models.weight_files import check_call, check_fits, check_sums, check_weights, short, weights_mend


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
        self.register_buffer("mean", _channels(mean, "mean").to(weight), persistent=False)  # (1, 3, 1, 1)
        self.register_buffer("std", _channels(std, "std").to(weight), persistent=False)
        self.name = name or type(backbone).__name__
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


def load_vit(source="scenes", pretrained: bool | None = None, mean=None, std=None) -> ViT:
    """Load a ViT as a module from images in [0, 1] to logits, in evaluation mode with frozen parameters.

    source      "scenes" or "cifar10" (shipped) | a folder in timm's form (config.json, model.safetensors)
                | a .safetensors file with config.json beside it | a timm name or "hf-hub:..."
                | a timm module you have (wrapped, not copied)
    pretrained  weights from the file or the hub (default), or False for random ones, the same each time
    mean, std   per channel, for images in [0, 1]; default: those stated with the model

    Raises ValueError for an unknown name, a model that is no plain ViT or Swin, weights that do not fit, or a missing
    mean and std; FileNotFoundError or OSError where weights are absent, truncated or cannot be downloaded.
    """
    pretrained = True if pretrained is None else check_flag(pretrained, "pretrained")
    if isinstance(source, nn.Module):
        backbone, name = source, type(source).__name__
    elif check_source(source) in paths.SHIPPED:
        backbone, name = _from_folder(paths.shipped(source, "vit"), None, pretrained), str(source)
    elif Path(source).is_dir():
        backbone, name = _from_folder(Path(source), None, pretrained), Path(source).name
    elif Path(source).suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"):
        backbone, name = _from_file(Path(source), pretrained), Path(source).stem
    else:
        backbone, name = _from_timm(str(source), pretrained), str(source)
    stated = getattr(backbone, "pretrained_cfg", None) or {}
    mean, std = stated.get("mean") if mean is None else mean, stated.get("std") if std is None else std
    if mean is None or std is None:
        raise ValueError(f"{name} states no mean and std; give both: load_vit(..., mean=(.5,) * 3, std=(.5,) * 3)")
    return ViT(backbone, mean, std, name=name)


def _from_folder(folder: Path, weights: Path | None, pretrained: bool) -> nn.Module:
    mend = weights_mend(folder)
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"no config.json in {folder} (the form timm.models.save_for_hf writes); {mend}")
    if pretrained:
        check_sums(folder, mend)
        weights = check_weights(weights or folder / "model.safetensors", mend)
    described = partial(_create, f"local-dir:{folder}", pretrained=False)
    try:
        if pretrained:
            check_fits(described, read_json(config, mend).get("model_args") or {}, weights, mend)
        backbone = described()
    except Exception as err:  # JSON errors, missing keys, unknown architectures: each its own class inside timm
        raise ValueError(f"{config} does not describe a timm model ({short(err)}); {mend}") from err
    if not pretrained:
        return backbone
    try:
        backbone.load_state_dict(load_file(weights))
    except RuntimeError as err:
        raise ValueError(f"{weights} does not fit the model in {config} ({short(err)}); {mend}") from err
    if size := getattr(getattr(backbone, "patch_embed", None), "img_size", None):  # else no ViT, which ViT() says
        blank = torch.zeros(1, 3, *size).to(next(backbone.parameters()))
        check_call(lambda: backbone.eval()(blank), f"{config}, which fits model.safetensors,", mend)
    return backbone


def _from_file(path: Path, pretrained: bool) -> nn.Module:
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} is not a safetensors file; save its state dict with safetensors.torch.save_file")
    if not (path.parent / "config.json").is_file():
        raise ValueError(f"{path} holds weights but not the architecture; put timm's config.json beside it, or build "
                         "the module with timm, load the weights, and give load_vit(module)")
    return _from_folder(path.parent, path, pretrained)


def _from_timm(name: str, pretrained: bool) -> nn.Module:
    scheme, colon, _ = name.partition(":")
    if colon and scheme not in ("hf-hub", "hf_hub"):  # timm's local-dir: reads pickles too
        raise ValueError(f"{name} begins with {scheme}:, known: hf-hub:owner/name; a folder is given by its path alone")
    if not colon and ("/" in name or "\\" in name):
        raise FileNotFoundError(f"no folder {name}; for a model on the hub write 'hf-hub:{name}'")
    if not colon:
        _check_name(name)
    try:
        return _create(name, pretrained=pretrained)
    except Exception as err:  # download errors come in many classes
        raise OSError(f"cannot get the weights of {name} ({short(err)}); load it once with a network, give a local "
                      "folder, or ask for random weights with pretrained=False") from err


def _create(name: str, pretrained: bool) -> nn.Module:
    """timm's model; random weights are the same in every process, so that a stopped run goes on with its network."""
    with torch.random.fork_rng(devices=[]):  # the caller's stream stays where it was
        torch.random.default_generator.manual_seed(0)
        return timm.create_model(name, pretrained=pretrained)


def _check_name(name: str) -> None:
    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        close = " or ".join(map(repr, difflib.get_close_matches(arch, [*paths.SHIPPED, *timm.list_models()], n=3)))
        raise ValueError(f"unknown model {name!r}{f'; did you mean {close}?' if close else ''}; known: 'scenes', "
                         "'cifar10', a folder, 'hf-hub:owner/name', and the names of timm.list_models('*vit*')")
    if tag:
        check_choice(name, timm.list_models(f"{arch}.*", pretrained=True), "weights")


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
