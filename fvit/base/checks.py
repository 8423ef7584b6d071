"""Checks on arguments: every message says what was got, what was wanted and what to do. torch is imported late."""

import difflib
import math
import operator
import os
from contextlib import suppress
from numbers import Real

import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")  # dtypes of images
NUMBERS = (*FLOATS, "bool", "uint8", "int8", "int16", "int32", "int64")  # of maps, masks and classes


def check_images(x, name: str = "x", size=None, beyond: float = 1e-3):
    """Return `x` unchanged if it is a batch of RGB images: floating point, (B, 3, H, W), B >= 1, values in [0, 1].

    size     (H, W) that a model wants, if it is known: looked at before the values are
    beyond   how far a value may leave [0, 1]; the default is for rounding

    Raises ValueError that names the mend otherwise.
    """
    low, high = _extremes(check_shape(x, name, size), name, "finite ones in [0, 1]")
    if low < -beyond or high > 1 + beyond:
        raise ValueError(f"{name} has values in [{low:.3g}, {high:.3g}], wanted [0, 1]; {_range_mend(low, high, name)}")
    return x


def check_noisy(x, name: str = "x", size=None):
    """As `check_images`, for images with noise: values may be anything finite."""
    _extremes(check_shape(x, name, size), name, "finite ones")
    return x


def check_shape(x, name: str = "x", size=None):
    """As `check_images`, whatever the values are."""
    import torch

    if not isinstance(x, torch.Tensor):
        raise ValueError(f"{name} is a {type(x).__name__}, wanted a tensor (B, 3, H, W); try torch.as_tensor({name})")
    if str(x.dtype).removeprefix("torch.") not in FLOATS:
        raise ValueError(f"{name} has dtype {x.dtype}, wanted floating point in [0, 1]; for bytes {name}.float() / 255")
    shape, mend = tuple(x.shape), None
    if x.ndim != 4:
        mend = f"; a single image becomes {name}[None]" if x.ndim == 3 else ""
    elif len(x) == 0:
        mend = " with B >= 1; the batch is empty"
    elif shape[1] == 1:
        mend = f"; a grey image: expand it: {name}.expand(-1, 3, -1, -1)"
    elif shape[1] != 3:
        mend = f"; move the channels: {name}.permute(0, 3, 1, 2)" if shape[-1] == 3 else "; give RGB"
    elif 0 in shape:
        mend = " with H, W >= 1; the images have no pixels"
    if mend is not None:
        raise ValueError(f"{name} has shape {shape}, wanted (B, 3, H, W){mend}")
    if size is not None and tuple(x.shape[-2:]) != tuple(size):
        raise ValueError(f"{name} has images of {shape[-2:]} pixels, the model wants {tuple(size)}; resize them: torch."
                         f"nn.functional.interpolate({name}, {tuple(size)}, mode='bilinear', antialias=True)")
    return x


def _extremes(x, name, wanted):
    """Least and greatest value of `x`; ValueError if one is NaN or infinite."""
    low, high = x.detach().amin().item(), x.detach().amax().item()  # NaN anywhere makes both NaN
    if not (abs(low) < math.inf and abs(high) < math.inf):
        raise ValueError(f"{name} has NaN or infinite values, wanted {wanted}; look at {name}.isfinite()")
    return low, high


def _range_mend(low, high, name):
    if low >= 0 and 1.5 < high <= 255:
        return f"it looks like [0, 255]: divide by 255, {name} / 255"
    if -0.1 < low and high < 1.1:
        return (f"they leave it a little, as perturbed images do: clamp them, {name}.clamp(0, 1); fvit.as_captum and "
                "as_quantus take them as they are")
    if -1.001 <= low < 0 and high <= 1.001:
        return f"it looks like [-1, 1]: map by (x + 1) / 2, ({name} + 1) / 2"
    return "undo the normalisation (a ViT here normalises inside), or clamp it"


