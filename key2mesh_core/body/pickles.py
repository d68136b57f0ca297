# SPDX-License-Identifier: Apache-2.0
"""The pickles of the official SMPL downloads, without chumpy and without running anything.

Those files were written by Python 2. They hold numpy arrays, scipy.sparse matrices and chumpy
objects that wrap arrays; the three are rebuilt here from what the file says of them, each number
of bytes checked against the shape before anything of that size is made.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.pickle_machine import Name, Record, read_structure
from key2mesh_core.errors import BodyFileError

MAX_FILE_BYTES = 1 << 30
"""Official files have 40 to 250 MB."""

_MAX_DENSE = 64_000_000
"""Largest number of entries that a sparse matrix is spread out to."""

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC_MODULES = ("numpy.core.numeric", "numpy._core.numeric")
_RECONSTRUCTORS = (Name("copy_reg", "_reconstructor"), Name("copyreg", "_reconstructor"))
_ENCODE = Name("_codecs", "encode")
_SPARSE_CLASSES = ("csc_matrix", "csr_matrix", "csc_array", "csr_array")

_ALLOWED = {
    *(Name(module, "_reconstruct") for module in _ARRAY_MODULES),
    *(Name(module, "scalar") for module in _ARRAY_MODULES),
    *(Name(module, "_frombuffer") for module in _NUMERIC_MODULES),
    *(Name("numpy", name) for name in ("ndarray", "dtype")),
    *(Name(module, "object") for module in ("__builtin__", "builtins")),
    *(Name(module, "set") for module in ("__builtin__", "builtins")),
    *(Name(module, "bytes") for module in ("__builtin__", "builtins")),
    *_RECONSTRUCTORS,
    _ENCODE,
}


def read_pickle(path: Path, keys: tuple[str, ...] = ()) -> dict[str, object]:
    """Arrays and texts of the dictionary in an SMPL `.pkl` file.

    Args:
        path: the file.
        keys: entries to read; () for all. Other entries, and those that are neither array,
            sparse matrix, chumpy-wrapped array nor text, are left out.

    Raises:
        BodyFileError: damaged, or naming anything that is not an array; nothing is executed.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BodyFileError(f"{path}: {size} bytes is larger than any body file")
        content = read_structure(path.read_bytes(), _is_allowed)
        if not isinstance(content, dict):
            raise BodyFileError("holds no dictionary of arrays, so it is no SMPL body")
        return {
            key: value
            for key, entry in content.items()
            if (not keys or key in keys) and (value := _value(key, entry)) is not None
        }
    except OSError as error:
        raise BodyFileError(f"{path}: cannot be read ({error})") from error
    except BodyFileError as error:
        if str(error).startswith(str(path)):
            raise
        raise BodyFileError(f"{path}: {error}") from error


def _is_allowed(name: Name) -> bool:
    if name in _ALLOWED:
        return True
    # These are only names to us: their modules are never imported.
    package = name.module.split(".")[0]
    if package == "chumpy":
        return name.name.isidentifier()
    return name.module.startswith("scipy.sparse") and name.name in _SPARSE_CLASSES


def _value(key: str, entry: object, depth: int = 0) -> object:
    """The array or text that `entry` describes; None for what is neither."""
    if depth > 8:
        raise BodyFileError(f"{key}: arrays wrapped in one another without end")
    if isinstance(entry, str | int | float):
        return entry
    if not isinstance(entry, Record):
        return None
    kind = _class_of(entry)
    if kind.name in _SPARSE_CLASSES:
        return _dense(key, entry)
    if kind.module.split(".")[0] == "chumpy":
        return _unwrapped(key, kind, entry.state, depth)
    if kind.name in ("ndarray", "_frombuffer", "scalar"):
        return _array(key, entry)
    return None


def _class_of(record: Record) -> Name:
    """What a record is an object of, also when a helper function would have built it."""
    helper = record.maker in _RECONSTRUCTORS or record.maker.name == "_reconstruct"
    if helper and record.arguments and isinstance(record.arguments[0], Name):
        return record.arguments[0]
    return record.maker


def _unwrapped(key: str, kind: Name, state: object, depth: int) -> object:
    """The array inside a chumpy object: stored (Ch), or picked from another (Select)."""
    if not isinstance(state, dict):
        return None
    if "x" in state:
        return _value(key, state["x"], depth + 1)
    if kind.name == "Select":
        source = _value(key, state.get("a"), depth + 1)
        picks = _value(key, state.get("idxs"), depth + 1)
        shape = state.get("preferred_shape")
        if _can_pick(source, picks):
            picked = source.ravel()[picks.ravel()]
            if isinstance(shape, tuple) and _count(key, shape) == picked.size:
                return picked.reshape(shape)
            return picked
        raise BodyFileError(f"{key}: a chumpy selection that picks outside its array")
    return None  # computed by chumpy from others, e.g. SMPL's J: we compute it ourselves


