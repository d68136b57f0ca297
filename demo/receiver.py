# SPDX-License-Identifier: Apache-2.0
"""Receives the meshes and notes when each arrived.

A robot's program does no more than this: subscribe to the topology once and to the meshes. The
rest is a protocol for demo/run.py: one JSON object a line on standard output, and the meshes of
some frames in a file at the end, when standard input is closed.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future

from key2mesh_core.people.mesh_frame import MeshFrame, mesh_frame
from key2mesh_core.people.person_frame import stamp_ns_of
from key2mesh_ros.msg import BodyMeshArray, BodyTopology

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def tell(**facts: object) -> None:
    """One line for demo/run.py."""
    print(json.dumps(facts), flush=True)


class Receiver(Node):
    """Subscribes to what the node publishes; keeps the frames with the given stamps [ns]."""

    def __init__(self, node_name: str, keep: set[int]) -> None:
        super().__init__("demo_receiver")
        self._keep = keep
        self.kept: dict[int, MeshFrame] = {}
        self.topology: BodyTopology | None = None
        self._state = "unknown"
        self._asked: Future | None = None
        self._asked_at = 0.0
        self.create_subscription(BodyTopology, f"{node_name}/topology", self._on_topology, LATCHED)
        self._meshes = self.create_subscription(
            BodyMeshArray, f"{node_name}/meshes", self._on_meshes, RELIABLE
        )
        self._get_state = self.create_client(GetState, f"{node_name}/get_state")
        self._timer = self.create_timer(0.1, self._check_ready)

    def _on_topology(self, message: BodyTopology) -> None:
        self.topology = message

    def _on_meshes(self, message: BodyMeshArray) -> None:
        arrived = time.monotonic_ns()
        stamp_ns = stamp_ns_of(message.header)
        tell(
            stamp=stamp_ns,
            arrived=arrived,
            errors=[body.reprojection_error for body in message.bodies],
            vertices=[len(body.vertices) // 3 for body in message.bodies],
        )
        if stamp_ns in self._keep:
            self.kept[stamp_ns] = mesh_frame(message)

    def _check_ready(self) -> None:
        """Ready once the node is active, its topology is here and its meshes are matched."""
        if self._asked is not None and self._asked.done():
            state = self._asked.result().current_state.label
            if state != self._state:
                tell(state=state)
            self._state, self._asked = state, None
        # An answer given while the two sides still discover each other can get lost: ask again.
        patient = time.monotonic() - self._asked_at < 1.0
        if not (self._asked is not None and patient) and self._get_state.service_is_ready():
            self._asked = self._get_state.call_async(GetState.Request())
            self._asked_at = time.monotonic()
        matched = self._meshes.get_publisher_count() > 0
        if self._state == "active" and matched and self.topology is not None:
            tell(
                ready=True,
                body_model=self.topology.body_model,
                triangles=len(self.topology.triangles) // 3,
            )
            self.destroy_timer(self._timer)


def save(receiver: Receiver, path: str) -> None:
    """Writes what demo/run.py draws: the triangles, and the kept frames' arrays."""
    arrays = {"triangles": np.array(receiver.topology.triangles, dtype=np.int32).reshape(-1, 3)}
    for stamp, frame in receiver.kept.items():
        arrays[f"vertices_{stamp}"] = frame.vertices
        arrays[f"errors_{stamp}"] = frame.reprojection_error
        arrays[f"ids_{stamp}"] = np.array(frame.ids, dtype=str)
    np.savez(path, **arrays)


def main() -> int:
    """`receiver.py NODE FILE [STAMP...]`; returns the process's exit status."""
    node_name, path = sys.argv[1:3]
    rclpy.init()
    receiver = Receiver(node_name, {int(word) for word in sys.argv[3:]})
    executor = SingleThreadedExecutor()
    executor.add_node(receiver)

    finished = threading.Event()

    def end_with_input() -> None:
        sys.stdin.read()
        finished.set()

    threading.Thread(target=end_with_input, daemon=True).start()
    try:
        while not finished.is_set():
            executor.spin_once(timeout_sec=0.1)
        if receiver.topology is not None:
            save(receiver, path)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        receiver.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
