# SPDX-License-Identifier: Apache-2.0
"""Reads official SMPL downloads (.pkl, .npz), and reads and writes our own .npz body files.

Nothing read here is executed: .npz files may not contain Python objects, and .pkl files go through
`pickles.read_pickle`, which accepts only arrays.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.data import BETA_COUNT, FACE_NAMES, JOINT_COUNT, BodyData
from key2mesh_core.body.pickles import read_pickle
from key2mesh_core.errors import BodyFileError
from key2mesh_core.io import atomic_write

DEFAULT_BODY = Path(__file__).parent.parent / "assets" / "body" / "default.npz"
"""The body that ships with key2mesh, under an open licence; see docs/body.md."""

SMPL_VERTEX_COUNT = 6890

SMPL_FACE_VERTICES: tuple[int, ...] = (332, 6260, 2800, 4071, 583)
"""Vertices of SMPL's own mesh at nose, right eye, left eye, right ear, left ear."""

_KEYS = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")
_OPTIONAL_KEYS = ("posedirs", "face_regressor", "name", "gender")


def load_body(path: str | os.PathLike[str] = "default") -> BodyData:
    """Read a body model from an SMPL `.pkl` or `.npz` file, or "default" for the shipped one.

    At most 10 shape components are kept. Gender and name come from the file's content if it states
    them, else from the file name. A body without `face_regressor` counts as SMPL's own mesh if it
    has 6,890 vertices.

    Raises:
        BodyFileError: the file is missing, damaged, unsafe, or not a body.
    """
    return default_body() if os.fspath(path) == "default" else _load(Path(path))


@lru_cache(maxsize=1)
def default_body() -> BodyData:
    """The shipped body, read once."""
    return _load(DEFAULT_BODY)


def save_body(path: str | os.PathLike[str], data: BodyData, *, compact: bool = False) -> None:
    """Write `data` atomically as .npz with SMPL's key names.

    Args:
        path: file to write, ending in .npz.
        data: the body.
        compact: store shape and pose directions as half floats (0.05 mm), which saves two thirds of
            the space. The identifier of the body read back then differs from that of `data`.

    Raises:
        BodyFileError: the name has another extension, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise BodyFileError(f"{path}: bodies are written as .npz; choose a name that ends in .npz")
    directions = np.float16 if compact else np.float32
    vertex_index = np.uint16 if len(data.template) <= 0xFFFF and compact else np.uint32
    arrays: dict[str, NDArray] = {
        "v_template": data.template,
        "shapedirs": data.shape_directions.astype(directions),
        "J_regressor": data.joint_regressor,
        "weights": data.skinning_weights.astype(directions),
        "kintree_table": np.stack([data.parents, np.arange(JOINT_COUNT, dtype=np.int32)]),
        "f": data.triangles.astype(vertex_index),
        "face_regressor": data.face_regressor,
        "name": np.array(data.name),
        "gender": np.array(data.gender),
    }
    if data.pose_directions is not None:
        arrays["posedirs"] = data.pose_directions.astype(directions)
    try:
        with atomic_write(path) as unfinished:
            np.savez_compressed(unfinished, **arrays)
    except OSError as error:
        raise BodyFileError(f"{path}: cannot be written ({error})") from error


def _load(path: Path) -> BodyData:
    if not path.is_file():
        raise BodyFileError(f"{path}: no such body file; name a .pkl or .npz, or 'default'")
    if path.suffix == ".npz":
        raw = _read_npz(path)
    elif path.suffix == ".pkl":
        raw = read_pickle(path, (*_KEYS, *_OPTIONAL_KEYS))
    else:
        raise BodyFileError(f"{path}: a body file ends in .pkl or .npz, not {path.suffix!r}")
    try:
        return _from_smpl_keys(path, raw)
    except BodyFileError as error:
        if str(error).startswith(str(path)):
            raise
        raise BodyFileError(f"{path}: {error}") from error


def _read_npz(path: Path) -> dict[str, object]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = (*_KEYS, *_OPTIONAL_KEYS)
            return {key: archive[key] for key in archive.files if key in wanted}
    except Exception as error:  # a corrupted archive makes numpy raise nearly anything
        if "allow_pickle" in str(error):
            raise BodyFileError(
                f"{path}: contains Python objects, which are not read because they may run code; "
                "use the .pkl of the same download, or save its arrays as plain numbers"
            ) from error
        raise BodyFileError(
            f"{path}: damaged ({error}); download it again or recreate it"
        ) from error


def _from_smpl_keys(path: Path, raw: Mapping[str, object]) -> BodyData:
    missing = [key for key in _KEYS if key not in raw]
    if missing:
        raise BodyFileError(
            f"{path}: not an SMPL body, {', '.join(missing)} missing; it contains "
            f"{', '.join(sorted(map(str, raw))) or 'nothing'}"
        )
    template = np.asarray(raw["v_template"])
    shape_directions = np.asarray(raw["shapedirs"])
    if template.ndim != 2 or shape_directions.ndim != 3:
        raise BodyFileError(
            f"{path}: v_template must be (V, 3) and shapedirs (V, 3, B), got "
            f"{template.shape} and {shape_directions.shape}"
        )
    table = np.asarray(raw["kintree_table"])
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] != JOINT_COUNT:
        raise BodyFileError(
            f"{path}: kintree_table must be (2, {JOINT_COUNT}), got {table.shape}; bodies with "
            "other joints (SMPL-H, SMPL-X, MANO) are not read: use the SMPL file"
        )
    pose_directions = raw.get("posedirs")
    if pose_directions is not None and not np.any(pose_directions):
        pose_directions = None  # all zero: save the work at run time
    return BodyData(
        name=_text(raw.get("name")) or path.stem.replace("@", "_"),
        gender=_gender(path, raw),
        template=template,
        shape_directions=shape_directions[..., :BETA_COUNT],
        pose_directions=pose_directions,
        joint_regressor=raw["J_regressor"],
        skinning_weights=raw["weights"],
        parents=_parents(table[0]),
        triangles=raw["f"],
        face_regressor=_face_regressor(path, raw, len(template)),
    )


def _parents(row: NDArray) -> NDArray[np.int32]:
    # The root's parent is -1, in the official files 4294967295.
    values = row.astype(np.int64)
    return np.where((values < 0) | (values >= JOINT_COUNT), -1, values).astype(np.int32)


def _face_regressor(path: Path, raw: Mapping[str, object], count: int) -> NDArray[np.float32]:
    given = raw.get("face_regressor")
    if given is not None:
        return np.asarray(given)
    if count != SMPL_VERTEX_COUNT:
        raise BodyFileError(
            f"{path}: a body of {count} vertices needs a face_regressor (5, {count}) with rows "
            f"{', '.join(FACE_NAMES)}; only SMPL's own mesh of {SMPL_VERTEX_COUNT} vertices is "
            "supported without it: add the array to an .npz"
        )
    regressor = np.zeros((len(FACE_NAMES), count), dtype=np.float32)
    regressor[np.arange(len(FACE_NAMES)), SMPL_FACE_VERTICES] = 1
    return regressor


def _gender(path: Path, raw: Mapping[str, object]) -> str:
    stated = _text(raw.get("gender")).lower()
    short = {"m": "male", "f": "female", "n": "neutral"}
    if stated:
        return short.get(stated, stated)
    stem = path.stem.lower()
    signs = {"female": "female", "_f_": "female", "male": "male", "_m_": "male"}
    return next((gender for sign, gender in signs.items() if sign in stem), "neutral")


def _text(value: object) -> str:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
