# SPDX-License-Identifier: Apache-2.0
"""Bodies as arrays on disk: in parts while they are made, then as one .npz or as .obj files."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.model.bundle import Bundle
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame
from key2mesh_core.recordings.numbering import number_by_stamps
from key2mesh_core.recordings.tracks import Tracks

PART = "part.npz"

Arrays = dict[str, NDArray]


def write_part(folder: Path, frames: Sequence[PersonFrame], bodies: Bodies) -> None:
    """One row per body; docs/meshes.md lists the arrays."""
    of = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    rows: Arrays = {
        "frame": np.array([frame.number for frame in frames], np.int64)[of],
        "stamp_ns": np.array([frame.stamp_ns for frame in frames], np.int64)[of],
        "stream": np.array([frame.stream for frame in frames], np.str_)[of],
        "id": np.array([name for frame in frames for name in frame.ids], np.str_),
        "keypoints": np.concatenate([frame.keypoints for frame in frames]),
        "intrinsics": np.array([_intrinsics(frame) for frame in frames])[of],
        "betas": bodies.betas,
        "poses": bodies.poses,
        "translation": bodies.translation,
        "joints": bodies.joints,
        "reprojection_error": bodies.reprojection_error,
        "quality": bodies.quality,
    }
    if bodies.vertices is not None:
        rows["vertices"] = bodies.vertices
    np.savez(folder / PART, **rows)


def write_npz(parts: Sequence[Path], target: Path, bundle: Bundle) -> None:
    """Write all parts as one .npz; the vertices, which may not fit into memory, part by part."""
    rows = read_rows(parts)
    with np.load(parts[0] / PART) as first:
        has_vertices = "vertices" in first
    rows["track"] = tracks_of(rows)
    rows["triangles"] = bundle.triangles
    rows["body_model"] = np.array(bundle.body_model)
    with zipfile.ZipFile(target, "w", allowZip64=True) as archive:
        for name, values in rows.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
        if has_vertices:
            shape = (len(rows["frame"]), bundle.vertex_count, 3)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            with archive.open("vertices.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for part in parts:
                    with np.load(part / PART) as file:
                        stream.write(np.ascontiguousarray(file["vertices"], "<f4").data)


def write_obj(
    folder: Path, frames: Sequence[PersonFrame], bodies: Bodies, bundle: Bundle, streams: bool
) -> None:
    """Write one .obj per person and image, in metres in the camera's optical frame. Names begin
    with the stream's if the recording has several (`streams`)."""
    faces = "".join(f"f {a} {b} {c}\n" for a, b, c in (bundle.triangles + 1).tolist())
    row = 0
    for frame in frames:
        name = f"{_safe(frame.stream)}_" * streams + f"{frame.number:06d}"
        for person, identity in enumerate(frame.ids):
            vertices = bodies.vertices[row]
            lines = ("v %.5f %.5f %.5f\n" * len(vertices)) % tuple(vertices.ravel().tolist())
            label = _safe(identity) or str(person)
            # Names that differ only in such characters must not share a file.
            if (path := folder / f"{name}_{label}.obj").exists():
                path = folder / f"{name}_{label}_{person}.obj"
            path.write_text(f"# {bundle.body_model}\n{lines}{faces}")
            row += 1


def collect_obj(segments: Sequence[Path], made: Path) -> None:
    """Collect every segment's .obj files in one folder."""
    made.mkdir(exist_ok=True)
    for segment in segments:
        for path in sorted(segment.glob("*.obj")):
            path.rename(made / path.name)


def read_rows(parts: Sequence[Path]) -> Arrays:
    """Everything but the vertices, for the rows of all parts."""
    found: dict[str, list[NDArray]] = {}
    for part in parts:
        with np.load(part / PART) as file:
            for name in file.files:
                if name != "vertices":
                    found.setdefault(name, []).append(file[name])
    return {name: np.concatenate(values) for name, values in found.items()}


def tracks_of(rows: Arrays) -> NDArray[np.int32]:
    """(M,) number of the person in each row: by name, else tracked."""
    changes = (np.diff(rows["frame"]) != 0) | (rows["stream"][1:] != rows["stream"][:-1])
    images = np.split(np.arange(len(rows["frame"])), np.flatnonzero(changes) + 1)
    frames = [
        PersonFrame(
            ids=tuple(rows["id"][here].tolist()),
            keypoints=rows["keypoints"][here],
            layout=NETWORK_LAYOUT,
            stamp_ns=int(rows["stamp_ns"][here[0]]),
            stream=str(rows["stream"][here[0]]),
        )
        for here in images
    ]
    tracks = Tracks()
    numbers = [tracks.assign(frame) for frame in number_by_stamps(frames, "the recording")]
    return np.concatenate(numbers).astype(np.int32)


def _intrinsics(frame: PersonFrame) -> NDArray[np.float32]:
    """(4,) zeros for an image without people and with an unknown camera."""
    return np.zeros(4, np.float32) if frame.camera is None else frame.camera.intrinsics.as_array()


def _safe(name: str) -> str:
    """A name without characters that are special in paths."""
    return re.sub(r"[^\w.-]", "_", name)
