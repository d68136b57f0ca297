# SPDX-License-Identifier: Apache-2.0
"""Writes bags of keypoints and cameras without ROS, for converters and tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from key2mesh_core.camera.choose import Camera
from key2mesh_core.errors import BagError
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.bags import CAMERA_TYPE, KEYPOINTS_TYPE, message_store


@dataclass(frozen=True)
class Message:
    """One message, and when it was recorded [ns]."""

    recorded_ns: int
    value: Any


@dataclass(frozen=True)
class TopicMessages:
    """What `write_bag` puts on one topic: messages made from `message_store().types`."""

    topic: str
    message_type: str
    messages: Sequence[Message]


def write_bag(bag: str | Path, topics: Iterable[TopicMessages], *, storage: str = "mcap") -> None:
    """Writes a rosbag2 folder with its metadata.yaml, messages in the order of their time.

    Args:
        bag: the folder to make.
        topics: what to write; topics without any message are written too.
        storage: "mcap" (compressed inside, readable by every mcap tool) or "sqlite3".

    Raises:
        BagError: the folder exists already, or a message does not fit its type.
    """
    path = Path(bag)
    if path.exists():
        raise BagError(f"{path} exists already: remove it or choose another name")
    plugins = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
    if storage not in plugins:
        raise BagError(f"unknown storage {storage!r}; known: {', '.join(plugins)}")
    store = message_store()
    writer = Writer(path, version=9, storage_plugin=plugins[storage])
    if storage == "mcap":
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        queue = []
        for each in topics:
            connection = writer.add_connection(each.topic, each.message_type, typestore=store)
            queue += [(m.recorded_ns, connection, m.value) for m in each.messages]
        for recorded_ns, connection, value in sorted(queue, key=lambda item: item[0]):
            try:
                data = store.serialize_cdr(value, connection.msgtype)
            except Exception as error:  # whatever a wrong field makes numpy or struct raise
                raise BagError(
                    f"a message for {connection.topic!r} is not a {connection.msgtype}: {error}"
                ) from error
            writer.write(connection, recorded_ns, data)


def keypoint_recording(topic: str, frames: Sequence[PersonFrame]) -> TopicMessages:
    """Frames as messages on a topic, for `write_bag`; recorded when their images were taken."""
    types = message_store().types
    person = types["key2mesh_ros/msg/PersonKeypoints"]
    array = types[KEYPOINTS_TYPE]
    messages = []
    for frame in frames:
        people = [
            person(id=name, **_columns(points))
            for name, points in zip(frame.ids, frame.keypoints, strict=True)
        ]
        value = array(
            header=_header(frame.stamp_ns, frame.frame_id),
            layout=frame.layout,
            image_width=frame.width,
            image_height=frame.height,
            people=people,
        )
        messages.append(Message(frame.stamp_ns, value))
    return TopicMessages(topic, KEYPOINTS_TYPE, messages)


def camera_recording(
    topic: str, camera: Camera, frame_id: str, stamps_ns: Sequence[int]
) -> TopicMessages:
    """A camera without distortion as CameraInfo messages, one per stamp, for `write_bag`."""
    types = message_store().types
    at = camera.intrinsics
    matrix = [at.fx, 0.0, at.cx, 0.0, at.fy, at.cy, 0.0, 0.0, 1.0]
    projection = [at.fx, 0.0, at.cx, 0.0, 0.0, at.fy, at.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, do_rectify=False)
    messages = [
        Message(
            stamp,
            types[CAMERA_TYPE](
                header=_header(stamp, frame_id),
                height=camera.height,
                width=camera.width,
                distortion_model="plumb_bob",
                d=np.zeros(5),
                k=np.array(matrix),
                r=np.eye(3).ravel(),
                p=np.array(projection),
                binning_x=0,
                binning_y=0,
                roi=region,
            ),
        )
        for stamp in stamps_ns
    ]
    return TopicMessages(topic, CAMERA_TYPE, messages)


def _columns(points: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    columns = np.ascontiguousarray(points.T, dtype=np.float32)
    return {"x": columns[0], "y": columns[1], "confidence": columns[2]}


def _header(stamp_ns: int, frame_id: str) -> Any:
    types = message_store().types
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)
