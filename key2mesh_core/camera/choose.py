# SPDX-License-Identifier: Apache-2.0
"""Which camera saw an image: what the user states, else CameraInfo, else a guess."""

from __future__ import annotations

from dataclasses import dataclass

from key2mesh_core.camera.lens import Distortion
from key2mesh_core.camera.pinhole import Intrinsics

ASSUMED_FOV_DEG = 60.0
"""Horizontal field of view of a camera that nobody describes [degrees]."""


@dataclass(frozen=True)
class Camera:
    """The camera of an image.

    Attributes:
        intrinsics: px of the image that the keypoints lie in.
        width, height: of that image [px]; 0 where unknown.
        description: where the intrinsics come from, in words.
        warnings: causes to doubt them, by their names in the diagnostics.
        metric: False where the field of view is a guess: depth is then to scale only.
        lens: what the lens does to keypoints, if it does anything.
    """

    intrinsics: Intrinsics
    width: int = 0
    height: int = 0
    description: str = ""
    warnings: tuple[str, ...] = ()
    metric: bool = True
    lens: Distortion | None = None


@dataclass(frozen=True)
class CameraOptions:
    """What a user states about the camera: parameters of the node, options of every command.

    Attributes:
        fx, fy, cx, cy: px; fx = 0: not stated, fy = 0: the same as fx, cx or cy = 0: the middle.
        fov_deg: horizontal field of view; 0: not stated.
        assumed_fov_deg: horizontal field of view where nobody describes the camera.
        image_size: width and height [px] of the image, where messages and files do not tell.
        rectified: the detector looked at rectified images: CameraInfo's P counts, and no lens.
    """

    fx: float = 0.0
    fy: float = 0.0
    cx: float = 0.0
    cy: float = 0.0
    fov_deg: float = 0.0
    assumed_fov_deg: float = ASSUMED_FOV_DEG
    image_size: tuple[int, int] = (0, 0)
    rectified: bool = False
