"""Checkpoints of trainings: their state dict found, their head measured, and a timm module filled with them."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fvit.models.other_libraries import library_of
from fvit.models.weight_files import MEND, check_tensors, check_weights, read_pickled, read_weights, short

STATES = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "module")  # as timm prefers them


def opened(path: Path) -> tuple[dict, str, dict]:
    """State dict, timm architecture ("" if none is stated), and options of the training, from a checkpoint.

    Of averaged weights (EMA) and others the averaged are taken, as timm.create_model(checkpoint_path=...) does.
    Raises ValueError for a file without a state dict, FileNotFoundError or OSError for one that is absent or broken.
    """
    if path.suffix == ".safetensors":
        return read_weights([check_weights(path, MEND)], MEND), "", {}
    found = read_pickled(path, MEND, bookkeeping=True)
    if not isinstance(found, dict):
        return check_tensors(found, path), "", {}
    state = next((found[key] for key in STATES if isinstance(found.get(key), dict)), found)
    options = found.get("args")
    options = vars(options) if isinstance(options, argparse.Namespace) else options if isinstance(options, dict) else {}
    name = found.get("arch") or options.get("model") or ""
    return check_tensors(state, path), name if isinstance(name, str) else "", options


def settings_of(options: dict) -> dict:
    """What a training with timm changed of its architecture, as arguments of timm.create_model."""
    given = {"img_size": options.get("img_size"), "global_pool": options.get("gp")}
    kwargs = options.get("model_kwargs")
    more = kwargs if isinstance(kwargs, dict) else {}
    plain = {key: value for key, value in more.items() if isinstance(value, bool | int | float | tuple | list)}
    return {**{key: value for key, value in given.items() if value is not None}, **plain}


def fill(describe: Callable[..., nn.Module], state: dict, path: Path, what: str, mend: str, num_classes: int | None,
         pretrained: bool) -> nn.Module:
    """The module `describe(num_classes=...)` with the weights `state` of `path`.

    pretrained   the weights of `describe()` itself: other `num_classes` mean a new head. Else a checkpoint: its head
                 says how many classes there are, and other `num_classes` are an error; without a head they mean a new
                 one, and without both there is none

    Raises ValueError for weights that do not fit `what`; they may all stand under one prefix, which is taken off.
    """
    with torch.device("meta"):
        outline = describe()
    heads = (getattr(outline, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))
    state, left = _unwrapped(state, [name for name in outline.state_dict() if not name.startswith(heads)], path)
    found = next((len(state[f"{head}weight"]) for head in heads if f"{head}weight" in state), None)
    if pretrained:
        classes = outline.num_classes if num_classes is None else num_classes
    elif found is None and left:
        raise ValueError(f"{path} has no head, but {len(left)} weights beside the network, {left[0]} first: a head of "
                         "another kind? Build the module as it was trained and give load_vit(module)")
    elif None not in (found, num_classes) and found != num_classes:
        raise ValueError(f"{path} has a head of {found} classes and num_classes={num_classes}; leave num_classes out, "
                         f"or give the new head later: vit.backbone.reset_classifier({num_classes})")
    else:
        classes = found if found is not None else num_classes or 0
    backbone = describe(num_classes=classes)
    if num_classes is not None and found != classes:
        state = {name: value for name, value in state.items() if not name.startswith(heads)}
        state |= {name: value for name, value in backbone.state_dict().items() if name.startswith(heads)}
    try:
        backbone.load_state_dict(state)
    except RuntimeError as err:
        if library := library_of(state):
            mend = f"its names are {library}'s: load it there and give load_vit(module)"
        raise ValueError(f"{path} does not fit {what} ({short(err)}); {mend}") from err
    return backbone


def _unwrapped(state: dict, wanted: list[str], path: Path) -> tuple[dict, list[str]]:
    """The weights under the one prefix that has all `wanted`, without it, and the names of those beside it."""
    last = wanted[-1] if wanted else ""
    prefixes = {name.removesuffix(last) for name in state if name.endswith(last)}
    fitting = sorted(p for p in prefixes if p[-1:] in ("", ".") and all(p + name in state for name in wanted))
    if len(fitting) > 1:
        raise ValueError(f"{path} holds the network {len(fitting)} times, under {', '.join(map(repr, fitting))}; save "
                         "the one that is meant: torch.save(model.state_dict(), ...)")
    prefix = fitting[0] if fitting else ""
    inside = {name[len(prefix):]: value for name, value in state.items() if name.startswith(prefix)}
    return inside, [name for name in state if not name.startswith(prefix)]
