# SPDX-License-Identifier: Apache-2.0
"""The bodies of one image as they are published, recorded and shown. A function
`new(type, **fields)` makes the messages, so that rclpy's and a recording's are filled alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.people.person_frame import stamp_ns_of
from key2mesh_core.people.quality import GUESSED_CAMERA_QUALITY

if TYPE_CHECKING:
    from key2mesh_core.people.bodies import Bodies
    from key2mesh_core.people.person_frame import PersonFrame

POINT_TYPE = "geometry_msgs/msg/Point"
BODY_TYPE = "key2mesh_ros/msg/BodyMesh"
MESHES_TYPE = "key2mesh_ros/msg/BodyMeshArray"
TOPOLOGY_TYPE = "key2mesh_ros/msg/BodyTopology"


@dataclass(frozen=True)
class MeshFrame:
    """The bodies found in one image, in the camera's optical frame [m].

    Attributes:
        stamp_ns: when the image was taken [ns].
        body_model: "name@hash" of the body model.
        ids: N names.
        quality: (N,) 0 to 1.
        reprojection_error: (N,) px.
        joints: (N, 24, 3).
        vertices: (N, V, 3); V = 0 without meshes.
        people_without_body: how many more people the detector saw.
        metric: False if the field of view is a guess; distances are then correct only up to a
            factor.
        position_deviation: (N,) standard deviation of the pelvis's position along its least certain
            direction, the viewing ray [m]; NaN if unknown.
    """

    stamp_ns: int
    body_model: str
    ids: tuple[str, ...]
    quality: NDArray[np.float32]
    reprojection_error: NDArray[np.float32]
    joints: NDArray[np.float32]
    vertices: NDArray[np.float32]
    people_without_body: int
    metric: bool
    position_deviation: NDArray[np.float32]


@dataclass(frozen=True)
class Topology:
    """Triangles (F, 3) and each joint's parent (24,) of the body called `body_model`."""

    body_model: str
    triangles: NDArray[np.int32]
    parents: NDArray[np.int32]


def mesh_frame(message: Any) -> MeshFrame:
    """A BodyMeshArray (from rclpy or from a recording) as arrays.

    Raises:
        Key2MeshError: meshes differ in size, or do not have three numbers per vertex.
    """
    bodies = message.bodies
    sizes = {len(body.vertices) for body in bodies} or {0}
    if len(sizes) > 1 or min(sizes) % 3:
        raise Key2MeshError(f"meshes of {sorted(sizes)} numbers in one message, not 3 per vertex")

    def stack(values: list, *shape: int) -> NDArray[np.float32]:
        return np.array(values, dtype=np.float32).reshape(len(bodies), *shape)

    return MeshFrame(
        stamp_ns=stamp_ns_of(message.header),
        body_model=message.body_model,
        ids=tuple(body.id for body in bodies),
        quality=stack([body.quality for body in bodies]),
        reprojection_error=stack([body.reprojection_error for body in bodies]),
        joints=stack([body.joints for body in bodies], 24, 3),
        vertices=stack([body.vertices for body in bodies], min(sizes) // 3, 3),
        # Recordings of an earlier BodyMeshArray lack these fields.
        people_without_body=getattr(message, "people_without_body", 0),
        metric=getattr(message, "metric", True),
        position_deviation=_deviation(
            stack([getattr(body, "position_covariance", [np.nan] * 9) for body in bodies], 3, 3)
        ),
    )


def bodies_frame(frame: PersonFrame, bodies: Bodies, body_model: str) -> MeshFrame:
    """The bodies of a frame's people, as a subscriber to their message gets them."""
    seconds, nanoseconds = divmod(frame.stamp_ns, 1_000_000_000)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds))

    def new(kind: str, **fields: Any) -> SimpleNamespace:
        return SimpleNamespace(**fields)

    return mesh_frame(body_mesh_array(new, np.ravel, header, frame, bodies, body_model))


def body_mesh_array(
    new: Callable[..., Any],
    pack: Callable[[NDArray[np.generic]], Any],
    header: Any,
    frame: PersonFrame,
    bodies: Bodies,
    body_model: str,
    vertices: bool = True,
) -> Any:
    """The BodyMeshArray of a frame's people; while the camera is a guess, `quality` is at most 0.5.

    Args:
        pack: flattens an array of variable size.
        header: stamp and frame of the keypoints.
        bodies: with `position_covariance`.
        vertices: whether to send the vertices, if `bodies` have them.
    """
    points = bodies.vertices if vertices else None
    most_quality = np.float32(1.0 if frame.camera.metric else GUESSED_CAMERA_QUALITY)
    quality = np.minimum(bodies.quality, most_quality).tolist()
    errors = bodies.reprojection_error.tolist()
    return new(
        MESHES_TYPE,
        header=header,
        body_model=body_model,
        people_seen=len(frame) + frame.left_out,
        people_without_body=frame.left_out,
        metric=frame.camera.metric,
        bodies=[
            new(
                BODY_TYPE,
                id=frame.ids[number],
                quality=quality[number],
                reprojection_error=errors[number],
                position=new(POINT_TYPE, x=x, y=y, z=z),
                position_covariance=bodies.position_covariance[number].ravel(),
                betas=bodies.betas[number],
                pose=bodies.poses[number],
                joints=bodies.joints[number].ravel(),
                vertices=pack(np.zeros(0, np.float32) if points is None else points[number]),
            )
            for number, (x, y, z) in enumerate(bodies.translation.tolist())
        ],
    )


def body_topology(
    new: Callable[..., Any], pack: Callable[[NDArray[np.generic]], Any], bundle: Any
) -> Any:
    """The BodyTopology of a model bundle's body; `pack` as of `body_mesh_array`."""
    return new(
        TOPOLOGY_TYPE,
        body_model=bundle.body_model,
        triangles=pack(bundle.triangles.astype(np.uint32)),
        joint_names=list(bundle.joint_names),
        parents=pack(bundle.parents),
    )


def _deviation(covariance: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) the largest standard deviation of covariances (N, 3, 3); NaN for a covariance with
    NaN."""
    known = np.isfinite(covariance).all(axis=(1, 2))
    largest = np.linalg.eigvalsh(np.where(known[:, None, None], covariance, 0.0))[:, -1]
    return np.where(known, np.sqrt(np.maximum(largest, 0.0)), np.nan).astype(np.float32)
