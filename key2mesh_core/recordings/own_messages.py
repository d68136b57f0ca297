# SPDX-License-Identifier: Apache-2.0
"""Recorded meshes and cameras as arrays; keypoints and cameras as messages, to write bags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.choose import NOTHING_STATED, Camera, choose_camera
from key2mesh_core.errors import BagError
from key2mesh_core.people.mesh_frame import MeshFrame, Topology, mesh_frame
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.bags import (
    Message,
    TopicMessages,
    list_topics,
    message_store,
    read_messages,
    topics_of_type,
)

KEYPOINTS_TYPE = "key2mesh_ros/msg/PersonKeypointsArray"
CAMERA_TYPE = "sensor_msgs/msg/CameraInfo"
MESHES_TYPE = "key2mesh_ros/msg/BodyMeshArray"
TOPOLOGY_TYPE = "key2mesh_ros/msg/BodyTopology"


def the_topic(bag: str | Path, message_type: str) -> str:
    """The one topic of a recording that holds messages of a type.

    Raises:
        BagError: there is none, or more than one.
    """
    names = topics_of_type(bag, message_type)
    if len(names) == 1:
        return names[0]
    if names:
        raise BagError(f"{bag} has several topics of {message_type}: {names}; say which")
    topics = ", ".join(f"{t.name} ({t.message_type})" for t in list_topics(bag))
    raise BagError(f"{bag} has no messages of {message_type}; it has: {topics or 'no topics'}")


def read_camera(bag: str | Path, topic: str | None = None) -> Camera:
    """The camera of a recording: its first CameraInfo; a guess where that is not calibrated.

    Raises:
        BagError: see `read_messages`.
        CameraError: CameraInfo does not even say the image's size.
    """
    topic = topic or the_topic(bag, CAMERA_TYPE)
    info = next(read_messages(bag, topic, CAMERA_TYPE)).value
    return choose_camera(info, NOTHING_STATED, width=0, height=0)


def read_meshes(bag: str | Path, topic: str | None = None) -> Iterator[MeshFrame]:
    """The meshes of a recording (of the only such topic unless one is named).

    Raises:
        BagError: see `read_messages`; also for meshes of unequal sizes in one message.
    """
    topic = topic or the_topic(bag, MESHES_TYPE)
    for message in read_messages(bag, topic, MESHES_TYPE):
        yield mesh_frame(message.value)


def read_topologies(bag: str | Path) -> Iterator[Topology]:
    """Every body topology in a recording, none included."""
    for topic in topics_of_type(bag, TOPOLOGY_TYPE):
        for message in read_messages(bag, topic, TOPOLOGY_TYPE):
            value = message.value
            yield Topology(
                value.body_model,
                np.array(value.triangles, dtype=np.int32).reshape(-1, 3),
                np.array(value.parents, dtype=np.int32),
            )


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
