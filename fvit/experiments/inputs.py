"""The networks and images that an experiment names (`records.sources`), loaded where they are needed."""

import functools
import json
from dataclasses import replace

import torch

from fvit.data.images import Images
from fvit.data.loading import load_images
from fvit.models.diffusers_files import load_denoiser
from fvit.models.vit_files import load_vit

BRIDGE = ("size", "noise_at")  # arguments of a denoiser that are those of `bridge.connect`


def networks(names: dict[str, dict], place: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """(vit, den), for `DDS(vit, den, ...)`; those of one name are one in a process. Raises what the loaders raise.

    A denoiser with "size" is a prior that works at so many pixels: images are resized on their way to it and back.
    """
    bridge = {name: value for name, value in names["den"].items() if name in BRIDGE}
    den = {name: value for name, value in names["den"].items() if name not in BRIDGE}
    loaded = _load(load_vit, json.dumps(names["vit"]), place), _load(load_denoiser, json.dumps(den), place)
    return _connect(*loaded, json.dumps(bridge)) if bridge else loaded


def vit(source: str, place: str) -> torch.nn.Module:
    """Another ViT, once in a process; `source` and errors as of `load_vit`."""
    return _load(load_vit, json.dumps({"source": source}), place)


@functools.cache
def _load(load, arguments: str, place: str) -> torch.nn.Module:
    return load(**json.loads(arguments)).to(place)


@functools.cache
def _connect(vit, den, bridge: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    from fvit.models.bridge import connect  # late: only priors of another size need it

    return connect(vit, den, **json.loads(bridge))


def images(names: dict[str, dict], place: str, n: int, start: int = 0, **changes) -> Images:
    """Images number start ... start + n - 1, their pixels on the device; a data set on disk has the size of the ViT."""
    data = names["data"]
    if data["source"] != "scenes":
        data = {"size": networks(names, place)[0].image_size, **data}
    found = load_images(**{**data, **changes}, n=n, start=start)
    return replace(found, x=found.x.to(place))
