# SPDX-License-Identifier: Apache-2.0
"""The camera that recorded keypoints were seen by, as the recording's CameraInfo describes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.camera_info import image_intrinsics, image_lens
from key2mesh_core.camera.lens import Distortion, undistort
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.recordings.bags import Topic, read_messages
from key2mesh_core.recordings.own_messages import CAMERA_TYPE


def first_infos(
    path: Path, names: Iterable[str], keypoints: str, only_camera: bool = True
) -> dict[str, Any]:
    """The first CameraInfo of each of some topics; of several, those that have the frame of the
    first message on the topic `keypoints`. So must a single one where other cameras saw something
    as well, which it may belong to.

    Raises:
        BagError: see `bags.read_messages`.
    """
    infos = {name: next(read_messages(path, name, CAMERA_TYPE)).value for name in sorted(names)}
    if len(infos) > 1 or not only_camera:
        frame = first_frame(path, keypoints)
        infos = {name: info for name, info in infos.items() if info.header.frame_id == frame}
    return infos


def first_frame(path: Path, keypoints: str) -> str:
    """The frame of the first message on the topic `keypoints`.

    Raises:
        BagError: see `bags.read_messages`.
    """
    return next(read_messages(path, keypoints)).value.header.frame_id


class BagCamera:
    """The camera of a recording's keypoints, where its CameraInfo leaves no doubt which that is.

    Args:
        topics: all of the recording's.
        keypoints: the keypoints' topic.
        rectified: whether the image is rectified: P is its camera then, and no lens bends it.
        only_camera: whether no other camera's keypoints are read from the recording.

    Attributes:
        info: the sensor_msgs/CameraInfo; None where the camera is not known.

    Raises:
        BagError: see `bags.read_messages`.
    """

    def __init__(
        self,
        path: Path,
        topics: Iterable[Topic],
        keypoints: str,
        rectified: bool,
        only_camera: bool = True,
    ) -> None:
        names = [t.name for t in topics if t.message_type == CAMERA_TYPE and t.message_count]
        infos = first_infos(path, names, keypoints, only_camera)
        self.info = next(iter(infos.values())) if len(infos) == 1 else None
        self._rectified = rectified
        self._known: dict[tuple[int, int], tuple[Intrinsics | None, Distortion | None]] = {}

    def straighten(
        self, keypoints: NDArray[np.float32], width: int, height: int
    ) -> tuple[NDArray[np.float32], Intrinsics | None]:
        """Keypoints (N, 18, 3) of an image of `width` x `height` px (0: as the camera's), lens
        undone, and its intrinsics; as they are, and None, where the camera is not known.

        An uncalibrated camera counts as not known. A lens of an unknown model is left as it is, as
        the node leaves it: what is learned from is what the model will see.
        """
        size = width, height
        if size not in self._known:
            self._known[size] = self._of_image(width, height)
        intrinsics, lens = self._known[size]
        if intrinsics is not None and lens is not None:
            keypoints = undistort(sanitise(keypoints), intrinsics, lens)
        return keypoints, intrinsics

    def _of_image(self, width: int, height: int) -> tuple[Intrinsics | None, Distortion | None]:
        if self.info is None:
            return None, None
        try:
            intrinsics = image_intrinsics(self.info, width, height, self._rectified)
        except CameraError:
            return None, None
        try:
            return intrinsics, image_lens(self.info, self._rectified)
        except CameraError:
            return intrinsics, None
