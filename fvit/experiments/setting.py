"""What experiments work on, by name: a ViT, a denoiser and images, loaded where they are needed."""

import ast
import functools
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fvit.base.checks import check_choice, check_source
from fvit.data.images import Images
from fvit.data.loading import load_images
from fvit.models.diffusers_files import load_denoiser
from fvit.models.vit import load_vit
from fvit.records.profiles import PROFILES

BRIDGE = ("size", "noise_at")  # arguments of a denoiser that are the bridge's


@dataclass(frozen=True)
class Setting:
    """A ViT, a denoiser and images: arguments of their loaders, a dict, or the source alone.

    vit      of `load_vit`
    den      of `load_denoiser`; with "size", the pixels that the prior works at, and if wanted "noise_at", as of
             `bridge.connect`: images are resized on their way to the prior and back
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
    from fvit.models.bridge import connect  # late: only priors of another size need it

    given = json.loads(bridge)
    if "size" not in given:
        raise ValueError(f"den has {given} and no size, the pixels that the prior works at; give it, or leave both out")
    return connect(vit, den, **given)


ADM = "256x256_diffusion_uncond.pt"  # OpenAI's guided-diffusion, the prior of Hu et al. 2024
PUBLISHED = {"vit": "vit_base_patch16_224", "den": {"source": ADM, "size": 256}, "data": "imagenet"}
GRIDS = (256, 196)  # tokens that the k of a profile is meant for: of the scenes' ViT, and of ViT-B/16 at 224 pixels


@dataclass(frozen=True)
class Choice(Setting):
    """A setting, and what a notebook says of it."""

    @property
    def scenes(self) -> bool:
        return self.names["data"]["source"] == "scenes"

    @property
    def k(self) -> int:
        """Size of the top set: 0, the profile's, on the grids that it is meant for; else a tenth of the tokens."""
        tokens = GRIDS[0] if self.names["vit"]["source"] == "scenes" else math.prod(self.networks[0].grid)
        return 0 if tokens in GRIDS else max(1, round(tokens / 10))

    @property
    def has_masks(self) -> bool:
        return self.scenes or self.images(min(8, self._there())).mask is not None  # of eight, one can be read

    def validation(self, n: int) -> Images:
        """Images on which choices are made: validation scenes; of a data set on disk those that `data` names."""
        return self.images(n, split="val") if self.scenes else self.images(n)

    def unseen(self, n: int, after: int) -> Images:
        """Training scenes; or the next images of a data set after the first `after`, n of them, fewer where it ends.

        Raises ValueError where none is left.
        """
        if self.scenes:
            return self.images(n, split="train")
        there = self._there()
        if after >= there:
            raise ValueError(f"{self.names['data']['source']} has {there} images and all are evaluated, so none is "
                             "left to compare with; take a smaller n_images")
        return self.images(min(n, there - after), start=after)

    def _there(self) -> int:
        """Number of images of a data set on disk, from its index."""
        from fvit.data.datasets import open_source  # late: only data sets on disk need it

        data = self.names["data"]
        return len(open_source(**{name: data.get(name) for name in ("source", "split", "root", "objects")}).ids)

    @property
    def unit(self) -> str:
        return "scenes" if self.scenes else "images"

    def kind(self, split: str = "test") -> str:
        """The images in words: "test scenes", or "images of imagenet"."""
        return f"{split} scenes" if self.scenes else f"images of {Path(self.names['data']['source']).name}"

    def count(self, n, groups, split: str = "test") -> str:
        """How many they are, in words: "16 test scenes on 5 photographs", or "16 images of imagenet"."""
        return f"{n} {self.kind(split)}" + f" on {len(set(groups))} photographs" * self.scenes

    def clusters(self, groups) -> str:
        """What intervals resample, in words, from the group of each image."""
        if self.scenes:
            return "clustered by photograph"
        return "over images" if len(set(groups)) == len(list(groups)) else "clustered by group of images"


def chosen(profile: str, vit="", den="", data="", published: str = "imagenet") -> Choice:
    """What the parameters of a notebook name; "" is the profile's own: the scenes, or at `paper` PUBLISHED.

    vit, den, data   a source, or a dict of arguments of its loader as text: "{'source': 'resnet', 'pretrained': False}"
    published        the data set at `paper`; it and the prior's checkpoint are looked for in $FVIT_DATA

    At `paper` networks are on a GPU where there is one. Raises ValueError for sources other than the scenes at `laptop`
    and `study`, whose figures and claims are about the scenes, and for a text that begins as a dict and is none.
    """
    check_choice(profile, PROFILES, "profile")
    given = {name: _parsed(name, value) for name, value in {"vit": vit, "den": den, "data": data}.items()}
    if profile == "paper":
        prior = {**PUBLISHED["den"], "source": str(Path(os.environ.get("FVIT_DATA") or "") / ADM)}
        own = PUBLISHED | {"den": prior, "data": published}
        return Choice(**{name: given[name] or own[name] for name in own}, device="auto")
    for name, value in given.items():
        if value not in ("", "scenes"):
            raise ValueError(f"{name}={value!r} at {profile}, whose figures and claims are about the scenes; use the "
                             "profile paper, with smaller sizes where you want them: --profile paper -p n_images=16")
    return Choice()


def _parsed(name: str, value) -> str | dict:
    found = value
    if isinstance(value, str) and value.strip()[:1] == "{":
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"{name}={value}, wanted a source, or a dict: {{'source': 'resnet', ...}}") from None
    if isinstance(found, dict):
        check_source(found.get("source"), f"'source' of {name}={value}")
    elif not isinstance(found, str | os.PathLike):
        raise ValueError(f"{name} is a {type(found).__name__}, wanted a source, or a dict of arguments; if it is "
                         "loaded already, run the cell of the parameters again")
    elif found != "":
        found = str(check_source(found, name))
    return found
