# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that waits, for commands: half an optimiser step is no state to continue from, nor is a
library that is half loaded. Not for libraries: it takes the process's handler for a while, and a
handler that C code set, as rclpy does, would not come back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt if Ctrl-C was pressed since.

    A second Ctrl-C does not wait. Outside the main thread, where Python allows no handler, an
    interrupt is raised wherever it comes.
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
