# SPDX-License-Identifier: Apache-2.0
"""hri_msgs/Skeleton2D of ROS4HRI (REP-155): one body on its own topic.

Frame: the header's, which carries the image's time and frame.
Resolution: coordinates are normalised to 0..1 over the image, (0, 0) at its top left corner.
Conversion to pixels needs the image size, which the message lacks: the size that the user states,
else CameraInfo's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from key2mesh_core.camera.choose import CameraOptions, known_size
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.people.messages.reading import LARGEST_NORMALISED, MessageRefused, person_frame
from key2mesh_core.people.person_frame import PersonFrame


def read_hri(message: Any, info: Any | None, options: CameraOptions) -> PersonFrame:
    """The person of a hri_msgs/Skeleton2D, whose id is in the topic's name, not in the message.

    A message without points is a frame without people. Arguments are those of `messages.Reader`.

    Raises:
        MessageRefused: `no_image_size`; `keypoint_count`, not 18 keypoints; `not_normalised`,
            coordinates that must be pixels.
    """
    width, height = size = known_size(info, options)
    if not (width > 0 and height > 0):
        raise MessageRefused(
            "no_image_size",
            "the coordinates of a hri_msgs/Skeleton2D are normalised by the image's size, which is "
            f"unknown (got {width} x {height}): publish CameraInfo, or state the image's size",
        )
    layout = get_layout("hri_18")
    if not len(message.skeleton):
        return person_frame(message.header, [], [], layout, size)
    if len(message.skeleton) != len(layout):
        raise MessageRefused(
            "keypoint_count",
            f"a hri_msgs/Skeleton2D has {len(layout)} keypoints, not {len(message.skeleton)}",
        )
    person = np.array([(point.x, point.y, point.c) for point in message.skeleton], np.float32)
    seen = person[person[:, 2] >= SEEN_CONFIDENCE, :2]
    largest = np.abs(seen[np.isfinite(seen)]).max(initial=0.0)
    if largest > LARGEST_NORMALISED:
        raise MessageRefused(
            "not_normalised",
            f"a hri_msgs/Skeleton2D holds coordinates of 0 to 1, this one {largest:g}: the "
            "detector must divide pixels by the image's width and height",
        )
    person[:, 0] *= width
    person[:, 1] *= height
    return person_frame(message.header, [""], [person], layout, size)
