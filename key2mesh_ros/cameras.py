# SPDX-License-Identifier: Apache-2.0
"""Which camera a frame's keypoints were seen by: CameraInfo, else parameters, else a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from key2mesh_core.camera.choose import CameraOptions, newest_info
from key2mesh_core.camera.choose import choose_camera as choose
from key2mesh_core.camera.lens import Distortion
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError
from key2mesh_core.people.messages import MessageRefused

from .inputs import Frame
from .parameters import Parameters

__all__ = ["Camera", "CameraMemory", "choose_camera", "newest_info"]

ASSUMED_QUALITY = 0.5
"""Most that `quality` may say while the camera is guessed: positions are then to scale only."""


@dataclass(frozen=True)
class Camera:
    """The camera of a frame.

    Attributes:
        intrinsics: px of the keypoints' image.
        description: where they come from, in words, for the diagnostics.
        warnings: causes to doubt them, by their names in the diagnostics.
        assumed: nothing is known about the lens: `position` is scale-free, since its depth
            follows a guessed field of view.
        distortion: what the lens does to keypoints, if it does anything.
    """

    intrinsics: Intrinsics
    description: str
    warnings: tuple[str, ...] = ()
    assumed: bool = False
    distortion: Distortion | None = None


def choose_camera(info: Any | None, parameters: Parameters, frame: Frame) -> Camera:
    """The camera for `frame`, from the newest sensor_msgs/CameraInfo or None.

    Raises:
        MessageRefused: neither CameraInfo nor a size of the image that a camera can have is
            known.
    """
    options = CameraOptions(
        fx=parameters.camera_fx,
        fy=parameters.camera_fy if parameters.camera_fx else 0.0,
        cx=parameters.camera_cx if parameters.camera_fx else 0.0,
        cy=parameters.camera_cy if parameters.camera_fx else 0.0,
        assumed_fov_deg=parameters.horizontal_fov_deg,
        rectified=parameters.image_rectified,
    )
    try:
        chosen = choose(
            info,
            options,
            width=frame.width,
            height=frame.height,
            frame_id=frame.header.frame_id,
        )
    except CameraError as error:
        raise MessageRefused("no_image_size", str(error)) from error
    return Camera(
        chosen.intrinsics,
        chosen.description,
        chosen.warnings,
        assumed=not chosen.metric,
        distortion=chosen.lens,
    )


class CameraMemory:
    """`choose_camera`, asked again only when something that it depends on has changed."""

    def __init__(self) -> None:
        self._seen: tuple[Any, ...] = (None, None, None)
        self._camera: Camera | None = None

    def choose(self, info: Any | None, parameters: Parameters, frame: Frame) -> Camera:
        """See `choose_camera`; `info` counts as changed when it is another object."""
        last_info, last_parameters, last_image = self._seen
        image = frame.width, frame.height, frame.header.frame_id
        if (
            self._camera is None
            or info is not last_info
            or parameters is not last_parameters
            or image != last_image
        ):
            self._camera = choose_camera(info, parameters, frame)
            self._seen = info, parameters, image
        return self._camera
