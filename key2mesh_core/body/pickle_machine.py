# SPDX-License-Identifier: Apache-2.0
"""Reads the structure of a pickle as inert data: nothing is imported, called or executed.

Python's own unpickler calls whatever the file names. This one walks the opcodes and keeps what it
meets as records: "an object of this class with this state". Names are checked against a list when
they are met, so that a hostile file is refused by the name of what it wanted to run.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass

from key2mesh_core.errors import BodyFileError


@dataclass(frozen=True)
class Name:
    """Something the file refers to by module and name; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object as the file describes it: what would build it, from what, and its state."""

    maker: Name
    arguments: tuple
    state: object = None


class _Mark:
    """Where a group of items begins on the stack."""


_EMPTY = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_IGNORED = {"PROTO", "FRAME", "STOP"}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}


def read_structure(content: bytes, allowed: Callable[[Name], bool]) -> object:
    """What the pickle `content` describes, out of literals, containers and `Record`s.

    Strings of Python 2 come as str, one character a byte (latin1). Sets come as lists.

    Raises:
        BodyFileError: a name that is not `allowed`, an opcode that no body needs, or damage.
    """
    machine = _Machine(allowed)
    try:
        for opcode, argument, position in pickletools.genops(io.BytesIO(content)):
            try:
                machine.step(opcode.name, argument)
            except (IndexError, KeyError, TypeError) as error:
                raise BodyFileError(
                    f"damaged at byte {position} ({opcode.name} has nothing to work on)"
                ) from error
    except (ValueError, OverflowError, MemoryError) as error:
        raise BodyFileError(f"damaged or truncated ({error})") from error
    if len(machine.stack) != 1:
        raise BodyFileError(f"damaged: {len(machine.stack)} objects where one was expected")
    return machine.stack[0]


class _Machine:
    """The unpickler's stack and memo."""

    def __init__(self, allowed: Callable[[Name], bool]) -> None:
        self.allowed = allowed
        self.stack: list = []
        self.memo: dict[int, object] = {}

    def step(self, code: str, argument: object) -> None:
        """Executes one opcode on the stack."""
        stack = self.stack
        if code in _LITERALS:
            stack.append(argument)
        elif code in _EMPTY:
            stack.append(_EMPTY[code]())
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _IGNORED:
            pass
        elif code == "MARK":
            stack.append(_Mark)
        elif code in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif code in ("POP", "POP_MARK"):
            self._since_mark() if code == "POP_MARK" else stack.pop()
        elif code == "DUP":
            stack.append(stack[-1])
        elif code.startswith("TUPLE"):
            count = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}.get(code)
            items = self._since_mark() if count is None else self._last(count)
            stack.append(tuple(items))
        elif code in ("LIST", "FROZENSET"):
            stack.append(self._since_mark())
        elif code == "DICT":
            stack.append(_pairs(self._since_mark()))
        elif code in ("APPEND", "APPENDS", "ADDITEMS"):
            items = self._last(1) if code == "APPEND" else self._since_mark()
            _expect(stack[-1], list).extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            items = self._last(2) if code == "SETITEM" else self._since_mark()
            _expect(stack[-1], dict).update(_pairs(items))
        else:
            self._object_step(code, argument)

    def _object_step(self, code: str, argument: object) -> None:
        if code in ("GLOBAL", "STACK_GLOBAL"):
            if code == "GLOBAL":
                module, _, name = str(argument).partition(" ")
            else:
                module, name = (_expect(part, str) for part in self._last(2))
            self.stack.append(self._check(Name(module, name)))
        elif code in ("REDUCE", "NEWOBJ"):
            maker, arguments = self._last(2)
            self.stack.append(Record(_expect(maker, Name), _expect(arguments, tuple)))
        elif code == "BUILD":
            state = self.stack.pop()
            _expect(self.stack[-1], Record).state = state
        elif code == "INST":
            self._check(Name(*str(argument).split(" ", 1)))
            raise BodyFileError("refused: holds objects of Python's oldest kind (INST)")
        else:
            raise BodyFileError(f"refused: the pickle instruction {code} is needed by no body")

    def _check(self, name: Name) -> Name:
        if not self.allowed(name):
            raise BodyFileError(
                f"refused: loading it would run or build {str(name)[:100]!r}, which is no part of "
                "a body; nothing was executed. Such a file may be malicious: get the body from its "
                "publisher, or save its arrays as .npz"
            )
        return name

    def _last(self, count: int) -> list:
        if len(self.stack) < count:
            raise IndexError(count)
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _since_mark(self) -> list:
        start = len(self.stack) - 1
        while self.stack[start] is not _Mark:
            start -= 1
            if start < 0:
                raise IndexError("no mark")
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items


def _pairs(items: list) -> dict:
    if len(items) % 2:
        raise IndexError("odd number of keys and values")
    # Only text keys matter to a body. Others, hashable or not, are left out.
    keys_and_values = zip(items[::2], items[1::2], strict=True)
    return {key: value for key, value in keys_and_values if isinstance(key, str)}


def _expect(value: object, kind: type) -> object:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} was expected")
    return value
