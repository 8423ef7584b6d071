"""What stands between image and map, behind one protocol: those of the vocabulary, and a reader's own class."""

import functools
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Protocol

import torch

from fvit.base.memory import in_memory
from fvit.base.paths import PRIOR_OF, PRIORS, SHIPPED
from fvit.experiments.reference_chain import ReferenceChain
from fvit.models.cnn import load_cnn
from fvit.models.filters import Blur, Told, Wavelet
from fvit.models.vit_files import load_vit
from fvit.records import defence_names
from fvit.smoothing import DDS

GIVEN = ("vit", "den", "sigma", "n_samples", "seed", "batch_size", "precision")  # what a constructor may ask for


class Defence(Protocol):
    """What an attack, a table and a figure need of a defence; a `DDS` is one, whatever its denoiser and its sigma.

    Attributes, if it has them: `sigma`, the std of the noise it adds, and `n_samples`, its draws, for the rows and for
    attacks, which average over draws where sigma > 0.
    """

    def maps(self, x, *, ids, method, target, purpose, draws):
        """Maps (B, n, h, w), as of `explain`, and class probabilities (B, n, C): one for each draw, or n = 1.

        x         (B, 3, H, W) in [0, 1]; both answers are differentiable in x, for an attack is made through them
        ids       (B,) names of the images; with `draws` (a list of indices), `purpose` ("dds" or "eot") and the seed
                  they name the streams of random numbers: other names, other numbers; the same, the same
        method    a name of METHODS; None: no maps are wanted, and None may stand in their place
        target    (B,) the class explained, or None
        """


def build(name: str, **given) -> "Defence":
    """The defence of a name as of `records.defence_names.check`, from those of GIVEN that its constructor asks for.

    Raises ValueError or FileNotFoundError for an unknown name, a constructor that asks for something else, and an
    object without `maps`.
    """
    [name] = defence_names.check([name])
    if name == "none":
        raise ValueError("defence 'none' is the bare ViT, and no defence to build; attacks on it are made on 'vit'")
    if ":" not in name:
        return _built(name, **given)
    make = _read(name, defence_names.digest(name))
    asked = inspect.signature(make).parameters.values()
    if unknown := [p.name for p in asked if p.name not in given and p.default is p.empty
                   and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]:
        raise ValueError(f"{name} asks for {', '.join(unknown)}, known: {', '.join(GIVEN)}; give it a default")
    takes_all = any(p.kind == p.VAR_KEYWORD for p in asked)
    made = make(**{key: value for key, value in given.items() if takes_all or key in [p.name for p in asked]})
    if not callable(getattr(made, "maps", None)):
        raise ValueError(f"{name} makes a {type(made).__name__} without a method `maps`; wanted one as of "
                         "fvit.experiments.defences.Defence, or a fvit.DDS")
    return made if isinstance(made, DDS) else Checked(made, defence_names.code(name), given["vit"], given["batch_size"])


