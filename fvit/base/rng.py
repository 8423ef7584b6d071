"""Named random streams: a draw depends on what it is for, never on batch size, order or what was drawn before."""

import hashlib
import json

import numpy as np

from fvit.base.checks import as_integer, check_seed


def stream_seed(seed: int, *purpose: str | int) -> int:
    """64-bit seed of the stream `purpose` under the root `seed`, the same on every machine.

    purpose   names and indices, e.g. ("noise", image_id, draw); the text "1" and the number 1 are different streams
    returns   int in [0, 2**64): the first eight bytes of sha256 over the canonical JSON of [seed, *purpose]

    Raises ValueError if the seed is not an integer or a purpose is neither text nor an integer.
    """
    names = [str(item) if isinstance(item, str) else as_integer(item) for item in purpose]
    if None in names:  # a float would name its stream by its rounding
        item = purpose[names.index(None)]
        raise ValueError(f"purpose {item!r} is a {type(item).__name__}, wanted text or an integer")
    key = json.dumps([check_seed(seed), *names])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """NumPy generator (PCG64) of the stream `purpose`; see `stream_seed`."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *purpose)))


def generator(seed: int, *purpose: str | int):
    """torch.Generator on the CPU for the stream `purpose`; draw on the CPU, then move to the device.

    Note: torch's CPU generator keeps only 32 bits of its seed, so of 100,000 streams a pair is likely to coincide.
    Noise, of which there are many draws, comes from `normal`, which keeps all 64.
    """
    import torch  # late, so that the floors without torch can use numpy_generator

    return torch.Generator().manual_seed(stream_seed(seed, *purpose))


def normal(shape, seed: int, *purpose: str | int, dtype=None):
    """Standard normal tensor `shape` on the CPU from the stream `purpose`; float32 unless `dtype` says otherwise.

    Drawn in float64 and rounded, so float32 and float64 runs see the same noise.
    """
    import torch

    dtype = torch.float32 if dtype is None else dtype
    if not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype}, wanted a floating-point one of torch, such as torch.float64")
    return torch.from_numpy(np.asarray(numpy_generator(seed, *purpose).standard_normal(shape))).to(dtype)
