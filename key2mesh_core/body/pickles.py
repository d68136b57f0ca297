# SPDX-License-Identifier: Apache-2.0
"""Reads pickled arrays without executing anything: SMPL's downloads, AIST++, 3DPW, EMDB.

Python's unpickler calls what the file names. Here every name becomes an inert stand-in that records
its arguments, and any name that does not belong to an array is refused. numpy arrays, scipy.sparse
matrices and chumpy objects (which wrap arrays in SMPL's files, written by Python 2) are then
rebuilt from the recorded data, after a check that the bytes match the shape.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import BodyFileError

MAX_FILE_BYTES = 1 << 30
"""Official files have 40 to 250 MB."""

MAX_STEPS = 50_000
"""Limit of pickle instructions; official files have hundreds. More could nest objects so deeply
that Python's own unlimited recursion crashes."""

_MAX_DENSE = 64_000_000
"""Largest number of entries of an expanded sparse matrix."""

_MAX_DEPTH = 8
_SPARSE = ("csc_matrix", "csr_matrix", "csc_array", "csr_array")
_NUMBERS = {*(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8", "b1"}
_NAMES = {
    *(f"{m}.{n}" for m in ("__builtin__", "builtins") for n in ("object", "set", "bytes")),
    *(f"numpy.{m}.multiarray.{n}" for m in ("core", "_core") for n in ("_reconstruct", "scalar")),
    *(f"numpy.{m}.numeric._frombuffer" for m in ("core", "_core")),
    *(
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "numpy.ndarray",
        "numpy.dtype",
        "_codecs.encode",
    ),
}


def read_pickle(path: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Arrays, numbers and texts in a pickled dictionary, and lists and dictionaries of those.

    Python 2 strings become str, one character per byte (latin1).

    Args:
        path: the file.
        keys: entries to read; () for all. Other entries and other types are left out (None in a
            list).

    Raises:
        BodyFileError: the file is damaged, or names anything that is not an array. Nothing is
            executed.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BodyFileError(f"{size} bytes is larger than any known file of arrays")
        content = _load(path.read_bytes())
        if not isinstance(content, dict):
            raise BodyFileError("contains no dictionary of arrays")
        return {
            key: value
            for key, entry in content.items()
            if isinstance(key, str)
            and (not keys or key in keys)
            and (value := _plain(key, entry, {})) is not None
        }
    except OSError as error:
        raise BodyFileError(f"{path}: cannot be read ({error})") from error
    except BodyFileError as error:
        raise BodyFileError(f"{path}: {error}") from error


def read_pickled_npz(path: Path, key: str) -> dict[str, Any]:
    """The dictionary of arrays that an .npz file holds as a pickled object (VideoPose3D's files).

    Raises:
        BodyFileError: the file is damaged, has no such dictionary, or names anything that is not an
            array. Nothing is executed.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as stream:
            if archive.getinfo(f"{key}.npy").file_size > MAX_FILE_BYTES:
                raise BodyFileError(f"{key} is larger than any known file of arrays")
            shape, dtype = npy_header(stream)
            if shape != () or dtype.kind != "O":
                raise BodyFileError(f"{key} is {dtype} of shape {shape}, not a pickled dictionary")
            content = _load(stream.read())
        state = content.state if isinstance(content, _StandIn) else None
        values = state[-1] if isinstance(state, tuple) and state else None
        if not (isinstance(values, list) and len(values) == 1 and isinstance(values[0], dict)):
            raise BodyFileError(f"{key} contains no dictionary of arrays")
        return _plain(key, values[0], {})
    except BodyFileError as error:
        raise BodyFileError(f"{path}: {error}") from error
    except Exception as error:  # damage makes numpy raise nearly anything
        raise BodyFileError(f"{path}: cannot be read as an .npz with {key!r} ({error})") from error


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array from its .npy header; leaves the stream at its content."""
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(stream)]
    shape, _, dtype = read(stream)
    return shape, dtype


class _StandIn:
    """An object as described by the file: `kind` names what would build it."""

    __slots__ = ("arguments", "state")
    kind = ""

    def __new__(cls, *arguments: Any) -> _StandIn:
        made = object.__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_StandIn]:
        """A stand-in for `module.name`, which is never imported."""
        kind = f"{module}.{name}"
        chumpy = module.split(".")[0] == "chumpy" and name.isidentifier()
        sparse = module.startswith("scipy.sparse") and name in _SPARSE
        if not (chumpy or sparse or kind in _NAMES):
            raise BodyFileError(
                f"refused: loading it would run or build {kind[:100]!r}, which is not an array; "
                "nothing was executed. Such a file may be malicious: get it from its publisher, or "
                "save its arrays as .npz"
            )
        return type("StandIn", (_StandIn,), {"__slots__": (), "kind": kind})


def _load(content: bytes) -> Any:
    try:
        _check_steps(content)
        return _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except BodyFileError:
        raise
    except Exception as error:  # a corrupted pickle makes Python raise nearly anything
        raise BodyFileError(f"damaged or truncated ({error})") from error


def _check_steps(content: bytes) -> None:
    """Refuses what could make Python's unpickler crash or allocate too much: lengths beyond the end
    (which `genops` refuses), large memo indices, unlimited nesting, and the extension registry."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name.startswith("EXT"):
            raise BodyFileError(f"refused: no array needs the pickle instruction {opcode.name}")
        if count > MAX_STEPS or (opcode.name.endswith("PUT") and int(argument) > count):
            raise BodyFileError("refused: its structure matches no known file of arrays")


def _plain(key: str, entry: Any, known: dict[int, Any], depth: int = 0) -> Any:
    """The value that `entry` describes; `known` caches built values, to which the file may refer
    many times."""
    if depth > _MAX_DEPTH:
        raise BodyFileError(f"{key}: arrays are nested without end")
    if isinstance(entry, str | int | float):
        return entry
    if id(entry) not in known:
        below = depth + 1
        match entry:
            case list() | tuple():
                known[id(entry)] = [_plain(key, each, known, below) for each in entry]
            case dict():
                known[id(entry)] = {
                    name: _plain(key, each, known, below)
                    for name, each in entry.items()
                    if isinstance(name, str)
                }
            case _StandIn():
                known[id(entry)] = _array_of(key, entry, known, below)
            case _:
                known[id(entry)] = None
    return known[id(entry)]


def _array_of(key: str, entry: _StandIn, known: dict[int, Any], depth: int) -> NDArray | None:
    kind, state = entry.kind, entry.state
    if kind.endswith(("._reconstructor", "._reconstruct")) and entry.arguments:
        kind = getattr(entry.arguments[0], "kind", kind)
    name = kind.rpartition(".")[2]
    parts = state if isinstance(state, dict) else {}
    if name in _SPARSE:
        return _dense(key, name, {n: _plain(key, parts.get(n), known, depth) for n in parts})
    if kind.startswith("chumpy."):
        if "x" in parts:  # a stored array
            return _plain(key, parts["x"], known, depth)
        if name == "Select":
            source, picks = (_plain(key, parts.get(n), known, depth) for n in ("a", "idxs"))
            return _picked(key, source, picks, parts.get("preferred_shape"))
        return None  # computed from others, such as SMPL's J, which is recomputed here
    arguments = (*entry.arguments, None, None, None, None)
    if name == "_frombuffer":
        return _array(key, arguments[2], arguments[1], arguments[3] == "F", arguments[0])
    if name == "scalar":
        return _array(key, (), arguments[0], False, arguments[1])
    if name != "ndarray":
        return None
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise BodyFileError(f"{key}: array without content")
    return _array(key, *state[-4:])


def _array(key: str, shape: Any, dtype: Any, fortran: Any, content: Any) -> NDArray:
    kind, content = _dtype(key, dtype), _bytes(key, content)
    if len(content) != _count(key, shape) * kind.itemsize:
        raise BodyFileError(
            f"{key}: an array of shape {shape} and {kind} does not match its {len(content)} bytes"
        )
    return np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")


def _count(key: str, shape: Any) -> int:
    good = isinstance(shape, tuple) and len(shape) <= 4
    if not good or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise BodyFileError(f"{key}: array with an invalid shape")
    return math.prod(shape)


def _bytes(key: str, content: Any) -> bytes:
    if isinstance(content, _StandIn):  # how Python 3 pickles bytes for Python 2
        encoded = content.kind == "_codecs.encode" and content.arguments[1:] == ("latin1",)
        empty = content.kind.endswith(".bytes") and not content.arguments
        content = content.arguments[0] if encoded else b"" if empty else None
    if isinstance(content, str) and all(sign < "\u0100" for sign in set(content)):
        return content.encode("latin1")
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    raise BodyFileError(f"{key}: contains Python objects instead of numbers")


def _dtype(key: str, dtype: Any) -> np.dtype:
    known = isinstance(dtype, _StandIn) and dtype.kind == "numpy.dtype" and dtype.arguments
    text = dtype.arguments[0] if known else None
    if not isinstance(text, str) or text.lstrip("<>|=") not in _NUMBERS:
        raise BodyFileError(f"{key}: an array of {text!r}, not of numbers")
    big = isinstance(dtype.state, tuple) and dtype.state[1:2] == (">",)
    return np.dtype(text.lstrip("<>|=")).newbyteorder(">" if big else "<")


def _picked(key: str, source: Any, picks: Any, shape: Any) -> NDArray:
    """A chumpy selection: some entries of another array."""
    arrays = isinstance(source, np.ndarray) and isinstance(picks, np.ndarray) and picks.size
    if (
        not arrays
        or picks.dtype.kind not in "iu"
        or not 0 <= picks.min() <= picks.max() < source.size
    ):
        raise BodyFileError(f"{key}: a chumpy selection with an index outside its array")
    picked = source.ravel()[picks.ravel()]
    if isinstance(shape, tuple) and _count(key, shape) == picked.size:
        return picked.reshape(shape)
    return picked


def _dense(key: str, name: str, parts: dict[str, Any]) -> NDArray:
    """A compressed sparse matrix, expanded."""
    shape = tuple(parts.get("_shape") or parts.get("shape") or ())
    if len(shape) != 2 or _count(key, shape) > _MAX_DENSE:
        raise BodyFileError(f"{key}: a sparse matrix of shape {shape} cannot belong to a body")
    arrays = [parts.get(part) for part in ("data", "indices", "indptr")]
    if not all(isinstance(each, np.ndarray) and each.ndim == 1 for each in arrays):
        raise BodyFileError(f"{key}: a sparse matrix without data, indices or indptr")
    from scipy import sparse

    try:
        kind = sparse.csc_matrix if name.startswith("csc") else sparse.csr_matrix
        matrix = kind(tuple(arrays), shape=shape, dtype=np.float64)
        matrix.check_format(full_check=True)
        if np.any(np.diff(matrix.indptr) < 0):  # unchecked above if the last one is 0
            raise ValueError("indptr descends")
    except (TypeError, ValueError) as error:
        raise BodyFileError(
            f"{key}: a sparse matrix whose indices do not fit its shape {shape} ({error})"
        ) from error
    return matrix.toarray()
