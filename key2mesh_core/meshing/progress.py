# SPDX-License-Identifier: Apache-2.0
"""Counts the progress of a long command and shows it: one line that is rewritten on a terminal,
nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

PERIOD_S = 0.2
"""Period at which the line is rewritten [s]."""


class Progress:
    """Frames (or other `unit`s) done of `total`, shown on `stream` only if it is a terminal.

    Args:
        total: number of units.
        earlier: what earlier processes have done: the `state` of the last one.
        stream: by default standard error.
        unit: what is counted.
    """

    def __init__(
        self,
        total: int,
        earlier: Mapping[str, int] | None = None,
        stream: TextIO | None = None,
        unit: str = "frames",
    ) -> None:
        earlier = earlier or {}
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._total, self._unit = total, unit
        self._begin = self._said = time.monotonic()
        self.frames = self._earlier = earlier.get("images", 0)
        self.bodies = earlier.get("bodies", 0)
        self._recorded_from_ns = earlier.get("recorded_from_ns", 0)
        self._first_ns = self._last_ns = earlier.get("recorded_to_ns", 0)

    def state(self) -> dict[str, int]:
        """What the process that resumes the work must know."""
        return {
            "images": self.frames,
            "bodies": self.bodies,
            "recorded_from_ns": self._recorded_from_ns,
            "recorded_to_ns": self._last_ns,
        }

    @property
    def recorded_s(self) -> float:
        """Length of the recording [s], from the first to the last frame with a stamp."""
        return 1e-9 * (self._last_ns - self._recorded_from_ns)

    def add(self, frames: int, bodies: int, stamps_ns: Sequence[int] = ()) -> None:
        """Add finished frames with these stamps."""
        if stamps_ns:
            self._first_ns = self._first_ns or stamps_ns[0]
            self._recorded_from_ns = self._recorded_from_ns or stamps_ns[0]
            self._last_ns = stamps_ns[-1]
        self.frames += frames
        self.bodies += bodies
        now = time.monotonic()
        if not self._terminal or now - self._said < PERIOD_S:
            return
        self._said = now
        rate = (self.frames - self._earlier) / (now - self._begin)
        minutes, rest = divmod(round((self._total - self.frames) / rate if rate > 0 else 0.0), 60)
        digits = ".0f" if rate >= 10 else ".2g"
        bar = "#" * round(20 * (self.frames / self._total if self._total else 1.0))
        self._stream.write(
            f"\r\033[K[{bar:<20}] {self.frames} of {self._total} {self._unit}, {rate:{digits}} per "
            f"second, {minutes}:{rest:02d} left"
        )
        self._stream.flush()

    def __str__(self) -> str:
        """A summary of what was done, and how fast."""
        seconds = time.monotonic() - self._begin
        speed = 1e-9 * (self._last_ns - self._first_ns) / max(seconds, 1e-9)
        return (
            f"{self.frames} frames; {self.bodies} bodies in {seconds:.1f} s, {speed:.1f} times as "
            "fast as recorded"
        )

    def end(self) -> None:
        """Removes the line."""
        if self._terminal:
            self._stream.write("\r\033[K")
            self._stream.flush()
