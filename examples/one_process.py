#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the mesh node and the app that stops the robot in one process.

    python3 examples/one_process.py --ros-args -p stop_distance:=1.2

With two threads, the app's timer does not wait for the mesh node. The callbacks of one node still
run one at a time.
"""

import sys

from rclpy.executors import MultiThreadedExecutor
from safety_stop import SafetyStop

from key2mesh_ros import process
from key2mesh_ros.mesh_node import MeshNode


def main() -> int:
    return process.run(MeshNode, SafetyStop, executor=lambda: MultiThreadedExecutor(2))


if __name__ == "__main__":
    sys.exit(main())