def _can_pick(source: object, picks: object) -> bool:
    if not (isinstance(source, np.ndarray) and isinstance(picks, np.ndarray) and picks.size):
        return False
    return picks.dtype.kind in "iu" and picks.min() >= 0 and picks.max() < source.size


def _array(key: str, record: Record) -> NDArray:
    """A numpy array from its description in any of numpy's three ways."""
    if record.maker.name == "_frombuffer":
        content, dtype, shape, order = (*record.arguments, None, None, None, None)[:4]
        fortran = order == "F"
    elif record.maker.name == "scalar":
        dtype, content = (*record.arguments, None, None)[:2]
        shape, fortran = (), False
    else:
        if not isinstance(record.state, tuple) or len(record.state) not in (4, 5):
            raise BodyFileError(f"{key}: an array without content")
        shape, dtype, fortran, content = record.state[-4:]
    content = _bytes(key, content)
    kind = _dtype(key, dtype)
    if len(content) != _count(key, shape) * kind.itemsize:
        raise BodyFileError(
            f"{key}: an array of shape {shape} and {kind} does not fit its {len(content)} bytes"
        )
    flat = np.frombuffer(content, dtype=kind)
    return flat.reshape(shape, order="F" if fortran else "C")


def _count(key: str, shape: object) -> int:
    good = isinstance(shape, tuple) and len(shape) <= 4
    if not good or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise BodyFileError(f"{key}: an array without a sensible shape")
    return math.prod(shape)


def _bytes(key: str, content: object) -> bytes:
    if isinstance(content, Record) and content.maker == _ENCODE:
        # How Python 3 writes bytes for Python 2.
        text, encoding = (*content.arguments, None, None)[:2]
        content = text if encoding == "latin1" else None
    elif isinstance(content, Record) and content.maker.name == "bytes" and not content.arguments:
        content = b""
    if isinstance(content, str):
        try:
            return content.encode("latin1")
        except UnicodeEncodeError as error:
            raise BodyFileError(f"{key}: an array whose content is not bytes") from error
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    raise BodyFileError(f"{key}: holds Python objects instead of numbers")


def _dtype(key: str, record: object) -> np.dtype:
    text = record.arguments[0] if isinstance(record, Record) and record.arguments else None
    if not isinstance(text, str) or record.maker != Name("numpy", "dtype"):
        raise BodyFileError(f"{key}: an array without a number type")
    known = {*(f"{k}{n}" for k in "iu" for n in (1, 2, 4, 8)), "f2", "f4", "f8", "b1"}
    if text.lstrip("<>|=") not in known:
        raise BodyFileError(f"{key}: an array of {text!r}, not of numbers")
    state = record.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    return np.dtype(text.lstrip("<>|=")).newbyteorder(">" if order == ">" else "<")


def _dense(key: str, record: Record) -> NDArray:
    """A compressed sparse matrix spread out."""
    state = record.state if isinstance(record.state, dict) else {}
    shape = state.get("_shape", state.get("shape"))
    if _count(key, shape) > _MAX_DENSE or len(shape) != 2:
        raise BodyFileError(f"{key}: a sparse matrix of shape {shape} belongs to no body")
    parts = [_value(key, state.get(part)) for part in ("data", "indices", "indptr")]
    if not all(isinstance(part, np.ndarray) and part.ndim == 1 for part in parts):
        raise BodyFileError(f"{key}: a sparse matrix without data, indices or indptr")
    data, indices, starts = parts
    by_column = _class_of(record).name.startswith("csc")
    lines, length = shape[::-1] if by_column else shape
    counts = np.diff(starts.astype(np.int64))
    fits = (
        len(starts) == lines + 1
        and starts[0] == 0
        and (counts >= 0).all()
        and counts.sum() == len(data) == len(indices)
        and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < length))
    )
    if not fits:
        raise BodyFileError(f"{key}: a sparse matrix whose indices do not fit its shape {shape}")
    dense = np.zeros((lines, length), dtype=np.float64)
    np.add.at(dense, (np.repeat(np.arange(lines), counts), indices), data)
    return dense.T if by_column else dense
