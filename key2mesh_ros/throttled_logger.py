# SPDX-License-Identifier: Apache-2.0
"""Errors and warnings that would be logged with every frame, logged once in a while."""

from __future__ import annotations

import time
from typing import Any

PERIOD_S = 5.0
"""A cause is logged at most this often [s]."""


class ThrottledLogger:
    """A logger that is silent about a cause it has just named.

    rclpy's own throttle goes by the line of code, which would hide one cause behind another.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._last: dict[str, float] = {}

    def error(self, cause: str, text: str) -> None:
        """Log `text`, unless the same cause was logged within the last 5 s."""
        if self._is_due(cause):
            self._logger.error(text)

    def warning(self, cause: str, text: str) -> None:
        """The same as `error`, of less weight."""
        if self._is_due(cause):
            self._logger.warning(text)

    def _is_due(self, cause: str) -> bool:
        now = time.monotonic()
        due = now - self._last.get(cause, float("-inf")) >= PERIOD_S
        if due:
            self._last[cause] = now
        return due
