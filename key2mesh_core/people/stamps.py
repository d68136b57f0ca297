# SPDX-License-Identifier: Apache-2.0
"""The order of a stream's stamps: which frames are late, and when the clock jumped back."""

from __future__ import annotations

from key2mesh_core.people.messages import MessageRefused

LATE_NS = 1_000_000_000
"""A frame older than the newest one by less than this [ns] is late; by more, the clock jumped back
or a bag looped."""

MOST_LATE = 8
"""More consecutive late frames than this, in the order of their stamps, also count as a jump: a
looping bag shorter than a second. A multi-threaded detector does not cause this many."""


class StampOrder:
    """Checks the stamps of successive frames of one stream."""

    def __init__(self) -> None:
        self._newest_ns = 0
        self._late_ns = 0
        self._late = 0  # in order, since the newest

    def check(self, stamp_ns: int) -> str:
        """The cause to doubt the next frame's stamp (0 if not set): "" for none, "repeated_stamp",
        or "clock_jump" if a new stream begins.

        Raises:
            MessageRefused: `late`.
        """
        behind = self._newest_ns - stamp_ns
        if stamp_ns == 0 or behind < 0:
            self._newest_ns, self._late = stamp_ns or self._newest_ns, 0
            return ""
        if behind == 0:
            return "repeated_stamp"
        self._late = self._late + 1 if stamp_ns > self._late_ns else 1
        self._late_ns = stamp_ns
        if behind < LATE_NS and self._late <= MOST_LATE:
            raise MessageRefused(
                "late",
                f"its stamp is {behind / 1e6:.0f} ms older than that of an earlier frame: a "
                "multi-threaded detector must publish in order",
            )
        self._newest_ns, self._late = stamp_ns, 0
        return "clock_jump"
