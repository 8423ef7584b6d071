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
    twice as far from that of float32 (docs/measurements.md). Answers have the type of the input; gradients flow.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in PRODUCTS or not args[0].is_floating_point():
            return func(*args, **kwargs or {})
        low = [v.bfloat16() if isinstance(v, torch.Tensor) else v for v in args]
        more = {k: v.bfloat16() if isinstance(v, torch.Tensor) else v for k, v in (kwargs or {}).items()}
        return func(*low, **more).to(args[0].dtype)


def products(device: str, precision: str | None):
    """Context for network calls on a device ("cpu", "cuda") in "bfloat16"; nothing for "float32" and None.

    ValueError as of `devices.autocast`.
    """
    devices.autocast(device, precision or "float32")  # refuses what it refuses
    return Bfloat16Products() if precision == "bfloat16" else nullcontext()
