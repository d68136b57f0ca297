# SPDX-License-Identifier: Apache-2.0
"""The people that a detector found in one image; used for the node, bags and files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.camera.choose import Camera, doubt_outside
from key2mesh_core.camera.lens import undistort
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.keypoints.layouts import get_layout, to_network
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS

_LARGE_CONFIDENCE = 1.2
"""The heatmaps of some detectors slightly exceed 1."""

NETWORK_LAYOUT = "openpose_coco_18"
"""Layout of frames whose keypoints are in the network's order."""


@dataclass(frozen=True, eq=False)
class PersonFrame:
    """The people in one image.

    Attributes:
        ids: the detector's ids of N people; an empty string for none.
        keypoints: (N, K, 3) float32 x px, y px, confidence; K keypoints in the layout's order.
        layout: name of the layout, a key of `keypoints.layouts.LAYOUTS`.
        stamp_ns: when the image was taken [ns]; 0 if not set.
        frame_id: the optical frame of the image.
        width, height: size of the keypoints' image [px]; 0 if unknown.
        camera: the camera that took the image, once it is chosen.
        stream: the image sequence that the image belongs to (a topic, a folder, a camera).
        number: the image's index in its stream, from 0.
        take: the recording by several cameras in which images with equal stamps show the same
            moment; empty if unknown.
        left_out: number of people whom the detector saw but who are no longer in the frame.
        warnings: causes to doubt the frame, by their names in the diagnostics.
        reasons: a sentence for each warning that says what to do.
    """

    ids: tuple[str, ...]
    keypoints: NDArray[np.float32]
    layout: str
    stamp_ns: int = 0
    frame_id: str = ""
    width: int = 0
    height: int = 0
    camera: Camera | None = None
    stream: str = ""
    number: int = 0
    take: str = ""
    left_out: int = 0
    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def place(self) -> str:
        """The stream and the image's index in it, in words."""
        return f"{self.stream}, image {self.number}".removeprefix(", ")

    def select(self, persons: ArrayLike) -> PersonFrame:
        """Some of the people, by indices or by a mask of N booleans; `left_out` counts the
        others."""
        chosen = np.arange(len(self))[np.asarray(persons)]
        ids = tuple(self.ids[person] for person in chosen)
        left_out = self.left_out + len(self) - len(chosen)
        return replace(self, ids=ids, keypoints=self.keypoints[chosen], left_out=left_out)

    def in_network_order(self) -> PersonFrame:
        """The same people with the network's keypoints, sanitised; the frame gets the warning
        `confidence_above_one` if third numbers are hardly confidences.

        Raises:
            KeypointError: the layout is unknown, or the keypoints do not have its shape.
        """
        keypoints = self.keypoints
        if self.layout != NETWORK_LAYOUT or keypoints.shape[1] != len(NETWORK_KEYPOINTS):
            keypoints = to_network(get_layout(self.layout), keypoints)
        frame = replace(self, keypoints=sanitise(keypoints), layout=NETWORK_LAYOUT)
        third = self.keypoints[..., 2]
        if np.fmax.reduce(third, axis=None, initial=0.0) <= _LARGE_CONFIDENCE:  # the usual case
            return frame
        large = third[(third > _LARGE_CONFIDENCE) & (third != 2)]  # COCO's visibility flag is 2
        if not len(large):
            return frame
        reason = (
            f"a confidence of {large[0]:.3g} ({self.place}) counts as 1: if the third numbers of "
            "keypoints are distances or percentages, give confidences of 0 to 1"
        )
        warnings = (*self.warnings, "confidence_above_one")
        return replace(frame, warnings=warnings, reasons=(*self.reasons, reason))

    def seen_by(self, camera: Camera) -> PersonFrame:
        """The people, already `in_network_order`, as a pinhole camera with the camera's intrinsics
        would see them: lens undone; `camera`, `width` and `height` are set.

        The camera gets the warning `keypoints_outside_image` if that applies, and `lens_misfit` if
        its lens explains less than half of the keypoints; the others become unseen.
        """
        keypoints, camera = self.keypoints, doubt_outside(camera, self.keypoints)
        if camera.lens is not None:
            seen = np.count_nonzero(keypoints[..., 2])
            keypoints = sanitise(undistort(keypoints, camera.intrinsics, camera.lens))
            if 2 * (left := np.count_nonzero(keypoints[..., 2])) < seen:
                camera = camera.with_warning(
                    "lens_misfit",
                    f"the lens of CameraInfo explains {left} of {seen} keypoints: calibrate the "
                    "camera, give its own CameraInfo, or state that the images are rectified",
                )
        width, height = camera.width or self.width, camera.height or self.height
        return replace(self, keypoints=keypoints, camera=camera, width=width, height=height)


def stamp_ns_of(header: Any) -> int:
    """A message header's stamp [ns]; 0 if not set."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
