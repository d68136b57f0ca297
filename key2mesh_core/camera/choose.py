# SPDX-License-Identifier: Apache-2.0
"""Chooses the camera of an image: what the user states, else CameraInfo, else a guess.

The node and every command use this policy. In this order:

1. the focal length or field of view that the user states (`CameraOptions`): a pinhole camera;
2. CameraInfo: region of interest, binning and the image's size applied, P for rectified images,
   the lens (`camera_info.py`);
3. an assumed field of view: depth is then correct only up to a factor (`Camera.metric` is False).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.camera_info import image_intrinsics, image_size
from key2mesh_core.camera.lens import Distortion, read_distortion
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE

ASSUMED_FOV_DEG = 60.0
"""Assumed horizontal field of view of an unknown camera [degrees]."""

ASPECT_TOLERANCE = 0.02
"""If aspect ratios differ by more, an image was not just resized."""

_BEYOND = 1.05
"""Keypoints beyond this multiple of the image's width or height are outside the image."""

_OUTSIDE_SHARE = 0.25
"""A person with more than this share of the seen keypoints outside the image is outside."""


@dataclass(frozen=True)
class Camera:
    """The camera of an image.

    Attributes:
        intrinsics: intrinsics of the keypoints' image [px].
        width, height: size of that image [px]; 0 if unknown.
        description: the source of the intrinsics, in words.
        warnings: causes to doubt them, by name: `no_camera_info`, `uncalibrated_camera_info`,
            `unknown_distortion`, `camera_info_aspect`, `camera_info_doubtful`,
            `camera_info_frame`, `keypoints_outside_image`.
        reasons: a sentence for each warning that names the values and says what to do.
        metric: False if the field of view is a guess; depth is then correct only up to a factor.
        lens: the lens distortion, if there is any.
    """

    intrinsics: Intrinsics
    width: int = 0
    height: int = 0
    description: str = ""
    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    metric: bool = True
    lens: Distortion | None = None

    def with_warning(self, name: str, reason: str) -> Camera:
        """The same camera with one more warning."""
        return replace(self, warnings=(*self.warnings, name), reasons=(*self.reasons, reason))


@dataclass(frozen=True)
class CameraOptions:
    """What a user states about the camera: parameters of the node, options of every command.

    Attributes:
        fx, fy, cx, cy: px; fx = 0: not stated, fy = 0: the same as fx, cx or cy = 0: the centre.
        fov_deg: horizontal field of view; 0: not stated.
        assumed_fov_deg: horizontal field of view of an otherwise unknown camera.
        image_size: width and height [px] of the image, if messages and files do not state it.
        rectified: the detector saw rectified images: use CameraInfo's P and no lens.

    Raises:
        CameraError: a value is outside its range, or two contradict each other.
    """

    fx: float = 0.0
    fy: float = 0.0
    cx: float = 0.0
    cy: float = 0.0
    fov_deg: float = 0.0
    assumed_fov_deg: float = ASSUMED_FOV_DEG
    image_size: tuple[int, int] = (0, 0)
    rectified: bool = False

    def __post_init__(self) -> None:
        for name in ("fx", "fy", "cx", "cy", "fov_deg", "assumed_fov_deg"):
            value, most = getattr(self, name), 180 if name.endswith("deg") else math.inf
            if not 0 <= value < most:  # also for NaN
                raise CameraError(
                    f"the camera's {name} must be 0 or more and less than {most:g}, got {value}"
                )
        if self.fx and self.fov_deg:
            raise CameraError(
                "the camera's focal length and field of view are both given: give one"
            )
        if not self.fx and (self.fy or self.cx or self.cy):
            raise CameraError("the camera's fy, cx and cy require fx: give fx, too")
        size = self.image_size
        if min(size) < 0 or (min(size) == 0 < max(size)):
            raise CameraError(f"the image size must be width and height, got {size}")

    @property
    def stated(self) -> bool:
        """Whether they state the focal length or the field of view."""
        return self.fx > 0 or self.fov_deg > 0


NOTHING_STATED = CameraOptions()
"""The options of a user who states nothing."""


def choose_camera(
    info: Any | None,
    options: CameraOptions,
    *,
    width: int,
    height: int,
    frame_id: str = "",
) -> Camera:
    """The camera of an image.

    Args:
        info: the newest sensor_msgs/CameraInfo, or an object with its attributes, or None.
        options: what the user states about the camera.
        width, height: size of the keypoints' image [px]; 0: taken from the options or CameraInfo.
        frame_id: optical frame of the keypoints; empty if there is none.

    Raises:
        CameraError: the image size is needed but unknown, or no camera has such a size.
    """
    told = known_size(None, options, width, height)
    width, height = known_size(info, options, *told)
    if options.stated:
        return _stated(options, width, height)
    doubt = ""
    if info is not None:
        try:
            return _from_info(info, options, told, frame_id)
        except CameraError as error:
            doubt = f"CameraInfo cannot be used: {error}"
    degrees = options.assumed_fov_deg or ASSUMED_FOV_DEG
    text = f"assumed, {degrees:g} degrees wide: positions are scale-free"
    camera = Camera(_of_view(degrees, width, height), width, height, text, metric=False)
    if doubt:
        camera = camera.with_warning("uncalibrated_camera_info", doubt)
    return camera.with_warning(
        "no_camera_info",
        f"the camera is unknown: {degrees:g} degrees are assumed, and positions are scale-free; "
        "publish or record CameraInfo, or state the focal length or the field of view",
    )


