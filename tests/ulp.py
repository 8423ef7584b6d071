"""A pytest plugin, another processor in small: `make test-ulp` runs the tests in which networks compute with it.

Kernels choose their order of sums by shape, layout and whether gradients are wanted, and choose otherwise on every
processor. Here each result of such a kernel is off by up to two units in the last place, by an amount that depends on
just these: equal calls stay equal to the bit, unlike ones do not. A test that fails asked for more than is promised.
"""

import zlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

KERNELS = {  # those that add up; what is computed element by element comes out alike
    "mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "_softmax", "_log_softmax",
    "_softmax_backward_data", "_log_softmax_backward_data", "native_layer_norm", "native_layer_norm_backward",
    "native_group_norm", "native_group_norm_backward", "sum", "mean", "var_mean", "linalg_vector_norm", "cumsum",
    "_adaptive_avg_pool2d", "avg_pool2d", "upsample_bilinear2d", "_upsample_bilinear2d_aa",
    "_scaled_dot_product_flash_attention_for_cpu"}


class Another(TorchDispatchMode):
    """Also in the backward pass, which runs below the mode as the forward pass does."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ not in KERNELS:
            return out
        tensors = [t for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)]
        if all(torch.equal(1024 * t, (1024 * t).round()) for t in tensors):  # their sums are exact in any order
            return out
        seen = [(tuple(t.shape), t.stride(), str(t.dtype)) for t in tensors]
        ulps = zlib.crc32(repr((str(func), torch.is_grad_enabled(), seen)).encode()) % 5 - 2
        return tree_map(lambda t: t + t * (ulps * torch.finfo(t.dtype).eps)
                        if torch.is_tensor(t) and t.is_floating_point() and t.layout == torch.strided else t, out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    with Another():
        return (yield)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.name == "test_the_real_pipeline_does_too":
            item.add_marker(pytest.mark.skip(reason="wants the bits of workers, processes in which this plugin is not"))
