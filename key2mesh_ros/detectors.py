# SPDX-License-Identifier: Apache-2.0
"""Subscribes to the messages of any known detector.

Imports a detector's message package only when it is needed, so none has to be installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.people.messages import DETECTORS, MessageRefused, StreamResolution
from key2mesh_core.people.messages import Detector as DetectorKind
from key2mesh_core.people.person_frame import PersonFrame

from .guarded_node import GuardedNode
from .hri import Gatherer, skeletons_reader
from .msg import PersonKeypointsArray
from .qos import NEWEST

LOOKING_PERIOD_S = 0.3
"""Period at which `auto` looks for a publisher while there is none [s]."""

ReceivedReader = Callable[[Any, Any | None, CameraOptions], PersonFrame]
"""Converts what the subscription's callback received to a frame, in the network's order and
sanitised, given CameraInfo or None and what the user states. Raises MessageRefused."""


class DetectorError(Key2MeshError):
    """The node cannot receive the detector's messages."""


OWN = DETECTORS["key2mesh"]

_BY_TOPIC_TYPE = {name: each for each in DETECTORS.values() for name in each.topic_types}


class Detector:
    """The configured node's subscription to the detector's messages.

    With `auto` it first subscribes to our own message, and to another known type when only that is
    published.

    Args:
        resources: destroys the subscriptions and the timer when closed.
        input_type: a key of DETECTORS, or "auto".
        callback: called with what was received, for `read`, and the middleware's message info.
        refuse: called with the cause and a sentence for each message that does not reach
            `callback`.

    Attributes:
        kind: the current detector.
        read: converts what the callback received.
        trouble: why `auto` cannot subscribe to what is published; empty if it can.

    Raises:
        DetectorError: the message package is not installed.
    """

    def __init__(
        self,
        node: GuardedNode,
        resources: ExitStack,
        input_type: str,
        callback: Callable[[Any, dict[str, Any]], None],
        refuse: Callable[[str, str], None],
    ) -> None:
        self._node, self._callback, self._refuse = node, callback, refuse
        self._topic = node.resolve_topic_name("~/keypoints")
        self._received = resources.enter_context(ExitStack())  # of the current subscription
        self.trouble = ""
        if input_type == "auto":
            self._subscribe(OWN.types[0])
            self._look()
            timer = node.create_timer(
                LOOKING_PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )
            resources.callback(node.destroy_timer, timer)
        else:
            self._subscribe(_installed(DETECTORS[input_type].topic_types))

    @property
    def topic(self) -> str:
        """The subscribed topic."""
        return self._subscription.topic_name

    def publishers(self) -> int:
        """How many publishers of the subscribed type there are."""
        return self._subscription.get_publisher_count()

    def _subscribe(self, type_name: str) -> None:
        """Replace the subscription."""
        detector = _BY_TOPIC_TYPE[type_name]
        message_type = message_class(type_name)
        self._received.close()
        if detector.list_type:
            topic = self._topic if self._topic.endswith("/tracked") else detector.list_topic
            skeleton, late = message_class(detector.types[0]), partial(self._refuse, "late")
            gatherer = Gatherer(self._node, topic, message_type, skeleton, self._callback, late)
            self._received.callback(gatherer.close)
            self._subscription = gatherer.tracked
        else:
            # Raw bytes: if rclpy itself failed to decode, the exception would leave the executor's
            # `spin`.
            self._subscription = self._node.create_subscription(
                message_type, self._topic, self._callback, NEWEST, raw=True
            )
            self._received.callback(self._node.destroy_subscription, self._subscription)
        self._type, self.kind = type_name, detector
        self.read = _stream_reader(detector, message_type)

    def _look(self) -> None:
        """Find the publisher's type while the subscription has no publisher."""
        self.trouble = ""
        if self.publishers():
            return
        published = self._types_on(self._topic)
        known = [each for each in published if each in _BY_TOPIC_TYPE]
        if not published:  # detectors that list bodies publish the list on a topic of its own
            listed = [(each.list_type, each.list_topic) for each in DETECTORS.values()]
            known = [kind for kind, topic in listed if kind and kind in self._types_on(topic)]
        if not known:
            if published:
                readable = ", ".join(each.topic_types[0] for each in DETECTORS.values())
                self._complain(
                    f"{self._topic} carries {', '.join(published)}, which the node cannot read; "
                    f"it reads {readable}: remap ~/keypoints to one of these"
                )
            return
        if known[0] == self._type:
            return  # discovered, but not yet matched
        try:
            self._subscribe(known[0])
            self._node.get_logger().info(f"detector: {known[0]} on {self.topic}")
        except DetectorError as error:
            self._complain(str(error))

    def _types_on(self, topic: str) -> list[str]:
        return sorted({each.topic_type for each in self._node.get_publishers_info_by_topic(topic)})

    def _complain(self, text: str) -> None:
        self.trouble = text
        self._node.throttled_log.error("input_type", text)


def _stream_reader(detector: DetectorKind, message_type: Any) -> ReceivedReader:
    """The reader for one stream of received messages, decoded or as bytes."""
    read = skeletons_reader(detector.read) if detector.list_type else detector.read
    resolution = StreamResolution()

    def read_received(received: Any, info: Any | None, options: CameraOptions) -> PersonFrame:
        if isinstance(received, bytes):
            received = _decoded(received, message_type)
        return resolution.settle(read(received, info, options))

    return read_received


def _decoded(data: bytes, message_type: Any) -> Any:
    try:
        return deserialize_message(data, message_type)
    except Exception as error:  # rclpy's own errors, which are not public, and Unicode's
        raise MessageRefused(
            "malformed",
            f"{len(data)} bytes are not a {message_type.__name__} ({error}): build detector and "
            "node with the same version of its messages",
        ) from error


def message_class(type_name: str) -> Any:
    """Import the class of a ROS message type; raises DetectorError if it is not installed."""
    package, _, name = type_name.split("/")
    if type_name == OWN.types[0]:
        return PersonKeypointsArray
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except ImportError as error:
        raise DetectorError(
            f"the detector's messages are {type_name}, and their package {package} is not "
            f"installed here ({error}): install it, or source the workspace that it was built in, "
            "and restart the node"
        ) from error
    except AttributeError as error:
        raise DetectorError(
            f"the installed package {package} has no message {name}: install the version that "
            "the detector uses"
        ) from error


def _installed(types: tuple[str, ...]) -> str:
    """The first type whose package is installed; the first of all if none is."""
    for type_name in types:
        try:
            message_class(type_name)
        except DetectorError:
            continue
        return type_name
    return types[0]
