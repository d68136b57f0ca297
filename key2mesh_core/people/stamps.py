# SPDX-License-Identifier: Apache-2.0
"""The order of a stream's stamps: which frames are late, and when the clock jumped back."""

from __future__ import annotations

from key2mesh_core.people.messages import MessageRefused

LATE_NS = 1_000_000_000
"""A frame older than the newest one by less than this [ns] is late; by more, the clock jumped back
or a bag looped."""


class StampOrder:
    """Checks the stamps of successive frames of one stream."""

    def __init__(self) -> None:
        self._newest_ns = 0
        self._late_since_ns: int | None = None  # of an unbroken run of late frames

    def check(self, stamp_ns: int, now_ns: int) -> str:
        """The cause to doubt the next frame's stamp: "" for none, "repeated_stamp", or "clock_jump"
        if a new stream begins.

        Args:
            stamp_ns: 0 if not set.
            now_ns: when the frame arrived or was recorded, by a monotonic clock.

        Raises:
            MessageRefused: `late`.
        """
        behind = self._newest_ns - stamp_ns
        if stamp_ns == 0 or behind < 0:
            self._newest_ns, self._late_since_ns = stamp_ns or self._newest_ns, None
            return ""
        if behind == 0:
            return "repeated_stamp"
        if self._late_since_ns is None:
            self._late_since_ns = now_ns
        # A looping bag shorter than a second yields only late frames: this also counts as a jump.
        if behind < LATE_NS and now_ns - self._late_since_ns < LATE_NS:
            raise MessageRefused(
                "late",
                f"its stamp is {behind / 1e6:.0f} ms older than that of an earlier frame: a "
                "multi-threaded detector must publish in order",
            )
        self._newest_ns, self._late_since_ns = stamp_ns, None
        return "clock_jump"
