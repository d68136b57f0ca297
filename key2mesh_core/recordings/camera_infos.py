# SPDX-License-Identifier: Apache-2.0
"""Finds the CameraInfo topic of a recording that describes the keypoints' camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.camera.choose import Camera, CameraOptions, choose_camera
from key2mesh_core.errors import BagError, CameraError
from key2mesh_core.people.messages import BY_TYPE, MessageRefused
from key2mesh_core.recordings.bags import CAMERA_TYPE, Topic, read_messages


def find_camera(
    path: Path,
    topics: Sequence[Topic],
    keypoints: Topic,
    options: CameraOptions,
    wanted: str = "",
    alone: bool = True,
) -> tuple[str, Any | None]:
    """The CameraInfo topic for a keypoint topic, and its first message; "" and None if there is
    none.

    Of several CameraInfo topics, those with the keypoints' frame count; if these agree (RealSense:
    colour, and depth aligned to it), they count as one.

    Args:
        topics: all topics of the recording.
        options: what the user states; a stated camera needs no CameraInfo.
        wanted: name of the CameraInfo topic, if the user chose one.
        alone: whether no other camera's keypoints are read from the recording; a single CameraInfo
            then applies whatever its frame.

    Raises:
        BagError: there is no such topic, or several differ and the user chose none; see also
            `bags.read_messages`.
    """
    names = sorted({t.name for t in topics if t.message_type == CAMERA_TYPE and t.message_count})
    if wanted:
        if wanted not in names:
            known = ", ".join(names) or "no topic"
            raise BagError(f"{path} has no CameraInfo on {wanted!r}; it has it on: {known}")
        return wanted, _first(path, wanted)
    infos = {name: _first(path, name) for name in names}
    if not infos or (len(infos) == 1 and alone):
        return next(iter(infos.items()), ("", None))
    message = next(read_messages(path, keypoints.name))
    seen = {
        name: camera
        for name, info in infos.items()
        if (camera := _seen_by(info, message, keypoints.message_type, options)) is not None
    }
    calibrated = {name: camera for name, camera in seen.items() if camera.metric} or seen
    if calibrated and _same(list(calibrated.values())):
        name = next(iter(calibrated))
        return name, infos[name]
    if options.stated or not (alone or seen):
        return "", None
    frame = f"the keypoints' frame {message.header.frame_id!r}"
    why = f"those of {frame} ({', '.join(calibrated)}) differ" if seen else f"none has {frame}"
    raise BagError(
        f"{path} has CameraInfo on {', '.join(names)}; {why}: choose with camera_info=TOPIC "
        "(--camera-topic TOPIC)"
    )


def _first(path: Path, topic: str) -> Any:
    return next(read_messages(path, topic, CAMERA_TYPE))


def _seen_by(info: Any, message: Any, kind: str, options: CameraOptions) -> Camera | None:
    """The camera of a keypoint message according to a CameraInfo; None if their frames differ."""
    plain = replace(CameraOptions(), image_size=options.image_size, rectified=options.rectified)
    frame_id, width, height = message.header.frame_id, 0, 0
    try:
        read = BY_TYPE[kind].read(message, info, plain)
        frame_id, width, height = read.frame_id, read.width, read.height
    except MessageRefused:
        pass  # only the header of this message is needed
    if info.header.frame_id != frame_id:
        return None
    try:
        return choose_camera(info, plain, width=width, height=height, frame_id=frame_id)
    except CameraError:
        return None


def _same(cameras: list[Camera]) -> bool:
    """Whether cameras agree to a thousandth."""
    values = np.array([[*c.intrinsics.as_array(), c.width, c.height] for c in cameras], float)
    alike = np.allclose(values, values[:1], rtol=1e-3)
    return alike and len({camera.lens for camera in cameras}) <= 1
