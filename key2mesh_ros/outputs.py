# SPDX-License-Identifier: Apache-2.0
"""Makes messages of bodies. Arrays are passed as a whole, which rclpy copies at memcpy speed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import Header

from key2mesh_core.model.bundle import Bundle
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.quality import GUESSED_CAMERA_QUALITY

from .msg import BodyMesh, BodyMeshArray, BodyTopology


def body_mesh_array(
    header: Header,
    ids: Sequence[str],
    bodies: Bodies,
    body_model: str,
    *,
    people_seen: int,
    metric: bool,
    vertices: bool = True,
) -> BodyMeshArray:
    """The message of N bodies, N = 0 included.

    Args:
        header: stamp and frame of the keypoints.
        ids: N names.
        bodies: with their `position_covariance`.
        people_seen: how many people the detector saw, N or more.
        metric: False while the field of view is a guess; `quality` is then at most 0.5.
        vertices: whether to send the mesh's points, where `bodies` have them.
    """
    points = bodies.vertices if vertices else None
    most_quality = np.float32(1.0 if metric else GUESSED_CAMERA_QUALITY)
    quality = np.minimum(bodies.quality, most_quality).tolist()
    errors, places = bodies.reprojection_error.tolist(), bodies.translation.tolist()
    message = BodyMeshArray(header=header, body_model=body_model, metric=metric)
    message.people_seen, message.people_without_body = people_seen, people_seen - len(bodies)
    for number, (x, y, z) in enumerate(places):
        body = BodyMesh(
            id=ids[number],
            quality=quality[number],
            reprojection_error=errors[number],
            position=Point(x=x, y=y, z=z),
            position_covariance=bodies.position_covariance[number].reshape(-1),
            betas=bodies.betas[number],
            pose=bodies.poses[number],
            joints=bodies.joints[number].reshape(-1),
        )
        if points is not None:
            body.vertices = _packed("f", points[number])
        message.bodies.append(body)
    return message


def body_topology(bundle: Bundle) -> BodyTopology:
    """The triangles and joints of the bundle's body."""
    return BodyTopology(
        body_model=bundle.body_model,
        triangles=_packed("I", bundle.triangles.astype(np.uint32)),
        joint_names=list(bundle.joint_names),
        parents=_packed("i", bundle.parents),
    )


def _packed(typecode: str, values: NDArray[np.generic]) -> array:
    """A flat `array.array`, which rclpy takes without a look at each number."""
    result = array(typecode)
    result.frombytes(memoryview(np.ascontiguousarray(values)).cast("B"))
    return result
