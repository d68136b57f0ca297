# SPDX-License-Identifier: Apache-2.0
"""Detectors' messages to plain arrays of persons, and who of them is worth estimating.

Whatever the message, a `Frame` is made of it, and everything behind knows only that. Functions
here look at attributes alone, so they work on any object of a message's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.keypoints.arrays import MINIMUM_SIZE_PX, bounding_boxes, sanitise
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.people.frames import stamp_ns_of
from key2mesh_core.people.messages import People

FUTURE_TOLERANCE_NS = 100_000_000
"""Clocks of two machines differ by less than this [ns] where anybody cares for their time."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The persons of one image, whichever detector found them.

    Attributes:
        header: the message's std_msgs/Header as it came, or a `serialised.Header`.
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


def read_frame(
    message: Any, reader: Callable[..., People], width: int = 0, height: int = 0
) -> Frame:
    """A Frame of a detector's message that carries a header.

    Args:
        reader: one of `key2mesh_core.people.messages`.
        width, height: of the image [px], where the message does not say.

    Raises:
        MessageRefused: see the reader.
    """
    return frame_of(message.header, reader(message, width, height))


def frame_of(header: Any, people: People) -> Frame:
    """Persons as a detector gave them, in the network's order and cleaned."""
    keypoints = sanitise(to_network(people.layout, people.keypoints))
    return Frame(header, people.width, people.height, people.ids, keypoints)


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
    seen = np.add.reduce(keypoints[..., 2] > 0, axis=1)
    good = (seen >= min_keypoints) & (np.maximum.reduce(sides, axis=1) >= MINIMUM_SIZE_PX)
    left_out = {}
    if len(good) <= max_people and np.logical_and.reduce(good):
        return frame, left_out
    chosen = np.flatnonzero(good)
    if len(chosen) < len(keypoints):
        left_out["too_few_keypoints"] = len(keypoints) - len(chosen)
    if len(chosen) > max_people:
        left_out["over_max_people"] = len(chosen) - max_people
        # Stable, so that equal boxes do not change places from frame to frame.
        largest = np.argsort(-sides[chosen].prod(axis=1), kind="stable")[:max_people]
        chosen = np.sort(chosen[largest])
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