@functools.cache
def _read(name: str, digest: str):
    """What NAME is in FILE of "FILE.py:NAME", the reader's own file, which is run: once for each state of the file."""
    path, _, what = name.rpartition(":")
    spec = importlib.util.spec_from_file_location(f"defence_{Path(path).stem}_{digest[:8]}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return getattr(module, what)


class Checked:
    """A reader's own defence: what it answers is looked at, in the place where it can be said whose fault it is."""

    def __init__(self, own, name: str, vit, batch_size: int):
        self.own, self.name, self.vit, self.batch_size = own, name, vit, batch_size
        self.sigma, self.n_samples = float(getattr(own, "sigma", 0)), int(getattr(own, "n_samples", 1))

    def maps(self, x, *, ids=None, method="raw_attention", target=None, purpose="dds", draws=None):
        draws = list(range(self.n_samples) if draws is None else draws)
        found = self.own.maps(x, ids=ids, method=method, target=target, purpose=purpose, draws=draws)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise ValueError(f"{self.name} gives a {type(found).__name__}, wanted a pair: maps and probabilities")
        wanted = {"probabilities": (found[1], ("C",), (self.vit.num_classes,))}
        if method is not None:
            wanted["maps"] = found[0], ("h", "w"), tuple(self.vit.grid)
        for what, (values, letters, sizes) in wanted.items():
            shape = tuple(getattr(values, "shape", ()))
            if len(shape) != 2 + len(sizes) or shape[0] != len(x) or shape[1] < 1 or shape[2:] != sizes:
                raise ValueError(f"{self.name} gives {what} of shape {shape or type(values).__name__} for {len(x)} "
                                 f"images, wanted (B, n, {', '.join(letters)}) = ({len(x)}, n, "
                                 f"{', '.join(map(str, sizes))}); a defence without draws has n = 1: heat[:, None]")
            shares = values.detach().flatten(2)
            if not (shares.amin() >= 0 and (shares.sum(2) - 1).abs().amax() < 0.01):  # NaN is neither
                raise ValueError(f"{self.name} gives {what} that are no shares: {shares.amin().item():.3g} the least, "
                                 f"{shares.sum(2).amax().item():.3g} the greatest sum; wanted at least 0, sums of 1: "
                                 "softmax(1) of logits, maps as of `explain`")
            if x.requires_grad and torch.is_grad_enabled() and not values.requires_grad:
                raise ValueError(f"{self.name} gives {what} without a gradient in x, {NO_GRADIENT}")
        return found[0] if method is not None else None, found[1]

    __call__ = maps


NO_GRADIENT = ("so no attack can be made through it; leave out detach and no_grad, and let the gradient pass what has "
               "none: x + (f(x) - x).detach()")


def check_gradient(name: str, loss, x) -> None:
    """ValueError if the loss of an attack, (x, step) -> (B,), does not change with x anywhere: rounding, say, lies in
    its way, and an attack that stands still would look like a defence that holds."""
    probe = x.detach().clone().requires_grad_()
    values = loss(probe, 0)
    if not values.requires_grad or not torch.autograd.grad(values.sum(), probe)[0].any():
        raise ValueError(f"{defence_names.code(name)} gives answers whose gradient in x is 0 everywhere, {NO_GRADIENT}")


@torch.no_grad()
def look(defence: Checked, x, ids, methods, target=None):
    """(probabilities (B, C), {method: (B, h, w)}): means over the defence's own draws, float64 inside.

    Where no target is given, maps explain the class of the mean probabilities, one for all draws.
    """
    def part(rows):
        def mean(method, classes):
            found = defence.maps(x[rows], ids=ids[rows], method=method, target=classes)
            return [None if v is None else v.cpu().double().mean(1) for v in found]

        probs = mean(None, None)[1]
        classes = probs.argmax(1).to(x.device) if target is None else target[rows]
        return probs, *(mean(method, classes)[0].to(x.dtype) for method in methods)

    def whole():
        starts = range(0, len(x), defence.batch_size)
        parts = [part(slice(start, start + defence.batch_size)) for start in starts]
        return [torch.cat(values) for values in zip(*parts, strict=True)]

    probs, *maps = in_memory(whole, defence)
    return probs, dict(zip(methods, maps, strict=True))


def is_random(defence) -> bool:
    """Whether other draws may give another map."""
    return defence.sigma > 0 or (isinstance(defence, Checked) and defence.n_samples > 1)


def levels(defence) -> dict:
    """What the rows of a defence say in `sigma` and `n_samples`: its noise, else the level its denoiser is told."""
    told = getattr(getattr(defence, "den", None), "level", 0.0)
    return {"sigma": defence.sigma or told, "n_samples": defence.n_samples if is_random(defence) else 1}


def _built(name: str, vit, den, **sizes) -> DDS:
    """A defence of the vocabulary; all of them are a DDS with another denoiser or noise."""
    if name == "dds":
        return DDS(vit, den, **sizes)
    if name == "dds_published":
        return DDS(vit, den, **sizes | {"sigma": PUBLISHED})
    if name == "reference_chain":
        return ReferenceChain(vit, den, **sizes)
    if name in OTHER_VITS:
        return DDS(_own_vit(vit, name), None, **sizes | ({} if OTHER_VITS[name] else {"sigma": 0.0}))
    if name in NOISY:
        return DDS(vit, NOISY[name](vit), **sizes)
    cleaner = DDS(vit, den if name == "denoise_only" else STILL[name](vit), **sizes).den
    told = cleaner if isinstance(cleaner, Blur) else Told(cleaner, sizes["sigma"])
    return DDS(vit, told, **sizes | {"sigma": 0.0})


def _own_cnn(vit):
    name = getattr(vit, "name", "")
    name = PRIOR_OF.get(name, name)
    if name not in PRIORS:
        raise FileNotFoundError(f"no plain CNN was trained on the images of the ViT {name!r}; train one, and load it "
                                "in a file of your own by fvit.models.cnn.load_cnn(FOLDER)")
    return load_cnn(name).to(next(vit.parameters()).device)


@functools.cache
def _other_vit(name: str):
    return load_vit(name)


def _own_vit(vit, name: str):
    """The ViT of the same images that `fvit train NAME` has made of `vit`; FileNotFoundError where there is none."""
    data = getattr(vit, "name", "")
    if data not in SHIPPED:
        raise FileNotFoundError(f"no {name} was trained from the ViT {data!r}; train one, and smooth it in a file of "
                                "your own by fvit.DDS(YOURS, None, sigma)")
    other = _other_vit(f"{data}-{name.removeprefix('vit_')}")
    return other.to(next(vit.parameters()).device)


PUBLISHED = 8 / 255  # sigma of Hu et al. 2024 and Kurek et al. 2025, read in [0, 1]
NOISY = {"noise_only": lambda vit: None,  # what SmoothGrad does for gradients (Smilkov et al. 2017)
         "noise_blur": lambda vit: Blur(1.0), "noise_cnn": _own_cnn}  # name -> the denoiser behind the noise
STILL = {"blur": lambda vit: Blur(1.0), "blur_narrow": lambda vit: Blur(0.7), "wavelet": lambda vit: Wavelet(),
         "cnn": _own_cnn}  # name -> what stands before the ViT, without noise
OTHER_VITS = {"vit_noise": True, "vit_adversarial": False}  # name -> whether it is smoothed (Cohen et al. 2019)
