# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C in commands: delays it while an interrupted step could not be resumed, and lets a second
one end a command that is cleaning up. For commands only: both functions replace the process's
signal handler, and a handler set by C code, as in rclpy, would not be restored."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def end_at_next_interrupt(status: int) -> None:
    """Makes the next Ctrl-C end the process at once and silently; for a command that was
    interrupted and is cleaning up."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(status))
        # While Python exits, it removes its handlers, and Ctrl-C would kill the process.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt if Ctrl-C was pressed since.

    A second Ctrl-C does not wait. Outside the main thread, where Python allows no handler, an
    interrupt is raised at once.
    """
    pressed = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, previous)
