# SPDX-License-Identifier: Apache-2.0
"""A node that does nothing, written as rclpy nodes usually are: what a message's way costs anyway.

To every PersonKeypointsArray it answers with a BodyMeshArray of as many bodies, always the same.

    tools/with-ros python -m benchmarks.noop_node VERTICES
"""

from __future__ import annotations

import gc
import sys
from array import array

import numpy as np
import rclpy
from geometry_msgs.msg import Point
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from key2mesh_ros.middleware import make_room_for_meshes
from key2mesh_ros.msg import BodyMesh, BodyMeshArray, PersonKeypointsArray
from key2mesh_ros.process import shut_down
from key2mesh_ros.qos import NEWEST, RELIABLE

NAME = "noop_node"


class NoopNode(Node):
    """Answers with meshes of so many vertices."""

    def __init__(self, vertices: int) -> None:
        super().__init__(NAME)
        self._points = array("f", bytes(12 * vertices))
        self._meshes = self.create_publisher(BodyMeshArray, "~/meshes", RELIABLE)
        self.create_subscription(PersonKeypointsArray, "~/keypoints", self._on_keypoints, NEWEST)

    def _on_keypoints(self, message: PersonKeypointsArray) -> None:
        answer = BodyMeshArray(header=message.header, body_model="body@0123456789ab")
        for person in message.people:
            body = BodyMesh(
                id=person.id,
                position=Point(z=3.0),
                betas=np.zeros(10, np.float32),
                pose=np.zeros(72, np.float32),
                joints=np.zeros(72, np.float32),
            )
            body.vertices = self._points
            answer.bodies.append(body)
        self._meshes.publish(answer)


def main() -> None:
    """Answer until SIGINT."""
    make_room_for_meshes()
    rclpy.init()
    node = NoopNode(int(sys.argv[1]))
    gc.freeze()  # as the mesh node does
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        shut_down()


if __name__ == "__main__":
    main()
