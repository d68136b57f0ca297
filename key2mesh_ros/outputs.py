# SPDX-License-Identifier: Apache-2.0
"""Bodies to messages. Numbers go over as whole arrays, since rclpy copies those at memcpy speed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import Header

from key2mesh_core.bundle import Bundle
from key2mesh_core.estimator import Bodies

from .msg import BodyMesh, BodyMeshArray, BodyTopology


def body_mesh_array(
    header: Header,
    ids: Sequence[str],
    bodies: Bodies,
    body_model: str,
    *,
    vertices: bool = True,
    most_quality: float = 1.0,
) -> BodyMeshArray:
    """The message of N bodies, N = 0 included.

    Args:
        header: as it came with the keypoints; it goes out unchanged.
        ids: N of them, from the detector.
        vertices: whether to send the mesh's points, where `bodies` have them.
        most_quality: what `quality` is cut to.
    """
    count = len(bodies)
    joints = bodies.joints.reshape(count, 72)
    qualities = np.minimum(bodies.quality, np.float32(most_quality)).tolist()
    errors = bodies.reprojection_error.tolist()
    positions = bodies.translation.tolist()
    message = BodyMeshArray(header=header, body_model=body_model)
    for index in range(count):
        x, y, z = positions[index]
        body = BodyMesh(
            id=ids[index],
            quality=qualities[index],
            reprojection_error=errors[index],
            position=Point(x=x, y=y, z=z),
            betas=bodies.betas[index],
            pose=bodies.poses[index],
            joints=joints[index],
        )
        if vertices and bodies.vertices is not None:
            body.vertices = _packed("f", bodies.vertices[index])
        message.bodies.append(body)
    return message


def body_topology(bundle: Bundle) -> BodyTopology:
    """What never changes about the bundle's body."""
    return BodyTopology(
        body_model=bundle.body_model,
        triangles=_packed("I", bundle.triangles.astype(np.uint32)),
        joint_names=list(bundle.joint_names),
        parents=_packed("i", bundle.parents),
    )


def _packed(typecode: str, values: NDArray[np.generic]) -> array:
    result = array(typecode)
    result.frombytes(memoryview(np.ascontiguousarray(values)).cast("B"))
    return result
