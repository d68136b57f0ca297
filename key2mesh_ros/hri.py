# SPDX-License-Identifier: Apache-2.0
"""Assembles frames from bodies that each have their own topic (ROS4HRI, REP-155).

`.../bodies/tracked` lists the ids; `.../bodies/<id>/skeleton2d` carries one body. The bodies of one
image have the same stamp.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from rclpy.node import Node

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.people.messages import Reader
from key2mesh_core.people.person_frame import PersonFrame, stamp_ns_of
from key2mesh_core.people.stamps import LATE_NS

from .qos import LATEST_IDS, NEWEST

MOST_OPEN = 2
"""Number of images that may wait for bodies at the same time: a multi-threaded detector may send a
body of one image after the first body of the next."""

# What ROS allows between two slashes of a topic name, which may have 247 characters in all.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass
class Skeletons:
    """The bodies of one image: messages by id, and the header that they share."""

    header: Any
    bodies: dict[str, Any] = field(default_factory=dict)


def skeletons_reader(read: Reader) -> Reader:
    """The reader of `Skeletons`, made from the reader of one body's messages."""

    def read_skeletons(message: Skeletons, info: Any | None, options: CameraOptions) -> PersonFrame:
        nobody = read(SimpleNamespace(header=message.header, skeleton=()), info, options)
        people = {name: read(each, info, options) for name, each in message.bodies.items()}
        found = {name: each for name, each in people.items() if each.ids}
        keypoints = [nobody.keypoints, *(each.keypoints for each in found.values())]
        return replace(nobody, ids=tuple(found), keypoints=np.concatenate(keypoints))

    return read_skeletons


class FrameAssembler:
    """Collects bodies by their stamps and returns complete frames in chronological order.

    A frame is complete when all tracked bodies have arrived. It waits for a missing tracked body
    until the image after the next begins; later frames do not wait for that body until it is seen
    again. A body that arrives after its frame, or after a newer one, is dropped as late (`late` is
    called with a sentence). Bodies without stamps form a frame each time one of them repeats.
    """

    def __init__(self, late: Callable[[str], None]) -> None:
        self._late = late
        self._tracked: frozenset[str] = frozenset()
        self._unseen: set[str] = set()  # tracked, but not waited for
        self._open: dict[int, Skeletons] = {}  # by stamp [ns]
        self._newest = 0  # stamp of the newest complete frame [ns]

    def track(self, ids: list[str], header: Any) -> list[Skeletons]:
        """The frames that a new list of tracked ids completes; an empty list is itself a frame."""
        self._tracked = frozenset(ids)
        self._unseen &= self._tracked
        stamp = stamp_ns_of(header)
        if not ids and not self._is_late(stamp):
            self._open.setdefault(stamp, Skeletons(header))
        return self._complete()

    def add(self, name: str, message: Any) -> list[Skeletons]:
        """The frames that a new body completes."""
        stamp = stamp_ns_of(message.header)
        self._unseen.discard(name)
        if self._is_late(stamp, name):
            return []
        complete = []
        if stamp == 0 and name in self._open.get(0, Skeletons(None)).bodies:
            complete = self._up_to(0)
        self._open.setdefault(stamp, Skeletons(message.header)).bodies[name] = message
        return complete + self._complete()

    def _is_late(self, stamp: int, name: str = "") -> bool:
        if stamp == 0 or stamp > self._newest:
            return False
        if stamp < self._newest - LATE_NS:  # a bag that loops
            self._open, self._newest = {}, 0
            return False
        if name:
            self._late(f"body '{name}' of {stamp} ns arrived after the frame of {self._newest} ns")
        return True

    def _complete(self) -> list[Skeletons]:
        complete = []
        while len(self._open) > MOST_OPEN:
            complete += self._up_to(min(self._open))
        awaited = self._tracked - self._unseen
        whole = [stamp for stamp, frame in self._open.items() if awaited <= set(frame.bodies)]
        return complete + (self._up_to(max(whole)) if whole else [])

    def _up_to(self, stamp: int) -> list[Skeletons]:
        """Remove and return the open frames up to a stamp."""
        frames = [self._open.pop(each) for each in sorted(self._open) if each <= stamp]
        self._unseen |= self._tracked - set(frames[-1].bodies)
        self._newest = max(self._newest, stamp)
        return frames


class Gatherer:
    """Subscribes to the tracked ids and to each body, and hands over complete frames.

    Args:
        topic: topic of the tracked ids; the bodies' topics are next to it.
        callback: called with `Skeletons` and the middleware's info on the message that completed
            the frame, without the sequence number, because each publisher numbers its own messages.
        late: see `FrameAssembler`.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        ids_type: Any,
        skeleton_type: Any,
        callback: Callable[[Skeletons, dict[str, Any]], None],
        late: Callable[[str], None],
    ) -> None:
        self._node, self._skeleton_type, self._callback = node, skeleton_type, callback
        self._base = topic.removesuffix("/tracked")
        self._subscriptions: dict[str, Any] = {}  # by id
        self._frames = FrameAssembler(late)
        self.tracked = node.create_subscription(ids_type, topic, self._on_ids, LATEST_IDS)

    def close(self) -> None:
        for each in (self.tracked, *self._subscriptions.values()):
            self._node.destroy_subscription(each)
        self._subscriptions = {}

    def _on_ids(self, message: Any, info: dict[str, Any]) -> None:
        # An id becomes part of a topic name; unsuitable ids are ignored.
        ids = [each for each in message.ids if _NAME.fullmatch(each)]
        for gone in set(self._subscriptions) - set(ids):
            self._node.destroy_subscription(self._subscriptions.pop(gone))
        for name in ids:
            if name not in self._subscriptions:
                topic = f"{self._base}/{name}/skeleton2d"
                self._subscriptions[name] = self._node.create_subscription(
                    self._skeleton_type, topic, partial(self._on_body, name), NEWEST
                )
        self._hand_over(self._frames.track(ids, message.header), info)

    def _on_body(self, name: str, message: Any, info: dict[str, Any]) -> None:
        self._hand_over(self._frames.add(name, message), info)

    def _hand_over(self, frames: list[Skeletons], info: dict[str, Any]) -> None:
        for frame in frames:
            self._callback(frame, {"received_timestamp": info["received_timestamp"]})
