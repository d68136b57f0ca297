# SPDX-License-Identifier: Apache-2.0
"""Which camera a frame's keypoints were seen by: CameraInfo, else parameters, else a guess."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from key2mesh_core.camera.camera_info import image_intrinsics, image_part, image_scale
from key2mesh_core.camera.lens import Distortion, read_distortion
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError
from key2mesh_core.people.messages import MessageRefused

from .inputs import Frame
from .parameters import Parameters

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
    warnings: tuple[str, ...] = ()
    if info is not None:
        try:
            return _from_camera_info(info, frame, parameters.image_rectified)
        except CameraError:
            warnings = ("uncalibrated_camera_info",)
    degrees = parameters.horizontal_fov_deg
    try:
        if parameters.camera_fx > 0:
            intrinsics = _from_parameters(parameters, frame)
            return Camera(intrinsics, "parameters camera_fx, fy, cx, cy", warnings)
        _need_size(frame)
        intrinsics = Intrinsics.from_field_of_view(
            frame.width, frame.height, horizontal_degrees=degrees
        )
    except CameraError as error:  # of an image as large as no camera's
        size = f"{frame.width} x {frame.height}"
        raise MessageRefused("no_image_size", f"the image's size is {size}: {error}") from error
    text = f"assumed, {degrees:g} degrees wide: positions are scale-free"
    return Camera(intrinsics, text, (*warnings, "no_camera_info"), assumed=True)


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


def newest_info(before: Any | None, info: Any) -> Any:
    """The newer of two sensor_msgs/CameraInfo; the one before if both say the same."""
    return before if before is not None and _content(before) == _content(info) else info


def _content(info: Any) -> tuple[Any, ...]:
    """All that is looked at; drivers send it anew with every image."""
    roi = info.roi
    return (
        (info.header.frame_id, info.width, info.height),
        (roi.width, roi.height, roi.x_offset, roi.y_offset),
        (info.distortion_model, tuple(info.d), tuple(info.k), tuple(info.p)),
    )


def image_size(info: Any | None, parameters: Parameters) -> tuple[int, int]:
    """Width and height [px] of the detector's image where its messages do not say; 0 if nobody
    does."""
    if parameters.image_width and parameters.image_height:
        return parameters.image_width, parameters.image_height
    if info is None:
        return 0, 0
    return image_part(info)[2:]


def _from_camera_info(info: Any, frame: Frame, rectified: bool) -> Camera:
    text, warnings, distortion = "CameraInfo", [], None
    if rectified:
        text = "CameraInfo, rectified"
    elif any(info.d):
        try:
            distortion = _distortion(info.distortion_model, tuple(info.d))
            text = f"CameraInfo, {info.distortion_model} undone"
        except CameraError:
            warnings.append("unknown_distortion")
    intrinsics = image_intrinsics(info, frame.width, frame.height, rectified)
    across, down = image_scale(info, frame.width, frame.height)
    if across != 1 or down != 1:
        _, _, width, height = image_part(info)
        text += f" of {width} x {height} px, scaled to the keypoints' {frame.width} x "
        text += f"{frame.height} px"
        if abs(across / down - 1) > 0.02:  # more than rounding of a resized image
            warnings.append("camera_info_aspect")
    if info.header.frame_id != frame.header.frame_id:
        warnings.append("camera_info_frame")
    return Camera(intrinsics, text, tuple(warnings), distortion=distortion)


_distortion = lru_cache(maxsize=16)(read_distortion)
"""Checked once for a camera, not for every frame."""


def _from_parameters(parameters: Parameters, frame: Frame) -> Intrinsics:
    if not (parameters.camera_cx and parameters.camera_cy):
        _need_size(frame)
    return Intrinsics(
        parameters.camera_fx,
        parameters.camera_fy or parameters.camera_fx,
        parameters.camera_cx or frame.width / 2,
        parameters.camera_cy or frame.height / 2,
    )


def _need_size(frame: Frame) -> None:
    if frame.width <= 0 or frame.height <= 0:
        raise MessageRefused(
            "no_image_size",
            f"the image's size is {frame.width} x {frame.height} and no CameraInfo has come; "
            "fill image_width and image_height (in the message, or as parameters), or publish "
            "CameraInfo, or set camera_fx, camera_cx and camera_cy",
        )
