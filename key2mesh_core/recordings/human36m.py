# SPDX-License-Identifier: Apache-2.0
"""Human3.6M's test subjects (Protocol 2): 3D joints in the frontal camera, and detections.

Two forms of the truth are read:

- SPIN's `h36m_valid_protocol2.npz`: `imgname (N,)` as "S9_Directions_1.60457274_000001.jpg" with
  the image number from 1, and `S (N,24,4)`: joints in the camera's frame and whether they are
  known; every fifth image. An array `openpose (N,25,3)`, if there is one, is the detections;
- VideoPose3D's `data_3d_h36m.npz`: `positions_3d`, a pickled dictionary of subjects and actions
  with (F,32,3) joints in the world [m]. Every fifth frame counts, as in SPIN's file.

Detections are files of OpenPose's `--write_json`, found by subject, action, camera and image in
their path: of images named as SPIN names them (six digits, from 1), or of the original videos
(`S9/Directions 1.60457274_000000000000_keypoints.json`: twelve digits, from 0).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.pickles import read_pickled_npz
from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.lens import BROWN, Distortion
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BodyFileError, EvaluationError
from key2mesh_core.geometry.rotations import quaternion_to_matrix
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.recordings.labelled import LabelledPerson, checked
from key2mesh_core.recordings.one_person import one_person

SUBJECTS = ("S9", "S11")
FRONTAL_CAMERA = "60457274"
"""Camera 3, counted from 0."""
EVERY = 5

JOINTS_OF_SPIN = (*range(13), 18, 14)
"""Rows of SPIN's 24 joints: the 14 that count (right ankle, knee, hip, left hip, knee, ankle, right
wrist, elbow, shoulder, left shoulder, elbow, wrist, neck, head), then the pelvis."""
JOINTS_OF_32 = (3, 2, 1, 6, 7, 8, 27, 26, 25, 17, 18, 19, 13, 15, 0)
"""The same of Human3.6M's 32 joints."""

# Human3.6M's calibration, as published with VideoPose3D (common/h36m_dataset.py).
CAMERA = Camera(
    Intrinsics(1145.5113525390625, 1144.77392578125, 514.9682006835938, 501.88201904296875),
    1000,
    1002,
    f"calibration of Human3.6M's camera {FRONTAL_CAMERA}",
    lens=Distortion(
        BROWN,
        (
            -0.198384091258049, 0.21832367777824402, -0.0005872055771760643, -0.0018133620033040643,
            -0.008947807364165783, *[0.0] * 7,
        ),
    ),
)  # fmt: skip
CAMERA_TO_WORLD_QUATERNIONS = {
    "S9": (0.5879399180412292, -0.7823407053947449, 0.1427614390850067, -0.14794869720935822),
    "S11": (0.5894251465797424, -0.7818877100944519, 0.13991211354732513, -0.14715361595153809),
}
"""Orientation (w, x, y, z) of the frontal camera in the world of each test subject."""

_IMAGE = re.compile(r"(S\d+)[_/](?:.*/)?(?:S\d+[_/])?([^/]+?)\.(\d{8})[_/](\d+)(?:_keypoints)?$")

Key = tuple[str, str, str, int]
"""Subject, action, camera, image number from 0."""


def sequences(
    truth: Path, detections: Path | None = None
) -> dict[str, Callable[[], list[LabelledPerson]]]:
    """The actions of S9 and S11 in the frontal camera, each with a function that reads it.

    Args:
        truth: SPIN's or VideoPose3D's file.
        detections: folder of OpenPose's files; may be None if the truth contains detections.

    Raises:
        EvaluationError: a file is damaged or in another layout, or there are no detections.
    """
    names = _names_in(truth)
    if "positions_3d" in names:
        joints, own = _of_videopose3d(truth), {}
    elif {"imgname", "S"} <= names:
        joints, own = _of_spin(truth)
    else:
        raise EvaluationError(
            f"{truth} has neither imgname and S (SPIN's h36m_valid_protocol2.npz) nor positions_3d "
            f"(VideoPose3D's data_3d_h36m.npz); it has {sorted(names)}"
        )
    files = _find_detections(detections) if detections is not None else {}
    if not (own or files):
        raise EvaluationError(
            "Human3.6M's truth has no detections: run OpenPose with --write_json on the images or "
            f"videos of camera {FRONTAL_CAMERA}, and give the folder with --detections"
        )
    actions: dict[str, list[Key]] = {}
    for key in sorted(joints):
        actions.setdefault(f"{key[0]} {key[1]}", []).append(key)
    return {name: partial(_read, keys, joints, own, files) for name, keys in actions.items()}


