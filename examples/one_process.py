#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mesh node and the app that stops the robot, in one process.

    python3 examples/one_process.py --ros-args -p stop_distance:=1.2

Each has a thread of its own: the app's timer must not wait while a frame is estimated.
"""

import sys
from contextlib import suppress

import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from safety_stop import SafetyStop

from key2mesh_ros.mesh_node import MeshNode


def main() -> None:
    rclpy.init()
    executor = MultiThreadedExecutor(2)
    nodes = MeshNode(), SafetyStop()
    for node in nodes:
        executor.add_node(node)
    try:
        nodes[0].start()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown()
        with suppress(RuntimeError):  # rclpy's own thread for signals may just be doing the same
            rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
