# SPDX-License-Identifier: Apache-2.0
"""Detectors' messages to plain arrays of persons, and who of them is worth estimating.

Whatever the message, a `Frame` is made of it, and everything behind knows only that. Functions
here look at attributes alone, so they work on any object of a message's shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.choose import NOTHING_STATED, CameraOptions
from key2mesh_core.keypoints.arrays import MINIMUM_SIZE_PX, bounding_boxes
from key2mesh_core.people.frames import stamp_ns_of
from key2mesh_core.people.messages import Reader
from key2mesh_core.people.person_frame import PersonFrame

from .serialised import Header, Stamp

FUTURE_TOLERANCE_NS = 100_000_000
"""Clocks of two machines differ by less than this [ns] where anybody cares for their time."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The persons of one image, whichever detector found them.

    Attributes:
        header: the image's stamp and optical frame, by the detector's policy.
        width, height: size [px] of the image the keypoints lie in; 0 where unknown.
        ids: the detector's name for each person; may be empty strings.
        keypoints: (N, 18, 3) float32 x px, y px, confidence in the network's order; unusable
            ones are (0, 0, 0).
        warnings: causes to doubt the frame, by their names in the diagnostics.
    """

    header: Any
    width: int
    height: int
    ids: tuple[str, ...]
    keypoints: NDArray[np.float32]
    warnings: tuple[str, ...] = ()


def read_frame(
    message: Any, reader: Reader, info: Any | None = None, options: CameraOptions = NOTHING_STATED
) -> Frame:
    """A Frame of a detector's message that carries a header; see `messages.Reader`.

    Raises:
        MessageRefused: see the reader.
    """
    return frame_of(reader(message, info, options))


def frame_of(people: PersonFrame) -> Frame:
    """Persons as a detector gave them, in the network's order and cleaned."""
    stamp = Stamp(*divmod(people.stamp_ns, 1_000_000_000))
    return Frame(
        Header(stamp, people.frame_id),
        people.width,
        people.height,
        people.ids,
        people.in_network_order().keypoints,
        people.warnings,
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
