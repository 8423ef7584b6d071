"""Products with weights in bfloat16: where the time of a network goes, and where eight bits of a factor suffice."""

from contextlib import nullcontext

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fvit.base import devices

PRODUCTS = (F.linear, F.conv2d)


class Bfloat16Products(TorchFunctionMode):
    """Context of this thread in which linear layers and convolutions multiply in bfloat16; sums are kept in float32.

    Attention, its softmax and normalisations stay as they are, unlike under torch.autocast, whose map of a draw is
    twice as far from that of float32 (docs/measurements.md). So do layers that are one call of torch, such as
    nn.MultiheadAttention. Answers have the type of the input; gradients flow.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        x = args[0] if args else kwargs.get("input")
        if func not in PRODUCTS or not x.is_floating_point():
            return func(*args, **kwargs)
        return func(*map(_low, args), **{name: _low(value) for name, value in kwargs.items()}).to(x.dtype)


def _low(value):
    return value.bfloat16() if isinstance(value, torch.Tensor) else value


def products(device: str, precision: str | None):
    """Context for network calls on a device ("cpu", "cuda") in "bfloat16"; nothing for "float32" and None.

    ValueError as of `devices.autocast`.
    """
    devices.autocast(device, precision or "float32")  # refuses what it refuses
    return Bfloat16Products() if precision == "bfloat16" else nullcontext()
