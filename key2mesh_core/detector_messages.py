# SPDX-License-Identifier: Apache-2.0
"""Detectors' messages to plain arrays, on any object that has a message's attributes.

rclpy's messages and those decoded from a recording are read by the same lines. Every reader
returns `People` and raises `MessageRefused`, whose `cause` is a short name to count by:

    read_person_keypoints(message)              key2mesh_ros/msg/PersonKeypointsArray
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import KeypointError
from key2mesh_core.keypoints import get_layout


class MessageRefused(KeypointError):
    """A message that cannot be understood.

    Attributes:
        cause: its short name, to count by and to look the advice up with.
    """

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class People(NamedTuple):
    """The persons of one message.

    Attributes:
        ids: N names; empty strings where the detector gives none.
        keypoints: (N, K, 3) float32 x px, y px, confidence; K keypoints in the layout's order,
            as the detector gave them: not sanitised, zeros for those that it left out.
        layout: name of the layout, a key of `keypoints.LAYOUTS`.
        width, height: of the image [px]; 0 where unknown.
    """

    ids: tuple[str, ...]
    keypoints: NDArray[np.float32]
    layout: str
    width: int
    height: int


def read_person_keypoints(message: Any) -> People:
    """The persons of a key2mesh_ros/PersonKeypointsArray.

    Raises:
        MessageRefused: `unknown_layout`; `unequal_lengths`, a person whose x, y and confidence
            differ in length; `keypoint_count`, not one entry per keypoint of the layout.
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
                f"person {index}: x, y and confidence must be of one length, have {x}, {y} "
                f"and {confidence} entries",
            )
        if x != len(layout):
            raise MessageRefused(
                "keypoint_count",
                f"person {index}: layout '{layout.name}' has {len(layout)} keypoints, the message "
                f"has {x}; name the layout that the detector uses",
            )
        keypoints[index, :, 0] = person.x
        keypoints[index, :, 1] = person.y
        keypoints[index, :, 2] = person.confidence
    ids = tuple(person.id for person in people)
    return People(ids, keypoints, layout.name, message.image_width, message.image_height)
