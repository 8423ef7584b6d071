"""When memory runs out: half as many images at a time, and on."""

import functools
import sys

import torch

SAID = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # by CUDA, the CPU and cuBLAS


def in_memory(run, sized):
    """`run()`; each time that memory runs out, once more with half of `sized.batch_size`, which stays halved.

    run     callable without arguments that takes `sized.batch_size` images at a time, and can be repeated: streams are
            named by image and draw, so the batch changes what it gives by float32 rounding at most
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
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def halving(method):
    """The method of an object with `batch_size`, `in_memory`."""
    @functools.wraps(method)
    def called(self, *args, **options):
        return in_memory(functools.partial(method, self, *args, **options), self)
    return called
