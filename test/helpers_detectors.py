# SPDX-License-Identifier: Apache-2.0
"""Recordings of other detectors' messages, with the definitions that their packages publish."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

YOLO = "yolo_msgs/msg/DetectionArray"
HRI = "hri_msgs/msg/Skeleton2D"
ZED = "zed_msgs/msg/ObjectsStamped"

# Field names and types, in the order in which they travel, of the .msg files of these projects:
#   yolo_msgs   https://github.com/mgonzs13/yolo_ros, tags 4.0.0 to 4.6.1 (yolo_msgs/msg);
#               tags 2.0.0 to 3.4.0 have the same under the name yolov8_msgs
#   hri_msgs    https://github.com/ros4hri/hri_msgs, tag 0.9.0 (msg); tag 2.0.0, which is for ROS 2,
#               has exactly 18 points in a Skeleton2D
#   zed_msgs    https://github.com/stereolabs/zed-ros2-interfaces, tags 4.2.5 to 5.3.0 (msg); tags
#               humble-v4.0.8 and humble-v4.1.4 have the same under the name zed_interfaces, tag
#               foxy-humble-v3.8 has 34 keypoints instead of 70
DEFINITIONS = {
    "yolo_msgs/msg/Vector2": "float64 x\nfloat64 y",
    "yolo_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "yolo_msgs/msg/Pose2D": "yolo_msgs/Point2D position\nfloat64 theta",
    "yolo_msgs/msg/BoundingBox2D": "yolo_msgs/Pose2D center\nyolo_msgs/Vector2 size",
    "yolo_msgs/msg/BoundingBox3D": (
        "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\nstring frame_id"
    ),
    "yolo_msgs/msg/Mask": "int32 height\nint32 width\nyolo_msgs/Point2D[] data",
    "yolo_msgs/msg/KeyPoint2D": "int32 id\nyolo_msgs/Point2D point\nfloat64 score",
    "yolo_msgs/msg/KeyPoint2DArray": "yolo_msgs/KeyPoint2D[] data",
    "yolo_msgs/msg/KeyPoint3D": "int32 id\ngeometry_msgs/Point point\nfloat64 score",
    "yolo_msgs/msg/KeyPoint3DArray": "yolo_msgs/KeyPoint3D[] data\nstring frame_id",
    "yolo_msgs/msg/Detection": (
        "int32 class_id\nstring class_name\nfloat64 score\nstring id\n"
        "yolo_msgs/BoundingBox2D bbox\nyolo_msgs/BoundingBox3D bbox3d\nyolo_msgs/Mask mask\n"
        "yolo_msgs/KeyPoint2DArray keypoints\nyolo_msgs/KeyPoint3DArray keypoints3d"
    ),
    YOLO: "std_msgs/Header header\nyolo_msgs/Detection[] detections",
    "hri_msgs/msg/NormalizedPointOfInterest2D": "float32 x\nfloat32 y\nfloat32 c",
    HRI: "std_msgs/Header header\nhri_msgs/NormalizedPointOfInterest2D[] skeleton",
    "zed_msgs/msg/Keypoint2Df": "float32[2] kp",
    "zed_msgs/msg/Keypoint2Di": "uint32[2] kp",
    "zed_msgs/msg/Keypoint3D": "float32[3] kp",
    "zed_msgs/msg/BoundingBox2Df": "zed_msgs/Keypoint2Df[4] corners",
    "zed_msgs/msg/BoundingBox2Di": "zed_msgs/Keypoint2Di[4] corners",
    "zed_msgs/msg/BoundingBox3D": "zed_msgs/Keypoint3D[8] corners",
    "zed_msgs/msg/Skeleton2D": "zed_msgs/Keypoint2Df[70] keypoints",
    "zed_msgs/msg/Skeleton3D": "zed_msgs/Keypoint3D[70] keypoints",
    "zed_msgs/msg/Object": (
        "string label\nint16 label_id\nstring sublabel\nfloat32 confidence\nfloat32[3] position\n"
        "float32[6] position_covariance\nfloat32[3] velocity\nbool tracking_available\n"
        "int8 tracking_state\nint8 action_state\nzed_msgs/BoundingBox2Di bounding_box_2d\n"
        "zed_msgs/BoundingBox3D bounding_box_3d\nfloat32[3] dimensions_3d\n"
        "bool skeleton_available\nint8 body_format\n"
        "zed_msgs/BoundingBox2Df head_bounding_box_2d\n"
        "zed_msgs/BoundingBox3D head_bounding_box_3d\nfloat32[3] head_position\n"
        "zed_msgs/Skeleton2D skeleton_2d\nzed_msgs/Skeleton3D skeleton_3d"
    ),
    ZED: "std_msgs/Header header\nzed_msgs/Object[] objects",
}

EARLIER_NAMES = {"yolo_msgs": "yolov8_msgs", "zed_msgs": "zed_interfaces"}
"""The packages that some of these were called before."""


@cache
def store() -> Any:
    """Message types of ROS 2 Jazzy and of the three detectors."""
    types = get_typestore(Stores.ROS2_JAZZY)
    found = {}
    for name, text in DEFINITIONS.items():
        found.update(get_types_from_msg(text, name))
        package = name.split("/")[0]
        if before := EARLIER_NAMES.get(package):
            text, name = (each.replace(f"{package}/", f"{before}/") for each in (text, name))
            found.update(get_types_from_msg(text, name))
    types.register(found)
    return types


def make(kind: str, **values: Any) -> Any:
    """A message whose other fields are zero, empty or lists of such."""
    types = store()
    module = types.types[kind]
    fields = {}
    for name, (node, details) in types.fielddefs[kind][1]:
        fields[name] = values.pop(name) if name in values else _blank(node, details)
    assert not values, f"{kind} has no {list(values)}"
    return module(**fields)


def _blank(node: Any, details: Any) -> Any:
    if node.name == "BASE":
        return {"string": "", "bool": False}.get(details[0], 0)
    if node.name == "NAME":
        return make(details)
    (inner, what), length = details
    if inner.name == "BASE" and what[0] != "string":
        return np.zeros(length, dtype=what[0])
    return [_blank(inner, what) for _ in range(length)] if node.name == "ARRAY" else []


def carried(message: Any) -> Any:
    """The message as a subscriber or the reader of a recording has it, after its bytes."""
    types, kind = store(), message.__msgtype__
    return types.deserialize_cdr(types.serialize_cdr(message, kind), kind)


def header(stamp_ns: int, frame_id: str = "eye") -> Any:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def yolo_message(stamp_ns: int, people: Iterable[tuple[str, np.ndarray]]) -> Any:
    """Persons as (id, (17, 3) keypoints): those of no confidence are absent, ids from 1."""
    detections = [
        make(
            "yolo_msgs/msg/Detection",
            class_name="person",
            score=0.9,
            id=name,
            keypoints=make(
                "yolo_msgs/msg/KeyPoint2DArray",
                data=[
                    make(
                        "yolo_msgs/msg/KeyPoint2D",
                        id=place + 1,
                        point=make("yolo_msgs/msg/Point2D", x=float(x), y=float(y)),
                        score=float(score),
                    )
                    for place, (x, y, score) in enumerate(points)
                    if score > 0
                ],
            ),
        )
        for name, points in people
    ]
    return make(YOLO, header=header(stamp_ns), detections=detections)


def hri_message(stamp_ns: int, points: np.ndarray) -> Any:
    """One person of (18, 3) normalised keypoints."""
    kind = "hri_msgs/msg/NormalizedPointOfInterest2D"
    skeleton = [make(kind, x=float(x), y=float(y), c=float(c)) for x, y, c in points]
    return make(HRI, header=header(stamp_ns), skeleton=skeleton)


def zed_message(
    stamp_ns: int, people: Iterable[tuple], body_format: int, frame_id: str = "eye"
) -> Any:
    """Bodies as (id, (K, 2) pixels), or (id, pixels, (K, 3) joints in space)."""
    objects = []
    for number, points, *joints in people:
        places, space = np.zeros((70, 2), np.float32), np.zeros((70, 3), np.float32)
        places[: len(points)] = points
        if joints:
            space[: len(joints[0])] = joints[0]
        flat = [make("zed_msgs/msg/Keypoint2Df", kp=place) for place in places]
        solid = [make("zed_msgs/msg/Keypoint3D", kp=place) for place in space]
        objects.append(
            make(
                "zed_msgs/msg/Object",
                label=f"Body_{number}",
                label_id=number,
                confidence=75.0,
                tracking_available=True,
                skeleton_available=True,
                body_format=body_format,
                skeleton_2d=make("zed_msgs/msg/Skeleton2D", keypoints=flat),
                skeleton_3d=make("zed_msgs/msg/Skeleton3D", keypoints=solid),
            )
        )
    return make(ZED, header=header(stamp_ns, frame_id), objects=objects)


def camera_info_of(width: int, height: int, focal: float, frame_id: str) -> Any:
    """A calibrated sensor_msgs/CameraInfo of a rectified image."""
    k = np.array([focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1])
    p = np.array([focal, 0, width / 2, 0, 0, focal, height / 2, 0, 0, 0, 1, 0])
    size = {"width": width, "height": height}
    kind = "sensor_msgs/msg/CameraInfo"
    return make(kind, header=header(1, frame_id), distortion_model="plumb_bob", k=k, p=p, **size)


def write_foreign_bag(
    path: Path, topics: dict[str, tuple[str, list[tuple[int, Any]]]], storage: str = "mcap"
) -> Path:
    """A recording of topic -> (type, [(recorded [ns], message)])."""
    plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[storage]
    queue = []
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        for topic, (kind, messages) in topics.items():
            connection = writer.add_connection(topic, kind, typestore=store())
            queue += [(stamp, connection, kind, message) for stamp, message in messages]
        for stamp, connection, kind, message in sorted(queue, key=lambda item: item[0]):
            writer.write(connection, stamp, store().serialize_cdr(message, kind))
    return path