def check_ids(ids, n: int, once: bool = True) -> list[str]:
    """Names of `n` images as text, each once, unless `once` is False; None gives their positions "0", "1", ..."""
    if ids is None:
        return [str(i) for i in range(n)]
    if isinstance(ids, str | bytes):
        raise ValueError(f"ids={ids!r} is one text, wanted a list with one id per image")
    try:
        names = [i if isinstance(i, str) else str(operator.index(i)) for i in ids]
    except TypeError:
        raise ValueError(f"ids={ids!r}, wanted a list with one id per image, each a text or an integer") from None
    if len(names) != n:
        raise ValueError(f"got {len(names)} ids for {n} images, wanted one id per image")
    if once and len(set(names)) != n:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"id {twice!r} occurs more than once; two images with one id would share their noise")
    return names


def check_choice(value, known, what: str):
    """Return `value` if it is one of `known`; else ValueError that lists what is known and a close match."""
    known = list(known)
    if any(isinstance(value, type(item)) and value == item for item in known):  # an array is equal to nothing here
        return value
    close = difflib.get_close_matches(str(value)[:99], [str(item) for item in known], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown {what} {value!r}, known: {', '.join(map(str, known))}{hint}")


def check_k(k: int, n_tokens: int) -> int:
    """Return `k` as an int if 1 <= k <= n_tokens."""
    if as_integer(k) not in range(1, n_tokens + 1):
        raise ValueError(f"k={k!r} with maps of {n_tokens} tokens, wanted an integer, 1 <= k <= {n_tokens}")
    return as_integer(k)


def as_number(value) -> float:
    """`value` as a float; NaN where it is no real number (text, None, a bool, a list): so every range refuses it."""
    value = _plain(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def as_integer(value) -> int | None:
    """`value` as an int if it is an integer and no bool, else None."""
    value = _plain(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _plain(value):
    return value.item() if hasattr(value, "item") and math.prod(value.shape) == 1 else value  # of NumPy and torch


def as_list(values) -> list | None:
    """`values` as a list if they are several, else None; a text is one."""
    with suppress(TypeError):  # also of an array or tensor without dimensions
        return None if isinstance(values, str | bytes) else list(values)
    return None


def check_source(source, name: str = "source"):
    """Return `source`, where a model or data set comes from, if it is a text or path that can name something."""
    if not (isinstance(source, str | os.PathLike) and str(source).strip()) or "\0" in str(source):
        raise ValueError(f"{name} is {source!r} ({type(source).__name__}), wanted a name, or a path as text")
    return source


def check_number(value, name: str, within: str, what: str = "") -> float:
    """Return `value` as a float if it is one number in `within`, e.g. "[0, inf)"; the message adds `what` it means."""
    found, (low, high) = as_number(value), map(float, within[1:-1].split(","))
    if not (low < found < high or (found == low and within[0] == "[") or (found == high and within[-1] == "]")):
        raise ValueError(f"{name}={value}, wanted a number in {within}{what and ', '}{what}")
    return found


def check_sigma(sigma, name: str = "sigma") -> float:
    """Return `sigma`, a noise std for images in [0, 1], as a float; ValueError above 5, which counts in [0, 255]."""
    what = "the noise std for images in [0, 1]"
    return check_unit(check_number(sigma, name, "[0, inf)", what), name, 5, what)


def check_unit(value: float, name: str, most: float, what: str) -> float:
    """Return `value`, in units of [0, 1], unless it is above `most`, as numbers are that are meant in [0, 255]."""
    if value > most:
        raise ValueError(f"{name}={value:.6g}, wanted at most {most:.6g}, {what}; one in units of [0, 255] is divided "
                         f"by 255: {name}={value:.6g} / 255")
    return value


def check_count(n, name: str, least: int = 1) -> int:
    """Return `n` as an int if it is a whole number, at least `least`; 16.0 is one."""
    found = as_integer(n)
    if found is None and as_number(n) % 1 == 0:
        found = int(as_number(n))
    if found is None or found < least:
        raise ValueError(f"{name}={n!r}, wanted an integer >= {least}")
    return found


def check_seed(seed) -> int:
    """Return `seed` as an int."""
    if (found := as_integer(seed)) is None:
        raise ValueError(f"seed {seed!r} is a {type(seed).__name__}, wanted an integer")
    return found


def check_size(size) -> tuple[int, int]:
    """`size` in pixels, a side or (height, width), as (height, width)."""
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2 or not all((as_integer(side) or 0) > 0 for side in sides):
        raise ValueError(f"size={size!r}, wanted pixels a side, or (height, width)")
    return sides


def check_flag(value, name: str) -> bool:
    """Return `value` as a bool if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r}, wanted True or False")
    return bool(value)


def check_text(text, name: str) -> str:
    """Return `text` if it is words that a table gives back as they were: lines end by \\n alone."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} is {text!r}, wanted words")
    if "\r" in text or "\0" in text:
        raise ValueError(f"{name} is {text[:60]!r}, wanted no NUL, and lines ended by \\n alone")
    return str(text)


def check_array(values, name: str) -> np.ndarray:
    """`values`, array or tensor, as a float64 array; ValueError unless they are real numbers."""
    if hasattr(values, "detach"):
        values = check_tensor(values, name).detach().cpu().double()
    return _real(values, name).astype(np.float64, copy=False)


def check_tensor(values, name: str):
    """`values`, tensor or array, as a tensor of real numbers; ValueError unless they are. Tensors stay as they are."""
    import torch

    tensor = values if isinstance(values, torch.Tensor) else torch.from_numpy(_real(values, name).copy())
    if tensor.dtype in (torch.uint16, torch.uint32):  # torch itself can do little with these
        tensor = tensor.long()
    if str(tensor.dtype).removeprefix("torch.") not in NUMBERS:
        raise ValueError(f"{name} has dtype {tensor.dtype}, wanted real numbers; convert it, e.g. {name}.double()")
    return tensor


def _real(values, name):
    if (array := np.asarray(values)).dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}, wanted an array of real numbers")
    return array


def check_classifier(n_classes: int | None, what: str) -> None:
    """ValueError if a model has no or one class, so that `what` has no meaning; None where it is not known."""
    if n_classes is not None and n_classes < 2:
        why = "a softmax of one logit is always 1" if n_classes else "no classifier, its answer is features"
        raise ValueError(f"{what} needs two classes or more, the model has num_classes={n_classes} ({why}); take a "
                         "model with a trained classifier, or a method that explains no class")


def check_logits(logits, classes):
    """Return `logits` if they are (B, C), C >= 2 and above each of the classes (B,): what a caller's model gave."""
    shape = getattr(logits, "shape", ())
    if len(shape) != 2 or len(logits) != len(classes) or shape[1] <= max(1, int(classes.max())):
        got = f"{type(logits).__name__} of shape {tuple(getattr(logits, 'shape', ()))}"
        raise ValueError(f"the model gave a {got} for {len(classes)} images with classes up to {int(classes.max())}; "
                         "wanted logits (B, C), C > y and C > 1: is the model one for these classes?")
    return logits


def check_classes(classes, n: int, n_classes: int | None = None, name: str = "target"):
    """Class indices as a tensor (n,) of int64, from (n,) or one for all; n_classes None where it is not known."""
    import torch

    check_classifier(n_classes, name)
    tensor = check_tensor(classes, name)
    if tensor.is_floating_point() or tensor.dtype == torch.bool or tensor.shape not in ((), (n,)):
        raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, wanted class indices (B,) = ({n},)")
    if n and (tensor.min() < 0 or (n_classes is not None and tensor.max() >= n_classes)):
        wanted = "0 or more" if n_classes is None else f"0..{n_classes - 1}"
        raise ValueError(f"{name} has classes {tensor.min()}..{tensor.max()}, wanted {wanted}")
    return tensor.long().expand(n)


def check_callable(value, name):
    if not callable(value):
        raise ValueError(f"{name} is a {type(value).__name__}, wanted something to call, such as a ViT or a fvit.DDS")


def check_draws(draws, n=1):
    """Draw indices as a list of ints, from a list or from one for `n` rows; ValueError for others."""
    several = as_list(draws)
    found = [as_integer(d) for d in ([draws] * n if several is None else several)]
    if None in found:
        raise ValueError(f"draws={draws!r}, wanted draw indices: integers, such as range(4)")
    return found
