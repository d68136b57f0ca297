# SPDX-License-Identifier: Apache-2.0
"""The camera of recorded keypoints: options, else the recording's CameraInfo, else a guess."""

from __future__ import annotations

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError
from key2mesh_core.meshing.config import MeshConfig

ASSUMED_FOV = 60.0
"""Horizontal field of view [degrees] of a camera nobody describes, as for the node."""


def from_options(config: MeshConfig, width: int, height: int) -> Intrinsics | None:
    """What the options say of a camera with images of `width` x `height` px (0: unknown).

    Raises:
        CameraError: the options need the image's size, and nobody knows it.
    """
    if not (config.camera_fx or config.fov):
        return None
    if config.camera_fx and config.camera_cx and config.camera_cy:
        cx, cy = config.camera_cx, config.camera_cy
        return Intrinsics(config.camera_fx, config.camera_fy or config.camera_fx, cx, cy)
    _need_size(width, height)
    if config.fov:
        return Intrinsics.from_field_of_view(width, height, horizontal_degrees=config.fov)
    return Intrinsics(
        config.camera_fx,
        config.camera_fy or config.camera_fx,
        config.camera_cx or width / 2,
        config.camera_cy or height / 2,
    )


def assumed(width: int, height: int) -> Intrinsics:
    """What is taken where nothing is known but the image's size.

    Raises:
        CameraError: not even that.
    """
    _need_size(width, height)
    return Intrinsics.from_field_of_view(width, height, horizontal_degrees=ASSUMED_FOV)


def _need_size(width: int, height: int) -> None:
    if width <= 0 or height <= 0:
        raise CameraError(
            f"the images' size is not known (it reads {width} x {height} px): give --image-size "
            "WIDTH HEIGHT, or --camera-fx, --camera-cx and --camera-cy"
        )
