# SPDX-License-Identifier: Apache-2.0
"""Processes frames in its own thread, always the newest one.

A frame therefore never blocks an executor's thread. rclpy's MultiThreadedExecutor busy-waits while
it has no free thread for a callback, which would slow down the very frame that it waits for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

YIELD_S = 1e-4
"""Long enough [s] for the worker to take the GIL from the thread that hands over a frame."""


class FrameWorker:
    """Calls `work` with the newest frame, from its creation until `close`.

    Args:
        work: called with the arguments of `put`; must not raise.
        dropped: called for each frame that a newer one replaces.
        patience: returns how long [s] the first frame may wait for `release`; a newer frame
            replaces it while it waits.
    """

    def __init__(
        self, work: Callable[..., None], dropped: Callable[[], None], patience: Callable[[], float]
    ) -> None:
        self._work, self._dropped, self._patience = work, dropped, patience
        self._frame: tuple[Any, ...] | None = None
        self._released = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)
        self._thread.start()

    def put(self, *frame: Any) -> None:
        """Hand over a frame; returns at once."""
        with self._changed:
            if self._frame is not None:
                self._dropped()
            self._frame = frame
            self._changed.notify()
        time.sleep(YIELD_S)

    def release(self) -> None:
        """End the first frame's wait."""
        with self._changed:
            self._released = True
            self._changed.notify()

    def close(self) -> None:
        """Process no more frames; does not wait for the current one."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self) -> None:
        """Wait for the current frame, after `close`."""
        if threading.current_thread() is not self._thread:
            self._thread.join(10.0)

    def _run(self) -> None:
        while (frame := self._next()) is not None:
            self._work(*frame)

    def _next(self) -> tuple[Any, ...] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frame is not None)
            if not (self._closed or self._released):
                seconds = self._patience()
                self._changed.wait_for(lambda: self._closed or self._released, seconds)
                self._released = True
            frame, self._frame = self._frame, None
            return None if self._closed else frame
