# SPDX-License-Identifier: Apache-2.0
"""Logs at intervals what would otherwise be logged with every frame."""

from __future__ import annotations

import time
from typing import Any

PERIOD_S = 5.0
"""A cause is logged at most this often [s]."""


class ThrottledLogger:
    """Logs each cause at most every 5 s. (rclpy throttles by line of code, so that one cause would
    hide another.)"""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._last: dict[str, float] = {}

    def error(self, cause: str, text: str) -> None:
        """Log `text` as an error, unless the same cause was just logged."""
        if self._is_due(cause):
            self._logger.error(text)

    def warning(self, cause: str, text: str) -> None:
        """Log `text` as a warning, unless the same cause was just logged."""
        if self._is_due(cause):
            self._logger.warning(text)

    def _is_due(self, cause: str) -> bool:
        now = time.monotonic()
        due = now - self._last.get(cause, float("-inf")) >= PERIOD_S
        if due:
            self._last[cause] = now
        return due
