# SPDX-License-Identifier: Apache-2.0
"""zed_msgs/ObjectsStamped of the ZED wrapper's body tracking.

Based on the sources of zed-ros2-wrapper 4.0.8 to 5.4.1 (`processBodies`, `fillCamInfo`,
`pub_resolution`) and zed-ros2-interfaces 3.8 to 5.3.0, https://github.com/stereolabs:

Frame: the header names `<camera>_left_camera_frame` (x forward, z up), the frame of `skeleton_3d`.
The pixels of `skeleton_2d` belong to the optical frame of the left eye, which the reader returns:
CameraInfo names it; without CameraInfo it is `<camera>_left_camera_frame_optical`, the name since
5.1 (up to 5.0: `<camera>_left_camera_optical_frame`).
Resolution: pixels of the rectified left image as the ZED grabs it. The message does not name that
resolution, and CameraInfo describes the published images, by default half as large
(`pub_resolution: CUSTOM` with `pub_downscale_factor: 2.0`; `NATIVE` since April 2026). The reader
uses the first of these sizes that is known: the size that the user states; CameraInfo's size times
the scale at which `skeleton_3d`, projected with CameraInfo's camera, fits `skeleton_2d`; the size
from an earlier message (`StreamResolution`); CameraInfo's size, with a warning.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.camera_info import image_intrinsics, image_size
from key2mesh_core.camera.choose import CameraOptions, known_size
from key2mesh_core.errors import CameraError
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.people.messages.reading import UNKNOWN_RESOLUTION, MessageRefused, person_frame
from key2mesh_core.people.person_frame import PersonFrame

# zed_msgs/Object.body_format, in the order of the ZED SDK's BODY_FORMAT.
_LAYOUTS = {0: "openpose_coco_18", 1: "zed_34", 2: "zed_38"}

# Grab resolutions (sl::RESOLUTION), width and height of one eye [px].
_GRABBED = (
    *((3840, 2160), (3200, 1800), (2208, 1242), (1920, 1536), (1920, 1200), (1920, 1080)),
    *((1280, 720), (1024, 768), (960, 600), (672, 376), (512, 384)),
)

_LEAST_POINTS = 4
"""Minimum number of joints, in 3D and in the image, to determine the resolution."""

_MOST_MISFIT = 0.1
"""If joints miss their keypoints by more than this share of the keypoints' distance from the image
corner, they belong to another camera."""

_SAME = 0.08
"""Sizes that differ by less than this share are equal: the SDK's joints are not exact."""


def read_zed(message: Any, info: Any | None, options: CameraOptions) -> PersonFrame:
    """The people in a zed_msgs/ObjectsStamped of body tracking.

    A keypoint counts as seen if it is finite, not negative (the SDK's value for unseen) and not (0,
    0) (the wrapper's). All keypoints get the body's confidence, because they have none of their
    own. Arguments are those of `messages.Reader`.

    Raises:
        MessageRefused: `unknown_layout`, a skeleton of 70 keypoints, or two kinds at once;
            `no_keypoints`, no object has a skeleton.
    """
    bodies = [body for body in message.objects if body.skeleton_available]
    if len(message.objects) and not bodies:
        raise MessageRefused(
            "no_keypoints",
            f"none of {len(message.objects)} objects has a skeleton: subscribe to the topic of "
            "body tracking, not of object detection",
        )
    formats = {int(body.body_format) for body in bodies}
    if len(formats) > 1 or not formats <= set(_LAYOUTS):
        raise MessageRefused(
            "unknown_layout",
            f"skeletons of body_format {sorted(formats)}; known: 0 (18 keypoints), 1 (34), 2 (38): "
            "set body_tracking.body_format of the ZED's node",
        )
    layout = get_layout(_LAYOUTS[formats.pop() if formats else 0])
    persons = [_person(body, len(layout)) for body in bodies]
    size = options.image_size if all(options.image_size) else _grabbed(bodies, persons, info)
    # Without tracking, each body has id -1, or a different number in every image.
    ids = [
        str(body.label_id) if body.tracking_available and body.label_id >= 0 else ""
        for body in bodies
    ]
    size_or_guess = known_size(info, options) if size is None else size
    frame = person_frame(message.header, ids, persons, layout, size_or_guess)
    frame = replace(frame, frame_id=_optical(frame.frame_id, info))
    if size is None and bodies and info is not None:
        reason = (
            "the ZED's keypoints are in its grab resolution, which skeleton_3d does "
            f"not reveal here, and CameraInfo's {frame.width} x {frame.height} px may be smaller: "
            "set the image size to the grab resolution, or publish with "
            "general.pub_resolution: NATIVE"
        )
        frame = replace(frame, warnings=(UNKNOWN_RESOLUTION,), reasons=(reason,))
    return frame


def _optical(frame_id: str, info: Any | None) -> str:
    """The optical frame of the left eye."""
    camera = frame_id.removesuffix("_left_camera_frame")
    if camera == frame_id:  # not the wrapper's name: somebody has corrected it
        return frame_id
    names = f"{frame_id}_optical", f"{camera}_left_camera_optical_frame"
    named = "" if info is None else info.header.frame_id
    return named if named in names else names[0]


def _person(body: Any, count: int) -> NDArray[np.float32]:
    person = np.zeros((count, 3), dtype=np.float32)
    person[:, :2] = [point.kp for point in body.skeleton_2d.keypoints[:count]]
    points = person[:, :2]
    with np.errstate(invalid="ignore"):
        seen = np.isfinite(points).all(axis=1) & (points >= 0).all(axis=1) & points.any(axis=1)
    confidence = max(body.confidence / 100, SEEN_CONFIDENCE)  # SDK: 1 to 99
    person[:, 2] = np.where(seen, confidence, 0.0)
    return person


def _grabbed(
    bodies: list, persons: list[NDArray[np.float32]], info: Any | None
) -> tuple[int, int] | None:
    """The ZED's grab resolution [px], derived from joints in 3D and in the image; None if
    CameraInfo is missing or uncalibrated, or the joints do not fit their keypoints."""
    if info is None or not bodies:
        return None
    try:
        camera, _ = image_intrinsics(info, 0, 0, rectified=True)
    except CameraError:
        return None
    pixels = np.concatenate(persons)
    count = len(persons[0])
    points = np.array(
        [[joint.kp for joint in body.skeleton_3d.keypoints[:count]] for body in bodies], float
    ).reshape(-1, 3)
    known = (pixels[:, 2] > 0) & np.isfinite(points).all(axis=1) & points.any(axis=1)
    # The wrapper's axes (x forward, z up), or those of the optical frame.
    for optical in (points @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), points):
        used = known & (optical[:, 2] > 0)
        if used.sum() < _LEAST_POINTS:
            continue
        x, y, z = optical[used].T
        seen = np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], axis=1)
        keypoints = pixels[used, :2]
        scale = np.median((keypoints * seen).sum(axis=1) / (seen * seen).sum(axis=1))
        beside = np.linalg.norm(keypoints - scale * seen, axis=1)
        if np.median(beside / np.linalg.norm(keypoints, axis=1)) <= _MOST_MISFIT:
            return _nearest(image_size(info), float(scale))
    return None


def _nearest(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """A size times a scale, snapped to the size itself or to a ZED resolution if nearly equal."""
    found = np.array(size) * scale
    for known in (size, *sorted(_GRABBED, key=lambda each: abs(each[0] - found[0]))):
        if np.abs(np.array(known) / found - 1).max() <= _SAME:
            return known
    return round(found[0]), round(found[1])
