# SPDX-License-Identifier: Apache-2.0
"""Publishes each body's frame in TF as ROS4HRI defines it (REP-155): origin between the hips, x
forward, y to the person's left, z up along the body.

Without tf2_msgs, which is an optional dependency, there is no TF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

from key2mesh_core.geometry.rotations import matrix_to_quaternion
from key2mesh_core.people.bodies import Bodies

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

QUALITY = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""The QoS of tf2_ros' broadcasters."""

_LEFT_HIP, _RIGHT_HIP = 1, 2


def body_transforms(
    header: Header, ids: Sequence[str], bodies: Bodies, prefix: str
) -> list[TransformStamped]:
    """The transforms from the header's frame to each body's. An empty id is replaced by the body's
    number, and characters that are not allowed in frame names by underscores."""
    hips = bodies.joints[:, (_LEFT_HIP, _RIGHT_HIP)].mean(axis=1).astype(np.float64)
    # SMPL's pelvis has x to the left, y up and z forward.
    quaternions = matrix_to_quaternion(bodies.rotations[:, 0][:, :, (2, 0, 1)].astype(np.float64))
    result = []
    for index, (place, turn) in enumerate(zip(hips.tolist(), quaternions.tolist(), strict=True)):
        name = "".join(c if c.isalnum() or c in "_-" else "_" for c in ids[index]) or str(index)
        transform = Transform(
            translation=Vector3(x=place[0], y=place[1], z=place[2]),
            rotation=Quaternion(w=turn[0], x=turn[1], y=turn[2], z=turn[3]),
        )
        result.append(
            TransformStamped(header=header, child_frame_id=prefix + name, transform=transform)
        )
    return result


def frame_prefix(namespace: str, prefix: str) -> str:
    """The prefix of the frame names: like a topic name, relative to the node's namespace or, with a
    leading "/", absolute."""
    if prefix.startswith("/"):
        return prefix.lstrip("/")
    return f"{namespace}/{prefix}".lstrip("/")


class BodyFrames:
    """The configured node's publisher on /tf, which `resources` destroys; the parameter `tf_prefix`
    begins the frame names (see `frame_prefix`)."""

    def __init__(self, node: Any, resources: Any, prefix: str) -> None:
        self.prefix = frame_prefix(node.get_namespace(), prefix)
        self._publisher = node.create_publisher(TFMessage, "/tf", QUALITY)
        resources.callback(node.destroy_publisher, self._publisher)

    def publish(self, header: Header, ids: Sequence[str], bodies: Bodies) -> None:
        """Publish the frames of an image's bodies, if somebody subscribes and the header names a
        frame."""
        if header.frame_id and len(bodies) and self._publisher.get_subscription_count():
            transforms = body_transforms(header, ids, bodies, self.prefix)
            self._publisher.publish(TFMessage(transforms=transforms))
