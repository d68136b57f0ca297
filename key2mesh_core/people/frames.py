# SPDX-License-Identifier: Apache-2.0
"""What one image gives, as plain arrays: the keypoints found in it, the bodies made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.people.mesh_frame import MeshFrame, Topology, bodies_frame, mesh_frame
from key2mesh_core.people.person_frame import stamp_ns_of

# ruff: noqa: F401


@dataclass(frozen=True)
class KeypointFrame:
    """What a detector found in one image.

    Attributes:
        stamp_ns: when the image was taken [ns] (the header's stamp).
        frame_id: the camera's optical frame.
        layout: name of the keypoint layout.
        width, height: of the image [px].
        ids: the persons' names, N of them.
        keypoints: (N, K, 3) float32 x px, y px, confidence.
    """

    stamp_ns: int
    frame_id: str
    layout: str
    width: int
    height: int
    ids: tuple[str, ...]
    keypoints: NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """A calibrated camera: intrinsics [px], image size [px], name of its optical frame."""

    intrinsics: Intrinsics
    width: int
    height: int
    frame_id: str
