# SPDX-License-Identifier: Apache-2.0
"""The order of a stream's stamps: which frames are late, and when the clock jumped back."""

from __future__ import annotations

from key2mesh_core.people.messages import MessageRefused

LATE_NS = 1_000_000_000
"""A frame older than the newest one by less [ns] is late; by more, the clock jumped back or a bag
began again."""


class StampOrder:
    """Checks the stamps of successive frames of one stream."""

    def __init__(self) -> None:
        self._newest_ns = 0
        self._late_since_ns: int | None = None  # of an unbroken run of late frames

    def check(self, stamp_ns: int, now_ns: int) -> str:
        """Why to doubt the next frame's stamp: "", "repeated_stamp", or "clock_jump" where the
        stream begins again.

        Args:
            stamp_ns: 0 if nobody set it.
            now_ns: when the frame came or was recorded, by a clock that is never set back.

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
        # The frames of a looping bag of less than a second are always late: that is a jump, too.
        if behind < LATE_NS and now_ns - self._late_since_ns < LATE_NS:
            raise MessageRefused(
                "late",
                f"its stamp is {behind / 1e6:.0f} ms older than that of an earlier frame: a "
                "detector with several threads must publish in order",
            )
        self._newest_ns, self._late_since_ns = stamp_ns, None
        return "clock_jump"
