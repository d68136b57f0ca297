# SPDX-License-Identifier: Apache-2.0
"""The header of a frame, reasons to doubt it, and the persons in it who can be estimated."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from key2mesh_core.keypoints.arrays import bounding_boxes, usable_sanitised
from key2mesh_core.people.person_frame import PersonFrame

FUTURE_TOLERANCE_NS = 100_000_000
"""Synchronised clocks of two machines differ by less than this [ns]."""


def header_of(frame: PersonFrame) -> Header:
    """The header of what is published for a frame: the stamp as it came, and the optical frame."""
    seconds, nanoseconds = divmod(frame.stamp_ns, 1_000_000_000)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame.frame_id)


def select_people(
    frame: PersonFrame, min_keypoints: int, max_people: int
) -> tuple[PersonFrame, dict[str, int]]:
    """The persons to estimate, in the message's order, and how many were left out by cause: those
    with fewer than `min_keypoints` usable keypoints or all of them on one spot, and beyond
    `max_people` those with the smallest boxes.
    """
    keypoints = frame.keypoints
    good = usable_sanitised(keypoints) & ((keypoints[..., 2] > 0).sum(axis=1) >= min_keypoints)
    left_out = {}
    if len(good) <= max_people and good.all():
        return frame, left_out
    chosen = np.flatnonzero(good)
    if len(chosen) < len(keypoints):
        left_out["too_few_keypoints"] = len(keypoints) - len(chosen)
    if len(chosen) > max_people:
        left_out["over_max_people"] = len(chosen) - max_people
        boxes = bounding_boxes(keypoints[chosen])
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        largest = np.argsort(-areas, kind="stable")[:max_people]
        chosen = np.sort(chosen[largest])
    return frame.select(chosen), left_out


def header_warnings(frame: PersonFrame, now_ns: int) -> list[str]:
    """Causes to doubt a frame's stamp and frame_id, by their names in the diagnostics.

    Args:
        now_ns: the node's time [ns]; 0 while simulated time has not begun, which says nothing.
    """
    causes = []
    if not frame.frame_id:
        causes.append("empty_frame_id")
    if frame.stamp_ns == 0:
        causes.append("zero_stamp")
    elif now_ns and frame.stamp_ns > now_ns + FUTURE_TOLERANCE_NS:
        causes.append("future_stamp")
    return causes
