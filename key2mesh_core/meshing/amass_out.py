# SPDX-License-Identifier: Apache-2.0
"""Writes bodies as motion in AMASS layout: one file per person and unbroken stretch of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.files import load_body
from key2mesh_core.errors import Key2MeshError, TargetError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from key2mesh_core.meshing.arrays import read_rows, tracks_of
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.recordings.amass import WORLD_TO_UPRIGHT

PAUSE_NS = 1_000_000_000
PAUSE_PERIODS = 10
LEAST_PERIODS = 3
"""A clip ends if a person is away for this long [ns], or for this many of their usual periods if
that is shorter; slow recordings get at least this many periods."""


def write_amass(parts: Sequence[Path], made: Path, body: str, bundle: Bundle, fps: float) -> None:
    """Write one file per person and unbroken stretch of time, like AMASS's SMPL+H motion.

    poses (F, 156) axis-angle with hands at rest, trans (F, 3) [m], betas (16,) the mean of the
    person's, gender, mocap_framerate; the world has z up and assumes a level camera. Also `frame`,
    `stamp_ns` and `body_model`, to which the betas belong.

    Args:
        body: the bundle's body file: `trans` is relative to its pelvis at rest.
        fps: frames per second if the stamps do not determine it.

    Raises:
        Key2MeshError: the body is not the bundle's.
        TargetError: nobody is in two successive images.
    """
    shape = load_body(body)
    if shape.identifier != bundle.body_model:
        raise Key2MeshError(
            f"--body {body} is {shape.identifier}, but the model was trained with "
            f"{bundle.body_model}: give that body's file (AMASS's trans is relative to its pelvis)"
        )
    pelvis = shape.joint_regressor[0] @ shape.template
    pelvis_shapes = np.einsum("v,vcb->cb", shape.joint_regressor[0], shape.shape_directions)[:, :10]
    rows = read_rows(parts)
    tracks = tracks_of(rows)
    made.mkdir(exist_ok=True)
    for track in np.unique(tracks):
        person = {name: values[tracks == track] for name, values in rows.items()}
        betas = person["betas"].mean(axis=0)
        clips = clips_of(person["frame"], person["stamp_ns"])
        for number, clip in enumerate(c for c in clips if c.stop > c.start + 1):
            root = axis_angle_to_matrix(person["poses"][clip, :3])
            upright = WORLD_TO_UPRIGHT.T  # from the camera's y-down to z-up
            poses = np.zeros((len(root), 156), np.float32)
            poses[:, :66] = person["poses"][clip, :66]
            poses[:, :3] = matrix_to_axis_angle(upright @ root)
            offset = pelvis + pelvis_shapes @ betas
            np.savez(
                made / f"person_{track:03d}_{number:03d}_poses.npz",
                poses=poses,
                trans=(person["translation"][clip] @ upright.T - offset).astype(np.float32),
                betas=np.concatenate([betas, np.zeros(6, np.float32)]),
                gender=np.array(shape.gender),
                mocap_framerate=np.array(_rate(person["stamp_ns"][clip], fps)),
                frame=person["frame"][clip],
                stamp_ns=person["stamp_ns"][clip],
                body_model=np.array(bundle.body_model),
            )
    if not any(made.iterdir()):
        raise TargetError(
            "nobody is in two successive images, so there is no motion to write: --form npz keeps "
            "single poses"
        )


def clips_of(frames: NDArray[np.int64], stamps_ns: NDArray[np.int64]) -> Iterator[slice]:
    """The unbroken stretches of one person's rows: no missing image, no backward jump of the clock,
    no pause."""
    steps = np.diff(stamps_ns)
    period = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    pause = max(min(PAUSE_NS, PAUSE_PERIODS * period), LEAST_PERIODS * period)
    broken = (np.diff(frames) != 1) | (steps < 0) | (steps > pause)
    edges = [0, *(np.flatnonzero(broken) + 1).tolist(), len(frames)]
    return (slice(first, after) for first, after in pairwise(edges))


def _rate(stamps_ns: NDArray[np.int64], fps: float) -> float:
    steps = np.diff(stamps_ns)
    steps = steps[steps > 0]
    return round(1e9 / float(np.median(steps)), 3) if len(steps) else fps