def _names_in(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"{path} cannot be read as an .npz: {error}") from error


def _of_spin(path: Path) -> tuple[dict[Key, NDArray], dict[Key, NDArray]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {k: stored[k] for k in ("imgname", "S", "openpose") if k in stored.files}
    except Exception as error:  # damage makes numpy raise nearly anything
        raise EvaluationError(f"{path} cannot be read as an .npz of arrays: {error}") from error
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in arrays["imgname"].ravel()]
    truth = checked(str(path), arrays, "S", (len(names), 24, 4))[:, JOINTS_OF_SPIN]
    if not (truth[..., 3] > 0).all():
        raise EvaluationError(f"{path}: a joint that counts is unknown in S")
    keys = [_key(name) for name in names]
    if bad := [name for name, key in zip(names, keys, strict=True) if key is None]:
        raise EvaluationError(
            f"{path}: imgname {bad[0]!r} is not SUBJECT_ACTION.CAMERA_IMAGE.jpg as in SPIN's file"
        )
    kept = [row for row, key in enumerate(keys) if key[0] in SUBJECTS and key[2] == FRONTAL_CAMERA]
    if not kept:
        raise EvaluationError(
            f"{path} has no image of {', '.join(SUBJECTS)} in camera {FRONTAL_CAMERA}"
        )
    own = {}
    if "openpose" in arrays:
        detected = checked(str(path), arrays, "openpose", (len(names), 25, 3))
        detected = to_network("openpose_body_25", detected)
        own = {keys[row]: detected[row] for row in kept}
    return {keys[row]: truth[row, :, :3] for row in kept}, own


def _of_videopose3d(path: Path) -> dict[Key, NDArray]:
    try:
        content = read_pickled_npz(path, "positions_3d")
    except BodyFileError as error:
        raise EvaluationError(f"not VideoPose3D's file of Human3.6M: {error}") from error
    found = {}
    for subject in SUBJECTS:
        actions = content.get(subject)
        if not isinstance(actions, dict):
            raise EvaluationError(f"{path} has no subject {subject}; it has {sorted(content)}")
        turn = quaternion_to_matrix(np.array(CAMERA_TO_WORLD_QUATERNIONS[subject])).T
        for action in actions:
            where = f"{path}, {subject} {action}"
            world = checked(where, actions, action, (None, 32, 3))[::EVERY, JOINTS_OF_32]
            for number, joints in enumerate(world @ turn.T):
                found[subject, _canonical(action), FRONTAL_CAMERA, number * EVERY] = joints
    return found


def _find_detections(folder: Path) -> dict[Key, Path]:
    found = {}
    for file in folder.rglob("*.json"):
        key = _key(file.relative_to(folder.parent).as_posix())
        if key is not None and key[0] in SUBJECTS and key[2] == FRONTAL_CAMERA:
            found[key] = file
    if not found:
        raise EvaluationError(
            f"{folder} has no detections: none of its JSON files is named like "
            f"S9_Directions_1.{FRONTAL_CAMERA}_000001_keypoints.json (images, from 1) or "
            f"S9/Directions 1.{FRONTAL_CAMERA}_000000000000_keypoints.json (videos, from 0)"
        )
    return found


def _key(path: str) -> Key | None:
    found = _IMAGE.search(path.rpartition(".")[0])
    if found is None:
        return None
    subject, action, camera, digits = found.groups()
    # OpenPose numbers the frames of a video from 0, with twelve digits; SPIN's images count from 1.
    return subject, _canonical(action), camera, int(digits) - (len(digits) < 12)


def _canonical(action: str) -> str:
    spaced = action.replace("_", " ").replace("TakingPhoto", "Photo")
    return spaced.replace("WalkingDog", "WalkDog")


def _read(
    keys: list[Key], joints: dict[Key, NDArray], own: dict[Key, NDArray], files: dict[Key, Path]
) -> list[LabelledPerson]:
    detected = one_person([files.get(key) for key in keys]) if files else [own[k] for k in keys]
    return [
        LabelledPerson(
            name="",
            images=np.array([key[3] for key in keys]),
            keypoints=np.array(detected, np.float32),
            camera=CAMERA,
            joints=np.array([joints[key] for key in keys], np.float64),
        )
    ]
