# SPDX-License-Identifier: Apache-2.0
"""Body files as others write them: the official downloads' pickles, and the smplx package's."""

import io
import pickle
import struct
import sys
import types
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy import sparse

from key2mesh_core.body.data import POSE_DIRECTION_COUNT, BodyData


def smpl_arrays(body: BodyData) -> dict[str, object]:
    """The entries of an official SMPL file, all plain arrays, with 207 correctives."""
    count = len(body.template)
    pose = body.pose_directions
    table = np.stack([body.parents, np.arange(24)]).astype(np.int64)
    return {
        "v_template": body.template.astype(np.float64),
        "shapedirs": body.shape_directions.astype(np.float64),
        "posedirs": np.zeros((count, 3, POSE_DIRECTION_COUNT)) if pose is None else pose,
        "J_regressor": body.joint_regressor.astype(np.float64),
        "weights": body.skinning_weights.astype(np.float64),
        "kintree_table": (table % 2**32).astype(np.uint32),
        "f": body.triangles.astype(np.uint32),
        "bs_type": "lrotmin",
        "bs_style": "lbs",
    }


def write_smplx_folder(folder: Path, body: BodyData) -> Path:
    """A folder that `smplx.SMPL(folder, gender="neutral", vertex_ids=...)` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SMPL_NEUTRAL.pkl").write_bytes(pickle.dumps(smpl_arrays(body)))
    return folder


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: text and bytes are one kind of string, of plain bytes."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else bytes(value)
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(value: object, protocol: int = 2) -> bytes:
    """`value` as Python 2 with the numpy and scipy of its days would have pickled it."""
    file = io.BytesIO()
    Python2Pickler(file, protocol=protocol, fix_imports=True).dump(value)
    content = file.getvalue()
    for new, old in (
        (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"),
        (b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n"),
        (b"cscipy.sparse._csr\n", b"cscipy.sparse.csr\n"),
    ):
        content = content.replace(new, old)
    return content


@contextmanager
def fake_chumpy():
    """Modules `chumpy.ch` and `chumpy.reordering` with the classes that SMPL files name."""
    modules = {
        name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")
    }
    for module, name in (
        ("chumpy.ch", "Ch"),
        ("chumpy.ch", "MatVecMult"),
        ("chumpy.reordering", "Select"),
    ):
        made = type(name, (), {"__module__": module})
        setattr(modules[module], name, made)
    sys.modules.update(modules)
    try:
        yield modules
    finally:
        for name in modules:
            del sys.modules[name]


def chumpy_object(kind: type, **state: object) -> object:
    """An object of a fake chumpy class with this state."""
    made = kind()
    made.__dict__.update(state)
    return made


def write_official_pickle(
    path: Path, body: BodyData, *, components: int = 10, layout: str = "csc", protocol: int = 2
) -> dict[str, object]:
    """An official-looking SMPL pickle; returns its entries, `shapedirs` unwrapped.

    Shape directions are a chumpy selection from a larger chumpy array, J is computed by chumpy,
    and J_regressor is a sparse matrix.
    """
    entries = smpl_arrays(body)
    count, _, known = body.shape_directions.shape
    directions = np.zeros((count, 3, components))
    directions[:, :, : min(known, components)] = body.shape_directions[:, :, :components]
    regressor = {"csc": sparse.csc_matrix, "csr": sparse.csr_matrix}[layout]
    with fake_chumpy() as chumpy:
        ch, reordering = chumpy["chumpy.ch"], chumpy["chumpy.reordering"]
        stored = np.concatenate([directions, np.full((count, 3, 2), 7.0)], axis=2)
        wrapped = chumpy_object(ch.Ch, x=stored, _dirty_vars=set(), _itr=None)
        picks = np.arange(stored.size).reshape(stored.shape)[:, :, :components].ravel()
        file = {
            **entries,
            "shapedirs": chumpy_object(
                reordering.Select, a=wrapped, idxs=picks, preferred_shape=directions.shape
            ),
            "J_regressor": regressor(entries["J_regressor"]),
            "J": chumpy_object(ch.MatVecMult, mtx=regressor(entries["J_regressor"]), vec=wrapped),
            "weights_prior": entries["weights"],
            "vert_sym_idxs": np.arange(count),
        }
        path.write_bytes(python2_pickle(file, protocol))
    return {**entries, "shapedirs": directions}
