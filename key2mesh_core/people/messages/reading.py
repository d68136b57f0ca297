# SPDX-License-Identifier: Apache-2.0
"""Shared by the readers of all detectors: refusals, the frame, the image size of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from key2mesh_core.errors import KeypointError
from key2mesh_core.keypoints.arrays import MINIMUM_KEYPOINTS, SEEN_CONFIDENCE
from key2mesh_core.keypoints.layouts import Layout
from key2mesh_core.people.person_frame import PersonFrame, stamp_ns_of

LARGEST_NORMALISED = 3.0
"""A larger coordinate must be in pixels, because detectors do not report people three images
away."""

UNKNOWN_RESOLUTION = "unknown_resolution"
"""The warning for a frame whose image may have another size than stated."""


class MessageRefused(KeypointError):
    """A message that cannot be used; `cause` is the cause's name in the diagnostics."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


def person_frame(
    header: Any, ids: Sequence[str], persons: ArrayLike, layout: Layout, size: tuple[int, int]
) -> PersonFrame:
    """The frame of N people with (K, 3) keypoints each, in the layout's order, in an image of that
    width and height [px]; (0, 0) if unknown."""
    keypoints = np.asarray(persons, dtype=np.float32).reshape(len(ids), len(layout), 3)
    return PersonFrame(
        ids=tuple(ids),
        keypoints=keypoints,
        layout=layout.name,
        stamp_ns=stamp_ns_of(header),
        frame_id=header.frame_id,
        width=int(size[0]),
        height=int(size[1]),
    )


class StreamResolution:
    """Remembers the image size of a stream: a frame of unknown size gets the last known size, so
    that people do not jump when a message lacks it."""

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None

    def settle(self, frame: PersonFrame) -> PersonFrame:
        """The stream's next frame, with the remembered size."""
        if len(frame) and UNKNOWN_RESOLUTION not in frame.warnings:
            self._size = frame.width, frame.height
        elif self._size is not None:
            doubts = dict(zip(frame.warnings, frame.reasons, strict=True))
            doubts.pop(UNKNOWN_RESOLUTION, None)
            frame = replace(frame, width=self._size[0], height=self._size[1])
            return replace(frame, warnings=tuple(doubts), reasons=tuple(doubts.values()))
        return frame


def refuse_normalised(frame: PersonFrame) -> PersonFrame:
    """The same frame; raises MessageRefused `normalised` if a person is seen, and all coordinates
    are within an image of size 1 x 1."""
    if (
        frame.keypoints[..., :2].max(initial=0.0) > LARGEST_NORMALISED
    ):  # the usual case; false for NaN
        return frame
    seen = (frame.keypoints[..., 2] >= SEEN_CONFIDENCE) & frame.keypoints[..., :2].any(axis=-1)
    if seen.sum(axis=1).max(initial=0) < MINIMUM_KEYPOINTS:
        return frame
    largest = np.fmax.reduce(np.abs(frame.keypoints[seen, :2]), axis=None)
    if largest <= LARGEST_NORMALISED:
        raise MessageRefused(
            "normalised",
            f"no keypoint has a coordinate above {largest:g}: these are normalised, but the "
            "message holds pixels: multiply them by the image's width and height",
        )
    return frame
