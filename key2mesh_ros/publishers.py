# SPDX-License-Identifier: Apache-2.0
"""What a configured node publishes: meshes, the topology once, markers for who subscribes them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from key2mesh_core.model.bundle import Bundle

from .markers import mesh_markers, no_markers
from .msg import BodyMeshArray, BodyTopology
from .outputs import body_mesh_array, body_topology
from .parameters import Parameters
from .qos import LATCHED, RELIABLE
from .stream import Result


class Publishers:
    """The publishers of one configuration; `resources` destroys them.

    Args:
        node: owner of the topics.
        resources: undoes what is made, one by one, also when the constructor fails half-way.
        bundle: its body is published.
    """

    def __init__(self, node: LifecycleNode, resources: ExitStack, bundle: Bundle) -> None:
        def lifecycle_publisher(kind: Any, topic: str) -> Any:
            publisher = node.create_lifecycle_publisher(kind, topic, RELIABLE)
            resources.callback(node.destroy_lifecycle_publisher, publisher)
            return publisher

        self._bundle = bundle
        self._meshes = lifecycle_publisher(BodyMeshArray, "~/meshes")
        self._markers = lifecycle_publisher(MarkerArray, "~/markers")
        # Not a lifecycle publisher: that would lose what is sent before it is activated.
        self._topology = node.create_publisher(BodyTopology, "~/topology", LATCHED)
        resources.callback(node.destroy_publisher, self._topology)
        self._topology.publish(body_topology(bundle))
        self._marked: Header | None = None  # of the markers that are shown, if any
        self._marker_count = 0

    def change_bundle(self, bundle: Bundle) -> None:
        """Publish another bundle's bodies from now on; its topology, if that differs."""
        if bundle.body_model != self._bundle.body_model:
            self._topology.publish(body_topology(bundle))
        self._bundle = bundle

    @property
    def marking(self) -> bool:
        """Whether somebody subscribes the markers."""
        return self._markers.get_subscription_count() > 0

    def publish_meshes(self, result: Result, settings: Parameters) -> None:
        """Publish a frame's bodies, without vertices if the settings say so."""
        self._meshes.publish(
            body_mesh_array(
                result.header,
                result.frame.ids,
                result.bodies,
                self._bundle.body_model,
                people_seen=len(result.frame) + result.frame.left_out,
                metric=result.camera.metric,
                vertices=settings.publish_vertices,
            )
        )

    def publish_markers(self, result: Result, settings: Parameters) -> None:
        """Publish markers in place of those shown before, if somebody subscribes them."""
        bodies, triangles = result.bodies, self._bundle.triangles
        if bodies.vertices is None or not self.marking:
            self._marked, self._marker_count = None, 0  # what was shown expires by itself
            return
        header = result.header
        self._markers.publish(
            mesh_markers(header, bodies, triangles, settings.marker_color, self._marker_count)
        )
        self._marked, self._marker_count = header, len(bodies)

    def delete_markers(self) -> None:
        """Delete the markers that are shown, if any."""
        if self._marked is not None:
            self._markers.publish(no_markers(self._marked))
        self._marked, self._marker_count = None, 0
