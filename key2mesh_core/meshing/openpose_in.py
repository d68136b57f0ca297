# SPDX-License-Identifier: Apache-2.0
"""Folders of OpenPose's JSON files to images of persons."""

from __future__ import annotations

from collections.abc import Iterator

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import TargetError
from key2mesh_core.meshing import cameras
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.people import Image
from key2mesh_core.recordings.dropped import DroppedRecords
from key2mesh_core.recordings.open import open_recording
from key2mesh_core.recordings.options import RecordingOptions


class OpenPoseImages:
    """The images of one folder, in the order of their numbers.

    Attributes:
        assumed: whether nothing is known about the camera but the image's size.
        losses: nothing is lost here: a damaged file is refused.

    Raises:
        TargetError: a file is damaged or another's, or the folder holds several series.
        CameraError: the images' size is needed and was not given.
    """

    def __init__(self, config: MeshConfig) -> None:
        options = RecordingOptions(fps=config.fps, need_camera=False)
        self._detections = list(open_recording(f"openpose:{config.source}", options))
        series = sorted({each.stream for each in self._detections})
        if len(series) > 1:
            raise TargetError(
                f"{config.source} holds {len(series)} series of images, {', '.join(series[:3])}"
                "...: persons are followed within one, so give each a folder of its own"
            )
        self._camera: Intrinsics = cameras.from_options(
            config, *config.image_size
        ) or cameras.assumed(*config.image_size)
        self.assumed = not (config.camera_fx or config.fov)
        self.losses = DroppedRecords()

    def __len__(self) -> int:
        return len(self._detections)

    def __iter__(self) -> Iterator[Image]:
        for number, each in enumerate(self._detections):
            yield Image(number, each.number, each.stamp_ns, each.ids, each.keypoints, self._camera)