def known_size(
    info: Any | None, options: CameraOptions, width: int = 0, height: int = 0
) -> tuple[int, int]:
    """Width and height [px] of the detector's image: its own, else as stated, else CameraInfo's;
    (0, 0) if unknown."""
    if width and height:
        return width, height
    if all(options.image_size):
        return options.image_size
    return (width, height) if info is None else image_size(info)


def doubt_outside(camera: Camera, keypoints: NDArray[np.float32]) -> Camera:
    """The camera with the warning `keypoints_outside_image` if somebody's keypoints lie well
    outside its image; otherwise the same object.

    Args:
        keypoints: (N, K, 3) sanitised, in pixels of the distorted image.
    """
    size = camera.width, camera.height
    turned = keypoints * np.float32([-1, -1, 1]) + np.float32([*size, 0])  # left becomes right
    if not (lies_outside(keypoints, size) or lies_outside(turned, size)):
        return camera
    seen = keypoints[keypoints[..., 2] >= SEEN_CONFIDENCE]
    (left, top, _), (right, bottom, _) = seen.min(axis=0), seen.max(axis=0)
    return camera.with_warning(
        "keypoints_outside_image",
        f"keypoints lie from ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f}) px, but the "
        f"camera's image is {camera.width} x {camera.height} px ({camera.description}): state the "
        "size of the image that the detector sees (image_size), give the CameraInfo of that image, "
        "or count pixels from its upper left corner",
    )


def lies_outside(keypoints: NDArray[np.float32], size: tuple[int, int]) -> bool:
    """Whether somebody's keypoints lie well to the right of or below an image; not for size 0."""
    if not (all(size) and len(keypoints)):
        return False
    far = keypoints[..., :2] > np.float32([_BEYOND * size[0], _BEYOND * size[1]])
    if not far.any():  # the usual case
        return False
    seen = keypoints[..., 2] >= SEEN_CONFIDENCE
    outside = (seen & far.any(axis=2)).sum(axis=1) > _OUTSIDE_SHARE * seen.sum(axis=1)
    return bool(outside.any())


def _stated(options: CameraOptions, width: int, height: int) -> Camera:
    if options.fov_deg:
        text = f"stated, {options.fov_deg:g} degrees wide"
        return Camera(_of_view(options.fov_deg, width, height), width, height, text)
    if not (options.cx and options.cy):
        _need_size(width, height)
    focal = options.fx, options.fy or options.fx
    centre = options.cx or width / 2, options.cy or height / 2
    return Camera(Intrinsics(*focal, *centre), width, height, "stated, fx, fy, cx, cy")


def _from_info(info: Any, options: CameraOptions, told: tuple[int, int], frame_id: str) -> Camera:
    text, lens, doubts = "CameraInfo", None, {}
    if options.rectified:
        text = "CameraInfo, rectified"
    elif any(info.d):
        try:
            lens = read_distortion(info.distortion_model, info.d)
            text = f"CameraInfo, {info.distortion_model} undone"
        except CameraError as error:
            doubts["unknown_distortion"] = f"CameraInfo's lens is not undone: {error}"
    intrinsics, doubt = image_intrinsics(info, *told, options.rectified)
    if doubt:
        doubts["camera_info_doubtful"] = doubt
    wide, high = image_size(info)
    width, height = known_size(info, options, *told)
    if wide and high and (width, height) != (wide, high):
        text += f" of {wide} x {high} px, scaled to the keypoints' {width} x {height} px"
        if abs(width / wide / (height / high) - 1) > ASPECT_TOLERANCE:
            doubts["camera_info_aspect"] = (
                f"CameraInfo describes images of {wide} x {high} px, but the keypoints' image has "
                f"{width} x {height} px, another aspect ratio: give the CameraInfo of the "
                "detector's image"
            )
    if frame_id and info.header.frame_id != frame_id:
        doubts["camera_info_frame"] = (
            f"CameraInfo has the frame {info.header.frame_id!r}, the keypoints have {frame_id!r}: "
            "give the CameraInfo of the detector's image"
        )
    doubted = tuple(doubts), tuple(doubts.values())
    return Camera(intrinsics, width, height, text, *doubted, lens=lens)


def _of_view(degrees: float, width: int, height: int) -> Intrinsics:
    _need_size(width, height)
    return Intrinsics.from_field_of_view(width, height, horizontal_degrees=degrees)


def _need_size(width: int, height: int) -> None:
    if width <= 0 or height <= 0:
        raise CameraError(
            f"the image size is unknown (it reads {width} x {height} px), but the camera needs "
            "it: state it (image_width and image_height in the message or as parameters of the "
            "node, --image-size WIDTH HEIGHT of a command, ?width=WIDTH&height=HEIGHT of a "
            "target), give CameraInfo, or state camera_fx, camera_cx and camera_cy"
        )
