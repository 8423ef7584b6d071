"""Vision transformers from files, folders, names and modules, as people have them."""

import difflib
from functools import partial
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from fvit.base import paths
from fvit.base.checks import check_choice, check_flag, check_source
from fvit.base.files import read_json
from fvit.models.vit import ViT
from fvit.models.weight_files import check_call, check_fits, check_sums, check_weights, short, weights_mend


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
