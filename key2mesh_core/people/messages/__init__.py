# SPDX-License-Identifier: Apache-2.0
"""The table of detectors whose messages can be read.

The node's subscription and `input_type`, the bag reader and the docs test derive from `DETECTORS`.
A new detector needs a file with its reader next to this one and a row here. Readers use only
attributes, so they read rclpy's messages as well as recorded ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.people.messages.hri import read_hri
from key2mesh_core.people.messages.key2mesh import read_person_keypoints
from key2mesh_core.people.messages.reading import MessageRefused, StreamResolution
from key2mesh_core.people.messages.yolo import read_yolo
from key2mesh_core.people.messages.zed import read_zed
from key2mesh_core.people.person_frame import PersonFrame

__all__ = ["BY_TYPE", "DETECTORS", "Detector", "MessageRefused", "Reader", "StreamResolution"]

Reader = Callable[[Any, Any, CameraOptions], PersonFrame]
"""`read(message, info, options)`: the people in one message. `info` is the
newest sensor_msgs/CameraInfo of the camera, or None; `options` what the user states about it.
Keypoints are in the detector's layout, not sanitised; missing ones are zeros. Raises
`MessageRefused`.
"""


@dataclass(frozen=True)
class Detector:
    """One kind of detector.

    Attributes:
        name: value of the node's parameter `input_type`.
        types: ROS types of the messages with keypoints: the current name, then earlier ones.
        title: who publishes such messages, for descriptions.
        list_type, list_topic: ROS type and topic of the message that lists the bodies if each has
            its own topic; empty if one message holds everybody.
        tf_prefix: of the TF frames that the detector itself publishes for bodies; None without.
    """

    name: str
    types: tuple[str, ...]
    read: Reader
    title: str
    list_type: str = ""
    list_topic: str = ""
    tf_prefix: str | None = None

    @property
    def topic_types(self) -> tuple[str, ...]:
        """ROS types of the topic given to the node."""
        return (self.list_type,) if self.list_type else self.types


DETECTORS: dict[str, Detector] = {
    detector.name: detector
    for detector in (
        Detector(
            "key2mesh",
            ("key2mesh_ros/msg/PersonKeypointsArray",),
            read_person_keypoints,
            "any detector, with our own message",
        ),
        Detector(
            "yolo",
            ("yolo_msgs/msg/DetectionArray", "yolov8_msgs/msg/DetectionArray"),
            read_yolo,
            "yolo_ros with a pose model",
        ),
        Detector(
            "hri",
            ("hri_msgs/msg/Skeleton2D",),
            read_hri,
            "ROS4HRI (REP-155)",
            list_type="hri_msgs/msg/IdsList",
            list_topic="/humans/bodies/tracked",
            tf_prefix="body_",
        ),
        Detector(
            "zed",
            ("zed_msgs/msg/ObjectsStamped", "zed_interfaces/msg/ObjectsStamped"),
            read_zed,
            "ZED body tracking",
        ),
    )
}
"""Every detector, by name."""

BY_TYPE: dict[str, Detector] = {
    each: detector for detector in DETECTORS.values() for each in detector.types
}
"""The detector of each ROS message type that holds keypoints."""
