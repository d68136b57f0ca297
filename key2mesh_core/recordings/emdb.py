# SPDX-License-Identifier: Apache-2.0
"""EMDB (Kaufmann et al., ICCV 2023): SMPL bodies in the wild from electromagnetic sensors.

`ROOT/P*/<sequence>/P*_<sequence>_data.pkl` are pickled dictionaries: `gender`, `emdb1` (whether the
sequence belongs to EMDB 1), `good_frames_mask (F,)`, `camera` with `intrinsics (3,3)`, `extrinsics
(F,4,4)` world to camera, `width` and `height`, `smpl` with `poses_root (F,3)`, `poses_body (F,69)`
and `betas (10,)`, and `kp2d (F,24,2)`, the exact projections of SMPL's joints. EMDB has no
detections.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.data import GENDERS, JOINT_NAMES
from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.recordings.labelled import (
    LabelledPerson,
    check_finite,
    checked,
    in_camera,
    read_labels,
)
from key2mesh_core.recordings.one_person import one_person

SEQUENCES = 17
"""Number of sequences of EMDB 1."""

_KEYS = ("gender", "emdb1", "good_frames_mask", "camera", "smpl", "kp2d", "bboxes")


def sequences(
    root: Path, detections: Path | None = None
) -> dict[str, Callable[[], list[LabelledPerson]]]:
    """The sequences of EMDB 1, sorted by name, each with a function that reads it.

    Args:
        root: the folder with P0 to P9.
        detections: folder with OpenPose's files, `P*/<sequence>/<image>_keypoints.json` (or in a
            subfolder). Without it, the exact projections of SMPL's joints take their place.

    Raises:
        EvaluationError: there is no sequence, a file is damaged, or there are no detections.
    """
    files = sorted(root.glob("P*/*/*_data.pkl"))
    if not files:
        raise EvaluationError(
            f"{root} has no P*/<sequence>/*_data.pkl; give EMDB's folder with P0 to P9"
        )
    found = {}
    for file in files:
        if not read_labels(file, ("emdb1",), "EMDB").get("emdb1"):
            continue
        name = file.parent.relative_to(root).as_posix()
        folder = None if detections is None else detections / name
        found[name] = partial(_read, file, folder)
    if not found:
        raise EvaluationError(f"none of the {len(files)} sequences in {root} belongs to EMDB 1")
    return found


def _read(file: Path, detections: Path | None) -> list[LabelledPerson]:
    content = read_labels(file, _KEYS, "EMDB")
    for key in ("camera", "smpl"):
        if not isinstance(content.get(key), dict):
            raise EvaluationError(f"{file} has no dictionary {key!r}; it has {sorted(content)}")
    view, smpl = content["camera"], content["smpl"]
    body = checked(str(file), smpl, "poses_body", (None, 69))
    frames = len(body)
    poses = np.concatenate([checked(str(file), smpl, "poses_root", (frames, 3)), body], axis=1)
    betas = checked(str(file), smpl, "betas", (10,))
    good = checked(str(file), content, "good_frames_mask", (frames,)) > 0
    extrinsics = checked(str(file), view, "extrinsics", (frames, 4, 4))
    intrinsics = Intrinsics.from_matrix(checked(str(file), view, "intrinsics", (3, 3)))
    gender = str(content.get("gender"))
    if gender not in GENDERS:
        raise EvaluationError(f"{file}: gender {gender!r}; EMDB has {', '.join(GENDERS)}")
    check_finite(str(file), poses[good], betas, extrinsics[good])
    images = np.flatnonzero(good)
    if detections is None:
        keypoints = _projections(checked(str(file), content, "kp2d", (frames, 24, 2))[good])
    else:
        keypoints = _detected(file, content, images, detections)
    size = int(view.get("width", 0)), int(view.get("height", 0))
    return [
        LabelledPerson(
            name="",
            images=images,
            keypoints=keypoints,
            camera=Camera(intrinsics, *size, "camera of the sequence"),
            poses=in_camera(poses[good], extrinsics[good, :3, :3]),
            betas=betas,
            gender=gender,
            invalid=int(np.count_nonzero(~good)),
        )
    ]


def _projections(joints: NDArray) -> NDArray[np.float32]:
    """SMPL's projected joints (F, 24, 2) as keypoints; those of the face are unseen."""
    keypoints = np.zeros((len(joints), len(KEYPOINTS), 3), np.float32)
    for number, keypoint in enumerate(KEYPOINTS):
        if keypoint.joint:
            keypoints[:, number, :2] = joints[:, JOINT_NAMES.index(keypoint.joint)]
            keypoints[:, number, 2] = 1
    return keypoints


def _detected(
    file: Path, content: dict[str, Any], images: NDArray[np.intp], folder: Path
) -> NDArray[np.float32]:
    files = {}
    for path in folder.rglob("*.json"):
        digits = path.stem.removesuffix("_keypoints").rpartition("_")[2]
        if digits.isdecimal():
            files[int(digits)] = path
    if not files:
        raise EvaluationError(
            f"{folder} has no detections: run OpenPose with --write_json on the images of {file}"
        )
    boxes = content.get("bboxes")
    boxes = boxes.get("bboxes") if isinstance(boxes, dict) else None
    return one_person(
        [files.get(int(image)) for image in images], None if boxes is None else boxes[images]
    )
