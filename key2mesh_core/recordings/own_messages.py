# SPDX-License-Identifier: Apache-2.0
"""Recorded meshes and cameras as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from key2mesh_core.camera.choose import NOTHING_STATED, Camera, choose_camera
from key2mesh_core.errors import BagError
from key2mesh_core.people.mesh_frame import MeshFrame, Topology, mesh_frame
from key2mesh_core.recordings.bags import (
    list_topics,
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
