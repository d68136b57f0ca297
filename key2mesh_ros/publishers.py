# SPDX-License-Identifier: Apache-2.0
"""The publishers of a configured node: meshes, topology, and markers if somebody subscribes.

Messages get whole arrays, which rclpy copies at memcpy speed.
"""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from key2mesh_core.model.bundle import Bundle
from key2mesh_core.people import mesh_frame

from .markers import mesh_markers, no_markers
from .msg import BodyMesh, BodyMeshArray, BodyTopology
from .parameters import Parameters
from .qos import LATCHED, RELIABLE
from .stream import Result


class Publishers:
    """The publishers of one configuration, which `resources` destroys when closed, even if the
    constructor fails half-way."""

    def __init__(self, node: LifecycleNode, resources: ExitStack, bundle: Bundle) -> None:
        def lifecycle_publisher(kind: Any, topic: str) -> Any:
            publisher = node.create_lifecycle_publisher(kind, topic, RELIABLE)
            resources.callback(node.destroy_lifecycle_publisher, publisher)
            return publisher

        self._bundle = bundle
        self._meshes = lifecycle_publisher(BodyMeshArray, "~/meshes")
        self._markers = lifecycle_publisher(MarkerArray, "~/markers")
        # Not a lifecycle publisher, which drops messages until it is activated.
        self._topology = node.create_publisher(BodyTopology, "~/topology", LATCHED)
        resources.callback(node.destroy_publisher, self._topology)
        self._topology.publish(body_topology(bundle))
        self._shown: tuple[Header, int] | None = None  # the markers' header and bodies

    def change_bundle(self, bundle: Bundle) -> None:
        """Publish another bundle's bodies from now on, and its topology if it differs."""
        if bundle.body_model != self._bundle.body_model:
            self._topology.publish(body_topology(bundle))
        self._bundle = bundle

    @property
    def marking(self) -> bool:
        """Whether somebody subscribes to the markers."""
        return self._markers.get_subscription_count() > 0

    def publish_meshes(self, result: Result, settings: Parameters) -> None:
        """Publish a frame's bodies, with vertices if `publish_vertices` says so."""
        self._meshes.publish(
            body_mesh_array(
                result.header,
                result.frame,
                result.bodies,
                self._bundle.body_model,
                vertices=settings.publish_vertices,
            )
        )

    def publish_markers(self, result: Result, settings: Parameters) -> None:
        """Replace the previous markers, if somebody subscribes to them."""
        bodies, triangles, header = result.bodies, self._bundle.triangles, result.header
        if bodies.vertices is None or not self.marking:
            self._shown = None  # the previous markers expire by themselves
            return
        before = self._shown[1] if self._shown else 0
        self._markers.publish(
            mesh_markers(header, bodies, triangles, settings.marker_color, before)
        )
        self._shown = header, len(bodies)

    def delete_markers(self) -> None:
        """Delete the current markers, if any."""
        if self._shown:
            self._markers.publish(no_markers(self._shown[0]))
        self._shown = None


def _new(kind: str, **fields: Any) -> Any:
    return _CLASSES[kind](**fields)


def _packed(values: NDArray[np.generic]) -> array:
    """A flat `array.array`, which rclpy accepts without checking each number."""
    result = array(values.dtype.char)
    result.frombytes(memoryview(np.ascontiguousarray(values)).cast("B"))
    return result


_CLASSES = {
    mesh_frame.POINT_TYPE: Point,
    mesh_frame.BODY_TYPE: BodyMesh,
    mesh_frame.MESHES_TYPE: BodyMeshArray,
    mesh_frame.TOPOLOGY_TYPE: BodyTopology,
}
body_mesh_array = partial(mesh_frame.body_mesh_array, _new, _packed)
body_topology = partial(mesh_frame.body_topology, _new, _packed)
