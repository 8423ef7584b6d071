"""Odd arguments by the thousand, and what may come of them: a right answer, or a refusal in fvit's own words."""

import dataclasses
import linecache
import math
import os
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fvit.paths import PACKAGE

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"  # `make test-properties`; else a short form, the same each time
REFUSED = object()


def inputs(short: int) -> settings:
    """Settings of a property: so many inputs, or 20 times as many, chosen anew, in the full form."""
    return settings(max_examples=20 * short if FULL else short, derandomize=not FULL, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))


def outcome(call, *args, refusals=(ValueError,), **options):
    """The answer of `call`, or REFUSED; all else fails: other exceptions, warnings, another's words."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return call(*args, **options)
        except refusals as error:
            assert is_ours(error), f"{type(error).__name__} in another's words: {error}"
            return REFUSED


def is_ours(error) -> bool:
    """Whether an error was raised by a line of fvit, and not by what it called."""
    at = error.__traceback__
    while at.tb_next is not None:
        at = at.tb_next
    path = at.tb_frame.f_code.co_filename
    line = linecache.getline(path, at.tb_lineno)
    return str(PACKAGE) in path and line.lstrip().startswith("raise") and bool(str(error))


def has_nan(answer) -> bool:
    """Whether there is a NaN anywhere in an answer."""
    if isinstance(answer, torch.Tensor):
        return bool(answer.isnan().any())
    if isinstance(answer, np.ndarray | pd.DataFrame):
        numbers = answer.select_dtypes("number") if isinstance(answer, pd.DataFrame) else answer
        return numbers.dtype.kind == "f" and bool(np.isnan(numbers).any()) if isinstance(answer, np.ndarray) else bool(
            numbers.isna().any(axis=None))
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return any(has_nan(value) for value in vars(answer).values())
    if isinstance(answer, dict):
        return any(has_nan(value) for value in answer.values())
    if isinstance(answer, list | tuple):
        return any(has_nan(value) for value in answer)
    return isinstance(answer, float) and math.isnan(answer)


# odd values: made anew for each input, in case somebody changes them --------------------------------------------------

NUMBERS = [0, -1, 1, 2, 3, 0.5, 1.5, -0.0, 1e-300, 5e-324, 1e300, -1e300, math.nan, math.inf, -math.inf, 10**400,
           2**63, True, 1j, Fraction(1, 3), Decimal("0.5"), np.float16(0.5), np.float32(0.1), np.int8(2), np.uint64(3),
           np.bool_(True), np.complex64(1j), np.float64("nan"), np.datetime64("2024-01-01")]
TEXTS = ["", " ", "0.8", "2/3", "1/0", "1e-999999999", "nan", "l2", "linf", "vta", "rollout", "votes", "clean", "F03",
         "laptop", "../../x", "/etc/passwd", "..", "~", "hf-hub:../../x", "local-dir:.", "a/b", "a\0b", "\ud800", "é",
         "x" * 300, "１", "²", "P1.²", "\r", "\u202e", "{}", "*", "%s", b"bytes"]
OBJECTS = [lambda: None, object, list, tuple, dict, set, lambda: [None], lambda: [[1, 2], [3]], lambda: [1, "a"],
           lambda: ["a", "b"], lambda: ["a", "a"], lambda: [0, 1], lambda: {"a": 1}, lambda: range(2),
           lambda: iter([0, 1]),
           lambda: (lambda *a: None), lambda: (lambda *a: a[0]), lambda: (lambda *a: a[0].flatten(1).sum(1)),
           lambda: np.array(["a", "b"]),
           lambda: np.array([None, 1]), lambda: np.array([0.5, 0.5]), lambda: np.array(0.5), lambda: pd.Series([1, 2]),
           lambda: pd.DataFrame({"a": [1]}), lambda: int, lambda: torch.float32, lambda: Path("/dev/null"),
           lambda: slice(3),
           lambda: torch.nn.Identity(), lambda: np.array([[0.5, 0.5], [1, 0]])]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16,
          torch.int32,
          torch.int64, torch.bool, torch.complex64, torch.uint16, torch.uint64, torch.float8_e4m3fn]
SHAPES = [(), (0,), (1,), (2,), (3,), (11,), (2, 11), (1, 4), (2, 4), (2, 0), (2, 2, 2), (1, 2, 2), (2, 16, 16),
          (0, 2, 2),
          (3, 16, 16), (2, 3, 16, 16), (1, 3, 16, 16), (0, 3, 16, 16), (2, 1, 16, 16), (2, 3, 0, 0), (2, 3, 17, 16),
          (2, 16, 16, 3), (2, 2, 16, 16), (2, 3, 16, 16, 1)]
HUGE = [(1, 3, 10**6, 10**6), (10**6, 10**6), (10**5, 10**4, 10**4)]  # as views of one number: no memory is taken


@st.composite
def tensors(draw):
    """Tensors and arrays of any shape, dtype and layout, with numbers of any size."""
    shape, dtype, seed = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES)), draw(st.integers(0, 3))
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    low, high = draw(st.sampled_from([(0, 1), (0, 1), (0, 1), (0, 5), (-1, 1), (0, 255), (-3e38, 3e38), (0.5, 0.5)]))
    x = low * (1 - x) + high * x  # no overflow on the way
    bad = draw(st.sampled_from([None, None, None, math.nan, math.inf, -math.inf]))
    if bad is not None and x.numel():
        x.view(-1)[-1] = bad
    if not dtype.is_floating_point and not dtype.is_complex:
        x = x.nan_to_num(0, 1, 0).clamp(-100, 250)
    x = x.to(dtype)
    form = draw(st.sampled_from(FORMS))
    return form(x)


def _array(x):
    return x.numpy() if x.dtype not in (torch.bfloat16, torch.float8_e4m3fn) else x.float().numpy()


def _read_only(x):
    array = _array(x).copy()
    array.flags.writeable = False
    return array


FORMS = [lambda x: x, lambda x: x, lambda x: x.transpose(0, -1).contiguous().transpose(0, -1) if x.ndim else x,
         lambda x: x[:1].expand(x.shape) if x.ndim else x, lambda x: x.to("meta"),
         lambda x: x.to_sparse() if x.is_floating_point() and x.dtype.itemsize > 1 and x.ndim else x, _array,
         _read_only,
         lambda x: np.flip(_array(x)) if x.ndim else _array(x),
         lambda x: _array(x).astype(_array(x).dtype.newbyteorder(">")),
         lambda x: _array(x).tolist(), lambda x: x.requires_grad_() if x.is_floating_point() else x,
         lambda x: _array(x).astype(object)]


def numbers():
    return st.sampled_from(NUMBERS)


def odd():
    """Anything at all."""
    return st.one_of(numbers(), st.sampled_from(TEXTS), st.sampled_from(OBJECTS).map(lambda make: make()), tensors(),
                     st.text(max_size=5), st.floats(), st.integers())
