# SPDX-License-Identifier: Apache-2.0
"""Feeds the node's messages to the live view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from key2mesh_core.camera.choose import NOTHING_STATED, choose_camera
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.people.mesh_frame import mesh_frame

from . import process
from .msg import BodyMeshArray, BodyTopology
from .qos import LATCHED, NEWEST

if TYPE_CHECKING:
    from key2mesh_core.view.viewer import Viewer


def watch(viewer: Viewer, topic: str, camera_topic: str) -> None:
    """Show the meshes of a topic, and the first calibrated CameraInfo of another, until SIGINT or
    SIGTERM."""
    process.run(lambda: _subscriber(viewer, topic, camera_topic), arguments=[])


def _subscriber(viewer: Viewer, topic: str, camera_topic: str) -> Node:
    node = rclpy.create_node("key2mesh_view")
    camera_shown = False

    def on_topology(message: BodyTopology) -> None:
        triangles = np.array(message.triangles, dtype=np.int32).reshape(-1, 3)
        viewer.set_topology(triangles, np.array(message.parents, dtype=np.int32))

    def on_camera(message: CameraInfo) -> None:
        nonlocal camera_shown
        if camera_shown:
            return
        try:
            camera = choose_camera(message, NOTHING_STATED, width=0, height=0)
        except Key2MeshError:
            return  # even the image size is missing
        if camera.metric:  # else it is not calibrated
            viewer.set_camera(camera)
            camera_shown = True
            for reason in camera.reasons:
                node.get_logger().warning(reason)

    def on_meshes(message: BodyMeshArray) -> None:
        try:
            viewer.show(mesh_frame(message))
        except Key2MeshError as error:
            node.get_logger().error(f"{topic}: {error}", throttle_duration_sec=5.0)

    topology = f"{topic.rpartition('/')[0]}/topology"  # beside the meshes
    node.create_subscription(BodyTopology, topology, on_topology, LATCHED)
    node.create_subscription(CameraInfo, camera_topic, on_camera, NEWEST)
    node.create_subscription(BodyMeshArray, topic, on_meshes, NEWEST)
    node.get_logger().info(f"waiting for meshes on {topic}")
    return node
