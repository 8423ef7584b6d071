"""How much memory a call takes; and when it runs out: half as many images at a time, and on."""

import functools
import sys

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fvit.base import devices

SAID = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # by CUDA, the CPU and cuBLAS


def in_memory(run, sized):
    """`run()`; each time that memory runs out, once more with half of `sized.batch_size`, which stays halved.

    run     callable without arguments that takes `sized.batch_size` images at a time, and can be repeated
    sized   object with `batch_size`; None: there is nothing to halve

    Raises what `run` raised where that was no want of memory, or one image at a time is too much.
    """
    while True:
        try:
            return run()
        except RuntimeError as error:
            if not any(said in str(error) for said in SAID) or getattr(sized, "batch_size", 1) == 1:
                raise
        # Out of the except clause: while the error lives, so do the frames and tensors of the failed call.
        sized.batch_size //= 2
        print(f"memory ran out; on with {sized.batch_size} images at a time", file=sys.stderr, flush=True)
        devices.free()


def halving(method):
    """The method of an object with `batch_size`, `in_memory`."""
    @functools.wraps(method)
    def called(self, *args, **options):
        return in_memory(functools.partial(method, self, *args, **options), self)
    return called


def peak_bytes(call) -> int:
    """Most bytes that tensors made by `call()` take at once: on a GPU as its allocator counts, else by following each.

    Tensors that are there before, and what a kernel needs inside, do not count: CPUs all give the same number.
    """
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    with _Followed() as followed:
        call()
    return followed.peak


class _Followed(TorchDispatchMode):
    """Sees every operation; knows the storages that operations made and that still live."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {_storage(leaf) for leaf in tree_leaves((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and _storage(leaf) not in before:  # no view, and nothing done in place
                storage = leaf.untyped_storage()
                self.alive[_storage(leaf)] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


def _storage(leaf):
    return leaf.untyped_storage()._cdata if isinstance(leaf, torch.Tensor) else None
