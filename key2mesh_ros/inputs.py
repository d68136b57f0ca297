# SPDX-License-Identifier: Apache-2.0
"""Detectors' messages to plain arrays of persons, and who of them is worth estimating.

One function per message type makes a `Frame`; everything behind it knows only that. Functions
here look at attributes alone, so they work on any object of a message's shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import KeypointError
from key2mesh_core.frames import stamp_ns_of
from key2mesh_core.keypoints import (
    MINIMUM_SIZE_PX,
    bounding_boxes,
    get_layout,
    sanitise,
    to_network,
)

FUTURE_TOLERANCE_NS = 100_000_000
"""Clocks of two machines differ by less than this [ns] where anybody cares for their time."""


class MessageRefused(KeypointError):
    """A message that cannot be understood. `cause` is its name in the diagnostics."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, eq=False)
class Frame:
    """The persons of one image, whichever detector found them.

    Attributes:
        header: the message's std_msgs/Header, as it came.
        width, height: size [px] of the image the keypoints lie in; 0 where unknown.
        ids: the detector's name for each person; may be empty strings.
        keypoints: (N, 18, 3) float32 x px, y px, confidence in the network's order; unusable
            ones are (0, 0, 0).
    """

    header: Any
    width: int
    height: int
    ids: tuple[str, ...]
    keypoints: NDArray[np.float32]


def read_person_keypoints(message: Any) -> Frame:
    """A Frame of a key2mesh_ros/PersonKeypointsArray.

    Raises:
        MessageRefused: unknown layout; a person whose arrays differ in length, or have not one
            entry per keypoint of the layout.
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
    return Frame(
        header=message.header,
        width=message.image_width,
        height=message.image_height,
        ids=tuple(person.id for person in people),
        keypoints=sanitise(to_network(layout, keypoints)),
    )


def select_people(
    frame: Frame, min_keypoints: int, max_people: int
) -> tuple[Frame, dict[str, int]]:
    """The persons to estimate, in the message's order, and how many were left out by cause.

    Left out are persons with fewer than `min_keypoints` usable keypoints (or all of them on one
    spot) and, beyond `max_people`, those of the smallest boxes.
    """
    keypoints = frame.keypoints
    # What `usable` asks for, without cleaning again what is clean.
    boxes = bounding_boxes(keypoints)
    sides = boxes[:, 2:] - boxes[:, :2]
    seen = np.count_nonzero(keypoints[..., 2], axis=1)
    chosen = np.flatnonzero((seen >= min_keypoints) & (sides.max(axis=1) >= MINIMUM_SIZE_PX))
    left_out = {}
    if len(chosen) < len(keypoints):
        left_out["too_few_keypoints"] = len(keypoints) - len(chosen)
    if len(chosen) > max_people:
        left_out["over_max_people"] = len(chosen) - max_people
        # Stable, so that equal boxes do not change places from frame to frame.
        largest = np.argsort(-sides[chosen].prod(axis=1), kind="stable")[:max_people]
        chosen = np.sort(chosen[largest])
    if not left_out:
        return frame, left_out
    ids = tuple(frame.ids[index] for index in chosen)
    return replace(frame, ids=ids, keypoints=keypoints[chosen]), left_out


def header_warnings(header: Any, now_ns: int) -> list[str]:
    """Causes, by their names in the diagnostics, to doubt a header that is used all the same.

    Args:
        now_ns: the node's time [ns]; 0 while simulated time has not begun, which says nothing.
    """
    causes = []
    if not header.frame_id:
        causes.append("empty_frame_id")
    stamp = stamp_ns_of(header)
    if stamp == 0:
        causes.append("zero_stamp")
    elif now_ns and stamp > now_ns + FUTURE_TOLERANCE_NS:
        causes.append("future_stamp")
    return causes
