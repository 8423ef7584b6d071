"""What experiments work on, by name: a ViT, a denoiser and images, loaded where they are needed."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fvit.denoiser import load_denoiser
from fvit.images import Images
from fvit.sources import load_images
from fvit.vit import load_vit

BRIDGE = ("size", "noise_at")  # arguments of a denoiser that are the bridge's


@dataclass(frozen=True)
class Setting:
    """A ViT, a denoiser and images: arguments of their loaders, a dict, or the source alone.

    vit      of `load_vit`
    den      of `load_denoiser`; with "size", the pixels that the prior works at, and if wanted "noise_at", as of
             `extras.bridge.connect`: images are resized on their way to the prior and back
    data     of `load_images`; a data set on disk has the "size" of the ViT, unless one is given
    device   "cpu", "cuda", or "auto": whichever there is where the networks are loaded

    Raises what the loaders raise, when it first needs them.
    """

    vit: str | dict = "scenes"
    den: str | dict = "scenes"
    data: str | dict = "scenes"
    device: str = "cpu"

    @property
    def names(self) -> dict[str, dict]:
        """The arguments as dicts of JSON values; rows depend on them."""
        return {name: _arguments(getattr(self, name)) for name in ("vit", "den", "data")}

    @property
    def networks(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """(vit, den), for `DDS(vit, den, ...)`; settings of one process share networks of one source."""
        vit, den = self.names["vit"], dict(self.names["den"])
        bridge = {name: den.pop(name) for name in BRIDGE if name in den}
        loaded = (_load(load_vit, json.dumps(vit), self.place), _load(load_denoiser, json.dumps(den), self.place))
        return _connect(*loaded, json.dumps(bridge)) if bridge else loaded

    def images(self, n: int, start: int = 0, **changes) -> Images:
        """Images number start ... start + n - 1, their pixels on the device; `changes` such as split="val"."""
        data = self.names["data"]
        if data["source"] != "scenes":
            data = {"size": self.networks[0].image_size, **data}
        images = load_images(**{**data, **changes}, n=n, start=start)
        return replace(images, x=images.x.to(self.place))

    @property
    def place(self) -> str:
        """The device, "auto" decided."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device


SCENES = Setting()


def _arguments(source: str | dict) -> dict:
    return source if isinstance(source, dict) else {"source": source}


@functools.cache
def _load(load: Callable, arguments: str, place: str) -> torch.nn.Module:
    return load(**json.loads(arguments)).to(place)


@functools.cache
def _connect(vit, den, bridge: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    from fvit.extras.bridge import connect  # late: only priors of another size need it

    given = json.loads(bridge)
    if "size" not in given:
        raise ValueError(f"den has {given} and no size, the pixels that the prior works at; give it, or leave both out")
    return connect(vit, den, **given)
