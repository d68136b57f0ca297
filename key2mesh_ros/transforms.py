# SPDX-License-Identifier: Apache-2.0
"""Each body's frame in TF, as ROS4HRI has it (REP-155): origin between the hips, x forward, y to
the person's left, z up along the body.

tf2_msgs is not among this package's needs: where it is not installed, there is no TF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

from key2mesh_core.people.bodies import Bodies

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

QUALITY = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""That of tf2_ros' broadcasters."""

HRI_PREFIX = "body_"
"""Of the frames' names in ROS4HRI, whose detectors may publish them themselves."""

_LEFT_HIP, _RIGHT_HIP = 1, 2


def body_transforms(
    header: Header, ids: Sequence[str], bodies: Bodies, prefix: str
) -> list[TransformStamped]:
    """From the header's frame to each body's.

    Args:
        ids: N names; a body without one takes its number. What may not stand in a frame's name
            becomes an underscore.
    """
    hips = bodies.joints[:, (_LEFT_HIP, _RIGHT_HIP)].mean(axis=1).astype(np.float64)
    # SMPL's pelvis has x to the left, y up and z forward.
    quaternions = _quaternions(bodies.rotations[:, 0][:, :, (2, 0, 1)])
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
    """What the frames' names begin with: nodes in two namespaces publish frames of two names.

    Args:
        namespace: of the node.
        prefix: relative to the namespace, or absolute with a leading "/", as names are in ROS.
    """
    if prefix.startswith("/"):
        return prefix.lstrip("/")
    return f"{namespace}/{prefix}".lstrip("/")


class BodyFrames:
    """The publisher on /tf, of the configured node.

    Args:
        node: that publishes.
        resources: destroys the publisher.
        prefix: the parameter `tf_prefix`.

    Attributes:
        prefix: of the frames' names; see `frame_prefix`.
    """

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


def _quaternions(matrices: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 4) w, x, y, z, unit length, of rotation matrices (N, 3, 3).

    Of the four columns of the symmetric matrix q q^T, which the rotation gives, the longest is
    taken: it is never near zero.
    """
    m = np.asarray(matrices, dtype=np.float64)
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    products = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], axis=-1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], axis=-1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], axis=-1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], axis=-1),
        ],
        axis=1,
    )
    longest = np.einsum("nii->ni", products).argmax(axis=1)
    chosen = products[np.arange(len(m)), longest]
    return chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
