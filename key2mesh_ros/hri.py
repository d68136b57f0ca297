# SPDX-License-Identifier: Apache-2.0
"""ROS4HRI bodies (REP-155), each on a topic of its own, put together again into frames.

`.../bodies/tracked` lists the ids; `.../bodies/<id>/skeleton2d` carries one body. A frame is
complete when every tracked body has come with the same stamp, or when a newer stamp begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from rclpy.node import Node

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.people.frames import stamp_ns_of
from key2mesh_core.people.messages import DETECTORS
from key2mesh_core.people.person_frame import PersonFrame

from .qos import LATEST_IDS, NEWEST

# What a topic's name may have between two slashes; the whole may be no longer than 247.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass
class Skeletons:
    """The bodies of one image: hri_msgs/Skeleton2D by id, and a header that holds for all."""

    header: Any
    bodies: dict[str, Any] = field(default_factory=dict)


def read_skeletons(message: Skeletons, info: Any | None, options: CameraOptions) -> PersonFrame:
    """All bodies as the persons of one frame; raises what the reader of one does."""
    read = DETECTORS["hri"].read
    nobody = read(SimpleNamespace(header=message.header, skeleton=()), info, options)
    people = {name: read(each, info, options) for name, each in message.bodies.items()}
    found = {name: each for name, each in people.items() if each.ids}
    keypoints = np.concatenate([nobody.keypoints, *(each.keypoints for each in found.values())])
    return replace(nobody, ids=tuple(found), keypoints=keypoints)


class Gatherer:
    """Subscribes the tracked ids and each body, and hands over whole frames.

    Args:
        node: whose subscriptions they are.
        topic: of the tracked ids; the bodies' topics lie beside it.
        ids_type, skeleton_type: hri_msgs/IdsList and hri_msgs/Skeleton2D.
        callback: gets `Skeletons`, and the middleware's facts about the message that made the
            frame complete. Numbers of several publishers say nothing about drops: they are left
            out.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        ids_type: Any,
        skeleton_type: Any,
        callback: Callable[[Skeletons, dict[str, Any]], None],
    ) -> None:
        self._node = node
        self._base = topic.removesuffix("/tracked")
        self._skeleton_type = skeleton_type
        self._callback = callback
        self._bodies: dict[str, Any] = {}  # subscriptions by id
        self._frame: Skeletons | None = None
        self._handed_over = 0  # stamp of the newest frame that is out [ns]
        self.tracked = node.create_subscription(ids_type, topic, self._on_ids, LATEST_IDS)

    def close(self) -> None:
        for each in (self.tracked, *self._bodies.values()):
            self._node.destroy_subscription(each)
        self._bodies = {}

    def _on_ids(self, message: Any, info: dict[str, Any]) -> None:
        # An id becomes part of a topic's name: what is no name is no body.
        ids = [each for each in message.ids if _NAME.fullmatch(each)]
        for gone in set(self._bodies) - set(ids):
            self._node.destroy_subscription(self._bodies.pop(gone))
        for name in ids:
            if name not in self._bodies:
                topic = f"{self._base}/{name}/skeleton2d"
                self._bodies[name] = self._node.create_subscription(
                    self._skeleton_type, topic, self._of(name), NEWEST
                )
        if not ids:
            self._complete(info)
            self._hand_over(Skeletons(message.header), info)
        elif self._frame is not None and set(ids) <= set(self._frame.bodies):
            self._complete(info)  # who was waited for is gone

    def _of(self, name: str) -> Callable[[Any, dict[str, Any]], None]:
        def callback(message: Any, info: dict[str, Any]) -> None:
            self._on_skeleton(name, message, info)

        return callback

    def _on_skeleton(self, name: str, message: Any, info: dict[str, Any]) -> None:
        stamp = stamp_ns_of(message.header)
        frame = self._frame
        if frame is not None:
            begun = stamp_ns_of(frame.header)
            # Another stamp, or the same body again where nobody sets stamps: a new image.
            if stamp != begun or name in frame.bodies:
                self._complete(info)
                frame = None
        elif stamp == self._handed_over and stamp != 0:
            return  # too late: its frame is out
        if frame is None:
            self._frame = frame = Skeletons(message.header)
        frame.bodies[name] = message
        if set(self._bodies) <= set(frame.bodies):
            self._complete(info)

    def _complete(self, info: dict[str, Any]) -> None:
        frame, self._frame = self._frame, None
        if frame is not None:
            self._hand_over(frame, info)

    def _hand_over(self, frame: Skeletons, info: dict[str, Any]) -> None:
        self._handed_over = stamp_ns_of(frame.header)
        self._callback(frame, {"received_timestamp": info["received_timestamp"]})
