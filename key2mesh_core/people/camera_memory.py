# SPDX-License-Identifier: Apache-2.0
"""Chooses the camera of each frame of a stream, and remembers it for the next."""

from __future__ import annotations

from typing import Any

from key2mesh_core.camera.camera_info import unbinned_size
from key2mesh_core.camera.choose import (
    Camera,
    CameraOptions,
    choose_camera,
    known_size,
    lies_outside,
)
from key2mesh_core.people.person_frame import PersonFrame


class CameraMemory:
    """Chooses the camera of every frame of a stream, again only when an input has changed."""

    def __init__(self) -> None:
        self._seen: tuple[Any, ...] = ()
        self._camera: Camera

    def choose(self, frame: PersonFrame, info: Any | None, options: CameraOptions) -> Camera:
        """`choose_camera` for a frame in the network's order.

        If nothing tells the image size, people outside CameraInfo's binned image and inside the
        unbinned one show that the images are not binned. That holds for all later frames.

        Raises:
            CameraError: see `choose_camera`.
        """
        image = {"width": frame.width, "height": frame.height, "frame_id": frame.frame_id}
        seen = options, image, None if info is None else _content(info)
        if seen != self._seen:
            self._camera = choose_camera(info, options, **image)
            self._seen = seen
        size = self._camera.width, self._camera.height
        told = options.stated or all(known_size(None, options, frame.width, frame.height))
        if info is None or told or not lies_outside(frame.keypoints, size):
            return self._camera
        whole = unbinned_size(info)
        if size != whole and not lies_outside(frame.keypoints, whole):
            image = {**image, "width": whole[0], "height": whole[1]}
            self._camera = choose_camera(info, options, **image).with_warning(
                "camera_info_doubtful",
                f"CameraInfo is doubtful: binning gives images of {size[0]} x {size[1]} px, but "
                f"people are outside; {whole[0]} x {whole[1]} px are assumed from now on: state "
                "the size of the image, or give the CameraInfo of that image",
            )
        return self._camera


def _content(info: Any) -> tuple[Any, ...]:
    """Everything that matters: drivers send it with every image, mostly unchanged."""
    roi = info.roi
    return (
        (info.header.frame_id, info.width, info.height, info.binning_x, info.binning_y),
        (roi.width, roi.height, roi.x_offset, roi.y_offset),
        (info.distortion_model, tuple(info.d), tuple(info.k), tuple(info.p)),
    )
