"""Checks on arguments: every message says what was got, what was wanted and what to do."""

import difflib
import operator
from pathlib import Path

import torch
from safetensors import safe_open

from fvit.paths import SUMS, changed


def check_images(x: torch.Tensor, name: str = "x") -> torch.Tensor:
    """Return `x` unchanged if it is a batch of RGB images: floating point, (B, 3, H, W), B >= 1, values in [0, 1].

    Rounding may carry a value out of [0, 1] by up to 1e-3. Raises ValueError that names the mend otherwise.
    """
    if not isinstance(x, torch.Tensor):
        raise ValueError(f"{name} is a {type(x).__name__}, wanted a tensor (B, 3, H, W); try torch.as_tensor({name})")
    if not x.is_floating_point():
        raise ValueError(f"{name} has dtype {x.dtype}, wanted floating point in [0, 1]; for bytes {name}.float() / 255")
    check_shape(x, name)
    low, high = x.detach().amin().item(), x.detach().amax().item()  # NaN anywhere makes both NaN
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise ValueError(f"{name} has NaN or infinite values, wanted finite ones in [0, 1]; look at {name}.isfinite()")
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"{name} has values in [{low:.3g}, {high:.3g}], wanted [0, 1]; {_range_mend(low, high, name)}")
    return x


def check_shape(x: torch.Tensor, name: str = "x") -> torch.Tensor:
    """Return `x` unchanged if its shape is (B, 3, H, W) with B >= 1; values may be anything (noise leaves [0, 1])."""
    got = f"{name} has shape {tuple(x.shape)}, wanted (B, 3, H, W)"
    if x.ndim != 4:
        raise ValueError(got + (f"; a single image becomes {name}[None]" if x.ndim == 3 else ""))
    if len(x) == 0:
        raise ValueError(f"{got} with B >= 1; the batch is empty")
    if x.shape[1] == 1:
        raise ValueError(f"{got}; a grey image: expand it: {name}.expand(-1, 3, -1, -1)")
    if x.shape[1] != 3:
        channels_last = x.shape[-1] == 3
        raise ValueError(got + (f"; move the channels: {name}.permute(0, 3, 1, 2)" if channels_last else "; give RGB"))
    return x


def _range_mend(low, high, name):
    if low >= 0 and 1.5 < high <= 255:
        return f"it looks like [0, 255]: divide by 255, {name} / 255"
    if -1.001 <= low < 0 and high <= 1.001:
        return f"it looks like [-1, 1]: map by (x + 1) / 2, ({name} + 1) / 2"
    return "undo the normalisation (a ViT here normalises inside), or clamp it"


def check_ids(ids, n: int) -> list[str]:
    """Names of `n` images as text, each once; None gives their positions "0", "1", ..."""
    if ids is None:
        return [str(i) for i in range(n)]
    if isinstance(ids, str):
        raise ValueError(f"ids={ids!r} is one text, wanted a list with one id per image")
    names = [str(i.item() if isinstance(i, torch.Tensor) else i) for i in ids]
    if len(names) != n:
        raise ValueError(f"got {len(names)} ids for {n} images, wanted one id per image")
    if len(set(names)) != n:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"id {twice!r} occurs more than once; two images with one id would share their noise")
    return names


def check_choice(value, known, what: str):
    """Return `value` if it is one of `known`; else ValueError that lists what is known and a close match."""
    known = list(known)
    if value in known:
        return value
    close = difflib.get_close_matches(str(value), [str(item) for item in known], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown {what} {value!r}, known: {', '.join(map(str, known))}{hint}")


def check_k(k: int, n_tokens: int) -> int:
    """Return `k` as an int if 1 <= k <= n_tokens."""
    try:
        k = operator.index(k)
    except TypeError:
        raise ValueError(f"k={k!r} is a {type(k).__name__}, wanted an integer from 1 to {n_tokens}") from None
    if not 1 <= k <= n_tokens:
        raise ValueError(f"k={k} with maps of {n_tokens} tokens, wanted 1 <= k <= {n_tokens}; choose a smaller top set")
    return k


def check_weights(path, mend: str) -> Path:
    """Return `path` if it is a whole safetensors file; reads the header only, which states the file's length.

    Raises FileNotFoundError if it is absent and OSError if it is truncated or something else; both name the `mend`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; {mend}")
    try:
        with safe_open(path, framework="pt"):
            return path
    except Exception as err:  # safetensors raises its own SafetensorError, which is neither ValueError nor OSError
        raise OSError(f"{path} is truncated or no safetensors file ({err}); {mend}") from err


def check_sums(folder, mend: str) -> None:
    """OSError if a file in `folder` is not the one of its SHA256SUMS, which `fvit train` writes; others have none.

    A flipped bit in the weights would go unseen: it is a model all the same, only another one.
    """
    if wrong := changed(folder):
        raise OSError(f"{', '.join(wrong)} is not what {SUMS} beside it says: damaged, or edited by hand; {mend}")


def weights_mend(folder, package_weights, command: str) -> str:
    """What to do about broken weights in `folder`: restore or retrain those of the package, copy others again."""
    root = Path(package_weights).resolve().parents[1]
    if Path(package_weights).resolve() in Path(folder).resolve().parents:
        inside = Path(folder).resolve().relative_to(root).as_posix()
        return f"restore it with `git checkout -- {inside}`, or retrain with `{command}`"
    return "copy the file again from where it came"
