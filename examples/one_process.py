#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mesh node and the app that stops the robot, in one process.

    python3 examples/one_process.py --ros-args -p stop_distance:=1.2

Each has a thread of its own: the app's timer must not wait while a frame is estimated.
"""

import signal
import threading

import rclpy
from rclpy.executors import MultiThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from safety_stop import SafetyStop

from key2mesh_ros.mesh_node import MeshNode


def main() -> None:
    # rclpy's own handling of signals would end ROS in the midst of a callback.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    executor = MultiThreadedExecutor(2)
    nodes = MeshNode(), SafetyStop()
    for node in nodes:
        executor.add_node(node)
    nodes[0].start()
    while not stopped.is_set():
        executor.spin_once(timeout_sec=0.2)
    executor.shutdown()
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
