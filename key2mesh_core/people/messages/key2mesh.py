# SPDX-License-Identifier: Apache-2.0
"""key2mesh_ros/PersonKeypointsArray: our own message, for any detector.

Frame: the header's, which names the optical frame of the image.
Resolution: pixels of an image of the size in the message, if it has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import KeypointError
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.people.messages.reading import MessageRefused, person_frame, refuse_normalised
from key2mesh_core.people.person_frame import PersonFrame


def read_person_keypoints(message: Any, info: Any | None, options: CameraOptions) -> PersonFrame:
    """The people in a key2mesh_ros/PersonKeypointsArray. Arguments are those of `messages.Reader`.

    Raises:
        MessageRefused: `unknown_layout`; `unequal_lengths`, a person whose x, y and confidence
            differ in length; `keypoint_count`, not one entry per keypoint of the layout;
            `normalised`, coordinates that are not pixels.
    """
    try:
        layout = get_layout(message.layout)
    except KeypointError as error:
        raise MessageRefused("unknown_layout", str(error)) from error
    people = message.people
    keypoints = np.empty((len(people), len(layout), 3), dtype=np.float32)
    for index, person in enumerate(people):
        x, y, confidence = len(person.x), len(person.y), len(person.confidence)
        if not x == y == confidence:
            raise MessageRefused(
                "unequal_lengths",
                f"person {index}: x, y and confidence differ in length: {x}, {y}, {confidence}",
            )
        if x != len(layout):
            raise MessageRefused(
                "keypoint_count",
                f"person {index}: layout '{layout.name}' has {len(layout)} keypoints, the message "
                f"has {x}: set 'layout' to the one that the detector uses",
            )
        keypoints[index, :, 0] = person.x
        keypoints[index, :, 1] = person.y
        keypoints[index, :, 2] = person.confidence
    size = message.image_width, message.image_height
    frame = person_frame(message.header, [person.id for person in people], keypoints, layout, size)
    return refuse_normalised(frame)
