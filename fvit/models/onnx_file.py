"""The weights and layers of an ONNX file, read without the package onnx: a file of protobuf messages (onnx.proto)."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

GRAPH = 7  # numbers of fields: of ModelProto; then of GraphProto, NodeProto and TensorProto
NODE, INITIALIZER = 1, 5
INPUT, NODE_NAME = 1, 3
DIMS, DATA_TYPE, FLOATS, TENSOR_NAME, RAW, EXTERNAL = 1, 2, 4, 8, 9, 13
FLOAT32 = 1  # of TensorProto.DataType


class Layer(NamedTuple):
    """A node of the graph: its name, and the names of what goes into it."""

    name: str
    inputs: list[str]


def read(path: Path) -> tuple[dict[str, np.ndarray], list[Layer]]:
    """The float32 tensors of a file by name, and its layers in their order; other tensors are left out.

    Raises OSError for a file that is absent, truncated or none of ONNX, ValueError for weights outside of it.
    """
    try:
        data = memoryview(path.read_bytes())
        graphs = [value for field, value in _fields(data) if field == GRAPH]
        graph = list(_fields(graphs[0]))
        tensors = dict(_tensor(value) for field, value in graph if field == INITIALIZER)
        layers = [_layer(value) for field, value in graph if field == NODE]
    except (IndexError, TypeError, UnicodeDecodeError) as err:
        raise OSError(f"{path} is truncated or no ONNX file ({type(err).__name__}); get it again") from err
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    return {name: value for name, value in tensors.items() if value is not None}, layers


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a message: whole numbers, or bytes; IndexError where it ends too soon."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(message, at)
        else:
            length, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _number(message, at)
            if kind not in (1, 2, 5) or at + length > len(message):
                raise IndexError
            value, at = message[at:at + length], at + length
        yield key >> 3, value


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A varint, seven bits a byte from the lowest on, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at, value = at + 1, value | (byte & 127) << shift
        if byte < 128:
            return value, at
    raise IndexError


def _layer(message: memoryview) -> Layer:
    fields = list(_fields(message))
    name = next((str(value, "utf-8") for field, value in fields if field == NODE_NAME), "")
    return Layer(name, [str(value, "utf-8") for field, value in fields if field == INPUT])


def _tensor(message: memoryview) -> tuple[str, np.ndarray | None]:
    fields = list(_fields(message))
    of = dict(fields)
    name = str(of.get(TENSOR_NAME, b""), "utf-8")
    if EXTERNAL in of:
        raise ValueError(f"the weights {name} lie in another file, wanted all in one")
    if of.get(DATA_TYPE) != FLOAT32:
        return name, None
    shape = [size for field, value in fields if field == DIMS
             for size in ([value] if isinstance(value, int) else _numbers(value))]
    values = np.frombuffer(of.get(RAW, of.get(FLOATS, b"")), dtype="<f4")
    if values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{name} has {values.size} numbers, wanted {shape}")
    return name, values.reshape(shape)


def _numbers(packed: memoryview) -> list[int]:
    at, found = 0, []
    while at < len(packed):
        value, at = _number(packed, at)
        found.append(value)
    return found
