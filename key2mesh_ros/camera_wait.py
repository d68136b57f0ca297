# SPDX-License-Identifier: Apache-2.0
"""The first frames of a stream wait for the CameraInfo that is about to come.

A detector and a camera driver that are started together, or a bag, send keypoints before the first
CameraInfo: without a wait the first bodies would be placed by an assumed field of view.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node


class CameraInfoWait:
    """Holds the newest frame until CameraInfo comes or the time is up. Begun anew for each stream.

    Args:
        node: whose timer it is.
        topic: of CameraInfo; nobody publishes there: there is nothing to wait for.
        timeout: how long to wait at most [s]; 0 for not at all.
        release: called with the arguments of the frame that was held, when the wait is over.
    """

    def __init__(
        self, node: Node, topic: str, timeout: float, release: Callable[..., None]
    ) -> None:
        self._node, self._topic, self._timeout, self._release = node, topic, timeout, release
        self._until: float | None = None  # monotonic; None until the first frame has come
        self._held: tuple[Any, ...] | None = None
        self._timer: Any = None

    def hold(self, *frame: Any) -> bool:
        """Keep a frame that came without any CameraInfo; False if it should be answered now."""
        now = time.monotonic()
        if self._until is None:
            expected = self._timeout > 0 and self._node.count_publishers(self._topic) > 0
            self._until = now + self._timeout if expected else now
        if now >= self._until:
            return False
        if self._timer is None:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = self._node.create_timer(self._until - now, self.end, clock=steady)
        self._held = frame
        return True

    @property
    def holds(self) -> bool:
        """Whether a frame is held; another one would take its place."""
        return self._held is not None

    def end(self) -> None:
        """Release the frame that is held, if any, and hold no more."""
        held = self._held
        self.close()
        if held is not None:
            self._release(*held)

    def close(self) -> None:
        """Forget the frame that is held."""
        self._until, self._held = 0.0, None
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
