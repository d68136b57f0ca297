# SPDX-License-Identifier: Apache-2.0
"""Small made-up bodies and motions, so that training code is tested in seconds."""

from pathlib import Path

import numpy as np

from key2mesh_core.body.data import PARENTS, BodyData
from key2mesh_core.body.files import save_body

_REST = np.array(
    [
        *[(0, 0.0, 0), (0.07, -0.08, 0), (-0.07, -0.08, 0), (0, 0.11, 0), (0.1, -0.47, 0)],
        *[(-0.1, -0.47, 0), (0, 0.25, 0), (0.09, -0.87, -0.03), (-0.09, -0.87, -0.03)],
        *[(0, 0.3, 0.02), (0.11, -0.93, 0.1), (-0.11, -0.93, 0.1), (0, 0.52, -0.02)],
        *[(0.08, 0.43, -0.01), (-0.08, 0.43, -0.01), (0, 0.58, 0.03), (0.2, 0.46, -0.02)],
        *[(-0.2, 0.46, -0.02), (0.45, 0.45, -0.04), (-0.45, 0.45, -0.04), (0.7, 0.46, -0.04)],
        *[(-0.7, 0.46, -0.04), (0.8, 0.45, -0.05), (-0.8, 0.45, -0.05)],
    ],
    np.float32,
)


def small_body(seed: int = 0, correctives: bool = False, vertices_per_joint: int = 8) -> BodyData:
    """A body of 24 blobs around human joints, with everything that a real one has."""
    rng = np.random.default_rng(seed)
    count = 24 * vertices_per_joint
    owner = np.repeat(np.arange(24), vertices_per_joint)
    offsets = rng.normal(0, 0.03, (24, vertices_per_joint, 3))
    offsets -= offsets.mean(1, keepdims=True)
    template = _REST[owner] + offsets.reshape(-1, 3)
    weights = np.zeros((count, 24))
    weights[np.arange(count), owner] = 0.75
    weights[np.arange(count), np.maximum(PARENTS, 0)[owner]] += 0.25
    face = np.zeros((5, count))
    for row in range(5):
        chosen = 15 * vertices_per_joint + row
        face[row, [chosen, chosen - 3 * vertices_per_joint]] = 0.9, 0.1
    shape = 0.02 * rng.normal(size=(24, 3, 10))[owner] + 0.002 * rng.normal(size=(count, 3, 10))
    return BodyData(
        name="small",
        gender="neutral",
        template=template.astype(np.float32),
        shape_directions=shape.astype(np.float32),
        pose_directions=(
            0.01 * rng.normal(size=(count, 3, 207)).astype(np.float32) if correctives else None
        ),
        joint_regressor=(np.eye(24)[owner].T / vertices_per_joint).astype(np.float32),
        skinning_weights=weights.astype(np.float32),
        parents=np.asarray(PARENTS, np.int32),
        triangles=rng.integers(0, count, (50, 3)).astype(np.int32),
        face_regressor=face.astype(np.float32),
    )


def write_data(folder: Path, clips: int) -> Path:
    """What pre-training needs: motion capture in `clips` and `body.npz`."""
    for seed in range(clips):
        write_clip(folder / "clips" / f"{seed}_poses.npz", seed=seed)
    save_body(folder / "body.npz", small_body())
    return folder


def write_clip(path: Path, frames: int = 40, seed: int = 0, **changes: object) -> Path:
    """A clip in AMASS layout of slow random motion; `changes` replace or (None) remove keys."""
    rng = np.random.default_rng(seed)
    poses = np.zeros((frames, 156), np.float32)
    ends = 0.4 * rng.normal(size=(2, 66))
    poses[:, :66] = np.linspace(ends[0], ends[1], frames)
    poses[:, 0] += np.pi / 2  # upright in a world whose z is up
    content: dict[str, object] = {
        "poses": poses,
        "trans": np.zeros((frames, 3), np.float32),
        "betas": np.zeros(16, np.float32),
        "gender": "neutral",
        "mocap_framerate": 30.0,
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return path
