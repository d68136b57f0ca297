# SPDX-License-Identifier: Apache-2.0
"""Persons who come in messages of their own, put together to the image that they were seen in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.dropped import DroppedRecords

LATEST_NS = 500_000_000
"""A person's message may come so much later than the next images' [ns of stamps]."""

RESTART_NS = 1_000_000_000
"""Stamps that go back further than this begin the recording again [ns]."""


class BodiesOfImage:
    """Puts together frames of equal stamps, and gives them out in the order of their stamps."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[PersonFrame, Any]] = {}
        self._newest = self._given = -1
        self._number = 0

    def add(
        self, frame: PersonFrame, header: Any, dropped: DroppedRecords
    ) -> list[tuple[PersonFrame, Any]]:
        """The images that are complete once a person's frame has come, with their headers.

        Args:
            dropped: gets persons who come after their image was given out.
        """
        complete = []
        stamp = frame.stamp_ns
        if stamp < self._newest - RESTART_NS:
            complete = self.rest()
            self._newest = self._given = -1
        if stamp <= self._given:
            dropped.add("late", f"{frame.stream}, stamp {stamp} ns", len(frame))
            return complete
        if stamp in self._waiting:
            before, _ = self._waiting[stamp]
            frame = replace(
                before,
                ids=before.ids + frame.ids,
                keypoints=np.concatenate([before.keypoints, frame.keypoints]),
            )
        self._waiting[stamp] = frame, header
        self._newest = max(self._newest, stamp)
        return complete + self._give(self._newest - LATEST_NS)

    def rest(self) -> list[tuple[PersonFrame, Any]]:
        """All images that are waiting: the recording is at its end."""
        return self._give(self._newest)

    def _give(self, until: int) -> list[tuple[PersonFrame, Any]]:
        given = []
        for stamp in sorted(stamp for stamp in self._waiting if stamp <= until):
            frame, header = self._waiting.pop(stamp)
            given.append((replace(frame, number=self._number), header))
            self._given, self._number = stamp, self._number + 1
        return given
