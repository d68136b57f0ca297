# SPDX-License-Identifier: Apache-2.0
"""The mesh node as a process: how it starts, and how it ends."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException

from .executor import UrgentFirstExecutor
from .middleware import make_room_for_meshes
from .parameters import ParameterError


def run(make_node: Callable[[], Any], name: str, arguments: Sequence[str] | None) -> int:
    """Run a node, which has a `start`, until SIGINT or SIGTERM; 0, or 1 if its parameters are
    wrong."""
    make_room_for_meshes()
    rclpy.init(args=arguments)
    try:
        node = make_node()
    except (ParameterError, ParameterException) as error:
        rclpy.logging.get_logger(name).fatal(f"wrong parameter: {error}")
        rclpy.try_shutdown()
        return 1
    executor = UrgentFirstExecutor()
    executor.add_node(node)
    try:
        node.start()
        gc.freeze()  # what is here stays: searching it for garbage would hold up frames for ms
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # the usual ways to end
    finally:
        executor.shutdown()
        node.destroy_node()
        with suppress(RuntimeError):  # rclpy's own thread for signals may just be doing the same
            rclpy.try_shutdown()
    return 0
