# SPDX-License-Identifier: Apache-2.0
"""What a configured node publishes: the meshes, the topology once, markers while somebody looks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from key2mesh_core.model.bundle import Bundle
from key2mesh_core.people.bodies import Bodies

from .cameras import ASSUMED_QUALITY
from .markers import mesh_markers, no_markers
from .msg import BodyMeshArray, BodyTopology
from .outputs import body_mesh_array, body_topology, message_header
from .parameters import Parameters
from .qos import LATCHED, RELIABLE
from .stream import Result


class Outlets:
    """The publishers of one configuration; `resources` destroys them.

    Args:
        node: whose topics they are.
        resources: takes what is made, one by one, so that a failure half-way leaves nothing.
        bundle: whose body is published.
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
        """Whether somebody wants markers."""
        return self._markers.get_subscription_count() > 0

    def publish_meshes(self, result: Result, settings: Parameters) -> None:
        """A frame's bodies, without vertices if the settings do not want them."""
        self._meshes.publish(
            body_mesh_array(
                result.frame.header,
                result.frame.ids,
                result.bodies,
                self._bundle.body_model,
                vertices=settings.publish_vertices,
                most_quality=ASSUMED_QUALITY if result.camera.assumed else 1.0,
            )
        )

    def publish_markers(self, header: Any, bodies: Bodies, settings: Parameters) -> None:
        """Markers of bodies with vertices, in place of those shown before."""
        header = message_header(header)
        triangles, color = self._bundle.triangles, settings.marker_color
        self._markers.publish(
            mesh_markers(header, bodies.vertices, triangles, color, self._marker_count)
        )
        self._marked, self._marker_count = header, len(bodies)

    def delete_markers(self) -> None:
        """Take away the markers that are shown, if any."""
        if self._marked is not None:
            self._markers.publish(no_markers(self._marked))
        self.forget_markers()

    def forget_markers(self) -> None:
        """Nobody looks any more: what was shown is gone by itself."""
        self._marked, self._marker_count = None, 0
