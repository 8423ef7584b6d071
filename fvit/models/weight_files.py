"""Checks on files of weights before anything is built from them."""

from pathlib import Path

from safetensors import safe_open

from fvit.base import paths
from fvit.base.checks import as_integer, as_list
from fvit.base.files import SUMS, changed


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


def check_fits(describe, config: dict, path, mend: str) -> None:
    """ValueError if the model `describe()`, or a number in its `config`, is larger than the file `path` is, in bytes.

    On device meta, where nothing is allocated: a file of settings can claim terabytes.
    """
    import torch

    size = Path(path).stat().st_size
    claimed = max((as_integer(n) or 0 for value in config.values() for n in as_list(value) or [value]), default=0)
    if claimed <= size:
        with torch.device("meta"):
            claimed = sum(p.numel() for p in describe().parameters())
    if claimed > size:
        raise ValueError(f"the settings beside {path} claim a size of {claimed}, more than its {size} bytes; {mend}")


def check_call(call, config, mend: str) -> None:
    """ValueError unless `call()` works: settings that fit the weights may yet be no network (-1 heads)."""
    import torch

    try:
        with torch.no_grad():
            call()
    except Exception as err:  # whatever its layers say
        raise ValueError(f"{config} describes no network that works ({short(err)}); {mend}") from err


def short(err: Exception) -> str:
    """A library's error in one line, for a message of ours."""
    return f"{type(err).__name__}: {' '.join(str(err).split())[:300]}"


def check_sums(folder, mend: str) -> None:
    """OSError if a file in `folder` is not the one of its SHA256SUMS, which `fvit train` writes; others have none."""
    if wrong := changed(folder):
        raise OSError(f"{', '.join(wrong)} is not what {SUMS} beside it says: damaged, or edited by hand; {mend}")


def weights_mend(folder) -> str:
    """What to do about broken weights in `folder`: restore or retrain those of the package, copy others again."""
    folder, ours = Path(folder).resolve(), paths.WEIGHTS.resolve()
    if ours not in folder.parents:
        return "copy the file again from where it came"
    data, _, what = folder.name.rpartition("-")  # as of paths.shipped
    command = f"fvit train {what}{data and ' --data '}{data}"
    inside = folder.relative_to(ours.parents[1]).as_posix()
    return f"restore it with `git checkout -- {inside}`, or retrain with `{command}`"
