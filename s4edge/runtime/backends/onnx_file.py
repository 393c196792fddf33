"""What a graph's file is made of, looked at before onnxruntime takes it for a program.

No graph of s4edge's loops on its own account, reads other files or brings functions; a file that
does could run without end or fill the memory while it is loaded. Only the outline is read: the
fields of ``onnx.proto`` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_INPUT, _OP, _ATTRIBUTE, _DOMAIN = 1, 4, 5, 7
_TENSOR, _SUBGRAPH = 5, 6
_TYPE, _INTEGERS, _NAME, _RAW, _LOCATION = 2, 7, 8, 9, 14
_INT64 = 7
_REFUSED = frozenset({"If", "Loop", "SequenceMap"})
# Operators that make as much as an input says, and which one.
_MAKERS = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Range": 1, "OneHot": 1, "Pad": 1}
_MOST_NUMBERS = 1 << 26
_DEEPEST = 8


class _NoGraphError(Exception):
    """The bytes are no message: onnxruntime says it better."""


def find_trouble(path: Path) -> str | None:
    """Why a graph is not loaded; None where nothing speaks against it, or it is no graph.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return _of_model(memoryview(path.read_bytes()))
    except _NoGraphError:
        return None


def _of_model(view: memoryview) -> str | None:
    for number, value in _fields(view):
        if number == _FUNCTIONS:
            return "it has functions of its own"
        if number == _GRAPH:
            found = _of_graph(_message(value), 0)
            if found is not None:
                return found
    return None


def _of_graph(view: memoryview, depth: int) -> str | None:
    if depth > _DEEPEST:
        return "its graphs are nested"
    sizes: dict[bytes, float] = {}
    nodes = []
    for number, value in _fields(view):
        if number == _SPARSE_INITIALIZER:
            return "it has sparse constants"
        if number == _INITIALIZER:
            name, size, elsewhere = _of_tensor(_message(value))
            if elsewhere:
                return "it has constants in another file"
            sizes[name] = size
        elif number == _NODE:
            nodes.append(_message(value))
    for node in nodes:
        found = _of_node(node, sizes, depth)
        if found is not None:
            return found
    return None


def _of_node(view: memoryview, sizes: dict[bytes, float], depth: int) -> str | None:
    inputs: list[bytes] = []
    kind = domain = b""
    for number, value in _fields(view):
        if number == _INPUT:
            inputs.append(bytes(_message(value)))
        elif number == _OP:
            kind = bytes(_message(value))
        elif number == _DOMAIN:
            domain = bytes(_message(value))
        elif number == _ATTRIBUTE:
            for inner, part in _fields(_message(value)):
                if inner == _TENSOR and _of_tensor(_message(part))[2]:
                    return "it has constants in another file"
                if inner == _SUBGRAPH:
                    found = _of_graph(_message(part), depth + 1)
                    if found is not None:
                        return found
    name = kind.decode("utf-8", "replace")
    if domain not in (b"", b"ai.onnx"):
        return f"its operator {name} is none of ONNX's own"
    if name in _REFUSED:
        return f"its operator {name} is none that s4edge writes"
    place = _MAKERS.get(name)
    if place is not None and len(inputs) > place and sizes.get(inputs[place], 0) > _MOST_NUMBERS:
        return f"its operator {name} makes {sizes[inputs[place]]:.3g} numbers of nothing"
    return None


def _of_tensor(view: memoryview) -> tuple[bytes, float, bool]:
    """Name, the product of its values where they are whole numbers, and whether they are there."""
    name, kind, values = b"", 0, np.empty(0, np.int64)
    elsewhere = False
    for number, value in _fields(view):
        if number == _NAME:
            name = bytes(_message(value))
        elif number == _TYPE:
            kind = value
        elif number == _LOCATION:
            elsewhere = value == 1
        elif number == _RAW and len(_message(value)) <= 64 and len(_message(value)) % 8 == 0:
            values = np.frombuffer(bytes(value), "<i8")
        elif number == _INTEGERS and not isinstance(value, int) and len(value) <= 64:
            values = np.array(list(_numbers(value)), dtype=np.uint64).view(np.int64)
    size = float(np.prod(np.abs(values.astype(float)))) if kind == _INT64 else 0.0
    return name, size, elsewhere


def _numbers(view: memoryview) -> Iterator[int]:
    place = 0
    while place < len(view):
        value, place = _varint(view, place)
        yield value


def _message(value: Any) -> memoryview:
    if isinstance(value, int):
        raise _NoGraphError
    found: memoryview = value
    return found


def _fields(view: memoryview) -> Iterator[tuple[int, Any]]:
    """Numbers of fields, each with a whole number or the bytes that it holds."""
    place = 0
    while place < len(view):
        tag, place = _varint(view, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(view, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, place = _varint(view, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _NoGraphError
        if length > len(view) - place:
            raise _NoGraphError
        yield tag >> 3, view[place : place + length]
        place += length


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if place == len(view):
            break
        byte = view[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1), place
    raise _NoGraphError
