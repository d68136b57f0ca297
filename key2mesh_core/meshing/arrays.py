# SPDX-License-Identifier: Apache-2.0
"""Bodies as arrays on disk: part by part while they are made, then as what was asked for."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.files import load_body
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from key2mesh_core.meshing.people import Image
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame
from key2mesh_core.recordings.amass import WORLD_TO_UPRIGHT
from key2mesh_core.recordings.tracks import Tracks

PART = "part.npz"

Arrays = dict[str, NDArray]


def write_part(folder: Path, images: Sequence[Image], bodies: Bodies) -> None:
    """One row per body, as docs/tools.md lists them."""
    of = np.repeat(np.arange(len(images)), [len(image.ids) for image in images])
    rows: Arrays = {
        "frame": np.array([image.frame for image in images], np.int64)[of],
        "stamp_ns": np.array([image.stamp_ns for image in images], np.int64)[of],
        "id": np.array([name for image in images for name in image.ids], np.str_),
        "keypoints": np.concatenate([image.keypoints for image in images]),
        "intrinsics": np.array([image.intrinsics.as_array() for image in images])[of],
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
    """All parts as one .npz; the vertices, which may not fit into memory, part by part."""
    rows = _rows(parts)
    rows["track"] = _tracks(rows)
    rows["triangles"] = bundle.triangles
    rows["body_model"] = np.array(bundle.body_model)
    with zipfile.ZipFile(target, "w", allowZip64=True) as archive:
        for name, values in rows.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
        if any("vertices" in _names(part) for part in parts):
            shape = (len(rows["frame"]), bundle.vertex_count, 3)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            with archive.open("vertices.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for part in parts:
                    with np.load(part / PART) as file:
                        stream.write(np.ascontiguousarray(file["vertices"], "<f4").data)


def write_obj(folder: Path, images: Sequence[Image], bodies: Bodies, bundle: Bundle) -> None:
    """One .obj per person of each image; metres in the camera's optical frame."""
    faces = "".join(f"f {a} {b} {c}\n" for a, b, c in (bundle.triangles + 1).tolist())
    row = 0
    for image in images:
        name = f"{image.frame:06d}"
        for person, identity in enumerate(image.ids):
            vertices = bodies.vertices[row]
            lines = ("v %.5f %.5f %.5f\n" * len(vertices)) % tuple(vertices.ravel().tolist())
            label = re.sub(r"[^\w.-]", "_", identity) or str(person)
            # Names that differ in such signs alone must not share a file.
            if (path := folder / f"{name}_{label}.obj").exists():
                path = folder / f"{name}_{label}_{person}.obj"
            path.write_text(f"# {bundle.body_model}\n{lines}{faces}")
            row += 1


def collect_obj(segments: Sequence[Path], made: Path) -> None:
    """Every segment's .obj files in one folder."""
    made.mkdir(exist_ok=True)
    for segment in segments:
        for path in sorted(segment.glob("*.obj")):
            path.rename(made / path.name)


def write_amass(parts: Sequence[Path], made: Path, body: str, bundle: Bundle, fps: float) -> None:
    """One file per person and unbroken stretch of time, as AMASS has its SMPL+H motion.

    poses (F, 156) axis-angle with hands at rest, trans (F, 3) [m], betas (16,) the mean of the
    person's, gender, mocap_framerate; the world has z up, taken from a camera held level. Beside
    them `frame`, `stamp_ns` and `body_model`, which says whose betas these are.

    Args:
        body: name of the body file of the bundle: `trans` is measured from its resting pelvis.
        fps: frames per second if the stamps do not tell.

    Raises:
        Key2MeshError: the body is not the bundle's.
    """
    shape = load_body(body)
    if shape.identifier != bundle.body_model:
        raise Key2MeshError(
            f"--body {body} is {shape.identifier}, but the model was made with "
            f"{bundle.body_model}: give that body's file (AMASS measures trans from its pelvis)"
        )
    pelvis = shape.joint_regressor[0] @ shape.template
    pelvis_shapes = np.einsum("v,vcb->cb", shape.joint_regressor[0], shape.shape_directions)[:, :10]
    rows = _rows(parts)
    tracks = _tracks(rows)
    made.mkdir(exist_ok=True)
    for track in np.unique(tracks):
        person = {name: values[tracks == track] for name, values in rows.items()}
        betas = person["betas"].mean(axis=0)
        # One frame alone is no motion.
        stretches = [each for each in _stretches(person["frame"]) if each.stop - each.start > 1]
        for number, stretch in enumerate(stretches):
            root = axis_angle_to_matrix(person["poses"][stretch, :3])
            upright = WORLD_TO_UPRIGHT.T  # from the camera's y-down to z-up
            poses = np.zeros((len(root), 156), np.float32)
            poses[:, :66] = person["poses"][stretch, :66]
            poses[:, :3] = matrix_to_axis_angle(upright @ root)
            offset = pelvis + pelvis_shapes @ betas
            np.savez(
                made / f"person_{track:03d}_{number:03d}_poses.npz",
                poses=poses,
                trans=(person["translation"][stretch] @ upright.T - offset).astype(np.float32),
                betas=np.concatenate([betas, np.zeros(6, np.float32)]),
                gender=np.array(shape.gender),
                mocap_framerate=np.array(_rate(person["stamp_ns"][stretch], fps)),
                frame=person["frame"][stretch],
                stamp_ns=person["stamp_ns"][stretch],
                body_model=np.array(bundle.body_model),
            )


def _names(part: Path) -> list[str]:
    with np.load(part / PART) as file:
        return file.files


def _rows(parts: Sequence[Path]) -> Arrays:
    """Everything but the vertices, all parts' rows."""
    found: dict[str, list[NDArray]] = {}
    for part in parts:
        with np.load(part / PART) as file:
            for name in file.files:
                if name != "vertices":
                    found.setdefault(name, []).append(file[name])
    return {name: np.concatenate(values) for name, values in found.items()}


def _tracks(rows: Arrays) -> NDArray[np.int32]:
    """(M,) number of the person of each row: by name, else by the nearest pose before."""
    tracker = Tracks()
    tracks = np.zeros(len(rows["frame"]), np.int32)
    for here in _stretches_of_equal(rows["frame"]):
        ids = tuple(rows["id"][here].tolist())
        frame = int(rows["frame"][here][0])
        people = PersonFrame(ids, rows["keypoints"][here], NETWORK_LAYOUT, number=frame)
        tracks[here] = tracker.assign(people)
    return tracks


def _stretches_of_equal(values: NDArray) -> Iterator[slice]:
    return _cut(np.flatnonzero(np.diff(values)) + 1, len(values))


def _stretches(frames: NDArray) -> Iterator[slice]:
    """Parts of a person's frames with none missing between them."""
    return _cut(np.flatnonzero(np.diff(frames) != 1) + 1, len(frames))


def _cut(at: NDArray, count: int) -> Iterator[slice]:
    edges = [0, *at.tolist(), count]
    return (slice(a, b) for a, b in pairwise(edges) if b > a)


def _rate(stamps_ns: NDArray, fps: float) -> float:
    steps = np.diff(stamps_ns)
    steps = steps[steps > 0]
    return round(1e9 / float(np.median(steps)), 3) if len(steps) else fps
