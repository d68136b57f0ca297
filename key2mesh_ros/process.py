# SPDX-License-Identifier: Apache-2.0
"""The mesh node as a process: how it starts, and how it ends."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
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
    with ExitStack() as ended:
        ended.callback(shut_down)
        try:
            node = make_node()
            ended.callback(node.destroy_node)
            executor = UrgentFirstExecutor()
            ended.callback(executor.shutdown)
            executor.add_node(node)
            node.start()
            gc.freeze()  # what is here stays: searching it for garbage would hold up frames for ms
            executor.spin()
        except (ParameterError, ParameterException) as error:
            rclpy.logging.get_logger(name).fatal(f"wrong parameter: {error}")
            return 1
        except (KeyboardInterrupt, ExternalShutdownException):
            pass  # the usual ways to end
        except Exception:
            if rclpy.ok():
                raise
            # A signal came while the node was made or configured, which then could not go on.
    return 0


def shut_down() -> None:
    """Shut rclpy down, unless a signal did."""
    with suppress(RuntimeError):  # rclpy's own thread for signals may just be doing the same
        rclpy.try_shutdown()
