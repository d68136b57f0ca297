# SPDX-License-Identifier: Apache-2.0
"""Replaces the function `BlockLinear` in the bytes of an .onnx file, without the package `onnx`.

The function in the file multiplies a graph's 8-bit blocks (see `block_linear`) as integers, which
is fastest for few people. For many, products of 32-bit floats are faster. `with_float_products`
replaces the function's body with a `Gemm` with dequantised weights. ONNX Runtime computes these
weights once, when it loads the graph, from the same bytes, so both variants have the same weights
and a bundle stores them once.

An .onnx file is a protobuf message: a sequence of records (tag, length, content). Only the records
of the outermost message are read; the field numbers are those of onnx.proto (ONNX 1.16 to 1.21).
"""

from __future__ import annotations

from collections.abc import Iterator

from key2mesh_core.errors import EngineError

BLOCK = 64
DOMAIN, NAME = "key2mesh", "BlockLinear"
OPSET = 21  # the first opset whose DequantizeLinear supports blocks

_FUNCTIONS = 25  # ModelProto.functions
_INT = 2  # AttributeProto.AttributeType.INT


def with_float_products(graph: bytes) -> bytes | None:
    """The same file with products of 32-bit floats; None if it has no BlockLinear.

    Raises:
        EngineError: the bytes are not a protobuf message.
    """
    name, domain = _record(1, NAME.encode()), _record(10, DOMAIN.encode())
    kept, found = [], False
    for number, record, content in _records(graph):
        if number == _FUNCTIONS and name in content and domain in content:
            found = True
            record = _record(_FUNCTIONS, _float_function())
        kept.append(record)
    return b"".join(kept) if found else None


def _float_function() -> bytes:
    """FunctionProto: y = Gemm(x, DequantizeLinear(blocks, scales), bias)."""
    inputs = ("x", "blocks", "scales", "bias")
    dequantise = _node(
        "DequantizeLinear", ("blocks", "scales"), "weight", {"axis": 0, "block_size": BLOCK}
    )
    return b"".join(
        (
            _record(1, NAME.encode()),
            *(_record(4, each.encode()) for each in inputs),
            _record(5, b"y"),
            _record(7, dequantise),
            _record(7, _node("Gemm", ("x", "weight", "bias"), "y", {})),
            _record(9, _record(1, b"") + _number(2, OPSET)),
            _record(10, DOMAIN.encode()),
        )
    )


def _node(kind: str, inputs: tuple[str, ...], output: str, attributes: dict[str, int]) -> bytes:
    parts = [_record(1, each.encode()) for each in inputs]
    parts += [_record(2, output.encode()), _record(4, kind.encode())]
    for name, value in attributes.items():
        content = _record(1, name.encode()) + _number(3, value) + _number(20, _INT)
        parts.append(_record(5, content))
    return b"".join(parts)


# Protobuf: a tag is 8 * number + kind; kind 0 is an integer, 2 a length and that many bytes.


def _records(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, whole record, and content (empty if not of kind 2) of each record of a message."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_integer(message, at)
        content = b""
        if tag & 7 == 2:
            size, at = _read_integer(message, at)
            content = message[at : at + size]
            at += size
        elif tag & 7 == 0:
            _, at = _read_integer(message, at)
        else:
            at = len(message) + 1  # ModelProto uses no other kinds
        if at > len(message):
            raise EngineError("the graph is damaged: copy or export it again")
        yield tag >> 3, message[start:at], content


def _read_integer(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise EngineError("the graph is damaged: copy or export it again")


def _integer(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _number(number: int, value: int) -> bytes:
    return _integer(number << 3) + _integer(value)


def _record(number: int, content: bytes) -> bytes:
    return _integer(number << 3 | 2) + _integer(len(content)) + content
