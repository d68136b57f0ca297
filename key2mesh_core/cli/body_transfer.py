# SPDX-License-Identifier: Apache-2.0
"""`key2mesh body transfer`: bodies that `key2mesh mesh` wrote, as parameters of another body."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.data import JOINT_COUNT
from key2mesh_core.body.files import load_body
from key2mesh_core.body.skinning import rest_pelvis, skin
from key2mesh_core.body.transfer import transfer_between
from key2mesh_core.errors import BodyFileError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from key2mesh_core.io import atomic_write

_KEPT = ("frame", "stamp_ns", "stream", "id", "track", "quality")
_BATCH = 256


@dataclass(frozen=True)
class BodyTransferConfig:
    """Converts bodies from `key2mesh mesh RECORDING people.npz` to parameters of another body, such
    as your SMPL, and reports how far the meshes are apart. The shapes and meshes of two bodies
    differ, so the conversion is not exact."""

    source: Path
    """The .npz file of `key2mesh mesh`."""
    target: Path
    """The .npz file to write: betas (N, 10), poses (N, 72), trans (N, 3) as `smplx` takes them,
    residual (N,) [m], and the source's frame, stamp_ns, stream, id, track and quality."""
    to: str
    """Body file to convert to: SMPL_NEUTRAL.pkl, or an .npz."""
    body: str = "default"
    """The body file that the model was trained with."""


def transfer_bodies(config: BodyTransferConfig) -> None:
    """Converts a file of bodies.

    Raises:
        BodyFileError: a file is damaged or of another kind, or its bodies are of another body than
            `config.body`.
    """
    if config.target.suffix != ".npz":
        raise BodyFileError(f"{config.target}: bodies are written as .npz")
    ours, theirs = load_body(config.body), load_body(config.to)
    rows = _read(config.source, ours.identifier)
    transfer = transfer_between(ours, theirs)
    parts: list[tuple[NDArray, ...]] = []
    for start in range(0, len(rows["betas"]), _BATCH):
        chosen = slice(start, start + _BATCH)
        betas, place = rows["betas"][chosen], rows["translation"][chosen]
        rotations = axis_angle_to_matrix(rows["poses"][chosen].reshape(-1, JOINT_COUNT, 3))
        shapes, turned, moved = transfer.convert(betas, rotations, place)
        source = skin(ours, betas, rotations)[0] + place[:, None]
        residual = transfer.residual(source, skin(theirs, shapes, turned)[0] + moved[:, None])
        poses = matrix_to_axis_angle(turned).reshape(-1, 3 * JOINT_COUNT)
        trans = (moved - rest_pelvis(theirs, shapes)).astype(np.float32)
        parts.append((shapes, poses, trans, residual.astype(np.float32)))
    names = ("betas", "poses", "trans", "residual")
    arrays = {
        n: np.concatenate(each) for n, each in zip(names, zip(*parts, strict=True), strict=True)
    }
    kept = {name: rows[name] for name in _KEPT if name in rows}
    with atomic_write(config.target) as unfinished:
        np.savez(unfinished, **arrays, **kept, body_model=np.array(theirs.identifier))
    mean, most = 1000 * arrays["residual"].mean(), 1000 * arrays["residual"].max()
    print(
        f"{config.target}: {len(arrays['betas'])} bodies of {theirs.identifier}; their vertices "
        f"are off the original surface by {mean:.1f} mm on average, {most:.1f} mm in the worst body"
    )


def _read(path: Path, identifier: str) -> dict[str, NDArray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            wanted = ("betas", "poses", "translation", "body_model", *_KEPT)
            rows = {name: stored[name] for name in wanted if name in stored.files}
    except Exception as error:  # damage makes numpy raise nearly anything
        raise BodyFileError(f"{path} cannot be read as an .npz of arrays: {error}") from error
    if missing := {"betas", "poses", "translation", "body_model"} - set(rows):
        raise BodyFileError(
            f"{path} lacks {sorted(missing)}; give the .npz that `key2mesh mesh RECORDING "
            "people.npz` writes"
        )
    if str(rows["body_model"]) != identifier:
        raise BodyFileError(
            f"{path} has bodies of {rows['body_model']}, not of {identifier}: give the body file "
            "that the model was trained with (--body)"
        )
    if not len(rows["betas"]):
        raise BodyFileError(f"{path} has no body")
    return rows
