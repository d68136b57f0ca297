# SPDX-License-Identifier: Apache-2.0
"""Shows the progress of a long command: one line that is rewritten on a terminal, nothing
elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

PERIOD_S = 0.2
"""Period at which the line is rewritten [s]."""


class Progress:
    """Frames done of `total`, `earlier` of them by an earlier process; written to `stream` only if
    it is a terminal."""

    def __init__(self, total: int, earlier: int = 0, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._total, self._earlier = total, earlier
        self._begin = self._said = time.monotonic()
        self.frames = earlier
        self.bodies = 0
        self._first_ns = self._last_ns = 0

    def add(self, frames: int, bodies: int, stamps_ns: Sequence[int] = ()) -> None:
        """Add finished frames with these stamps."""
        if stamps_ns:
            self._first_ns = self._first_ns or stamps_ns[0]
            self._last_ns = stamps_ns[-1]
        self.frames += frames
        self.bodies += bodies
        now = time.monotonic()
        if not self._terminal or now - self._said < PERIOD_S:
            return
        self._said = now
        rate = (self.frames - self._earlier) / (now - self._begin)
        minutes, rest = divmod(round((self._total - self.frames) / rate if rate > 0 else 0.0), 60)
        bar = "#" * round(20 * (self.frames / self._total if self._total else 1.0))
        self._stream.write(
            f"\r\033[K[{bar:<20}] {self.frames} of {self._total} frames, {rate:.0f} per second, "
            f"{minutes}:{rest:02d} left"
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
        """End the line."""
        if self._terminal:
            self._stream.write("\r\033[K")
            self._stream.flush()
