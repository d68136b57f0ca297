# SPDX-License-Identifier: Apache-2.0
"""3DPW (von Marcard et al., ECCV 2018): real detections outdoors with SMPL bodies as truth.

`ROOT/sequenceFiles/{train,validation,test}/<sequence>.pkl` are pickles by Python 2: dictionaries
with one list entry per actor of `poses (F,72)` in the world, `betas (10,)` or more, `genders` ("m"
or "f"), `poses2d (F,3,18)` in OpenPose's COCO order (zeros where fewer than six joints were
detected), `campose_valid (F,)`, and, for all actors, `cam_poses (F,4,4)` world to camera and
`cam_intrinsics (3,3)`. As in SPIN's and the paper's preparation, images whose camera pose is not
valid do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError, TargetError
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.labelled import (
    LabelledPerson,
    check_finite,
    checked,
    in_camera,
    person_frames,
    read_labels,
)
from key2mesh_core.recordings.options import RecordingOptions
from key2mesh_core.recordings.prepare import DroppedRecords

SPLITS = {"train": 24, "validation": 12, "test": 24}
"""Number of sequences of each split of the release."""

_PER_ACTOR = ("poses", "betas", "genders", "poses2d", "campose_valid")
_KEYS = ("sequence", *_PER_ACTOR, "cam_poses", "cam_intrinsics")
_GENDERS = {"m": "male", "f": "female", "male": "male", "female": "female", "neutral": "neutral"}


def sequences(root: Path, split: str) -> dict[str, Callable[[], list[LabelledPerson]]]:
    """The sequences of a split, sorted by name, each with a function that reads it.

    Raises:
        EvaluationError: the split is unknown, or its folder is missing or empty.
    """
    if split not in SPLITS:
        raise EvaluationError(f"3DPW has the splits {', '.join(SPLITS)}; there is no {split!r}")
    folder = root / "sequenceFiles" / split
    files = sorted(folder.glob("*.pkl"))
    if not files:
        raise EvaluationError(
            f"{folder} has no .pkl; give the folder of 3DPW that contains sequenceFiles/{split}"
        )
    return {file.stem: partial(read_sequence, file) for file in files}


def read_sequence(path: Path) -> list[LabelledPerson]:
    """The actors of one sequence, with the images whose camera pose is valid.

    Raises:
        EvaluationError: the file is damaged or contains anything but arrays; an entry or an actor
            is missing, or arrays do not match.
    """
    content = read_labels(path, _KEYS, "3DPW")
    lists = {key: content.get(key) for key in _PER_ACTOR}
    if missing := [key for key, value in lists.items() if not isinstance(value, list)]:
        raise EvaluationError(f"{path} has no lists {', '.join(missing)}, which 3DPW has per actor")
    counts = {key: len(value) for key, value in lists.items()}
    if len(set(counts.values())) > 1 or not counts["poses"]:
        raise EvaluationError(f"{path}: an actor is missing; the entries per actor are {counts}")
    matrix = checked(str(path), content, "cam_intrinsics", (3, 3))
    # Images are 1920 x 1080 or 1080 x 1920, and the principal point is their centre.
    size = round(2 * matrix[0, 2]), round(2 * matrix[1, 2])
    camera = Camera(Intrinsics.from_matrix(matrix), *size, "cam_intrinsics of the sequence")
    return [_actor(path, content, number, camera) for number in range(counts["poses"])]


def _actor(path: Path, content: dict[str, Any], number: int, camera: Camera) -> LabelledPerson:
    where = f"{path}, actor {number}"
    own = {key: content[key][number] for key in _PER_ACTOR}
    poses = checked(where, own, "poses", (None, 72))
    frames = len(poses)
    valid = checked(where, own, "campose_valid", (frames,)) > 0
    detected = checked(where, own, "poses2d", (frames, 3, 18))
    extrinsics = checked(where, content, "cam_poses", (frames, 4, 4))
    betas = checked(where, own, "betas", (None,))
    gender = _GENDERS.get(str(own["genders"]).lower())
    if gender is None:
        raise EvaluationError(f"{where}: gender {own['genders']!r}; 3DPW has 'm' and 'f'")
    if len(betas) < 10:
        raise EvaluationError(f"{where}: {len(betas)} betas; at least 10 are expected")
    check_finite(where, poses[valid], betas, extrinsics[valid])
    return LabelledPerson(
        name=f"actor {number}",
        images=np.flatnonzero(valid),
        keypoints=to_network("openpose_coco_18", detected[valid].transpose(0, 2, 1)),
        camera=camera,
        poses=in_camera(poses[valid], extrinsics[valid, :3, :3]),
        betas=betas[:10],
        gender=gender,
        invalid=int(np.count_nonzero(~valid)),
    )


def read_frames(
    path: Path, options: RecordingOptions, dropped: DroppedRecords
) -> Iterator[PersonFrame]:
    """The detected people of one sequence (a .pkl), or the split `options.split` of its folder
    (by default "train"); images with an invalid camera pose are left out.

    Raises:
        TargetError: the path does not exist.
        EvaluationError: see `sequences` and `read_sequence`.
    """
    if not path.exists():
        raise TargetError(f"{path} is neither a sequence of 3DPW nor its folder")
    single = path.is_file()
    found = (
        {path.stem: partial(read_sequence, path)}
        if single
        else sequences(path, options.split or "train")
    )
    for name, read in found.items():
        people = read()
        dropped.add("invalid_camera_pose", name, sum(person.invalid for person in people))
        yield from person_frames(name, people, options.fps)
