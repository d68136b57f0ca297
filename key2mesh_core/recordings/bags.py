# SPDX-License-Identifier: Apache-2.0
"""Reads bags (rosbag2: sqlite3 and mcap, folders and single files) without ROS.

A recording is refused if its number of messages differs from its metadata, if it lacks the
requested topic, or if it is truncated. Only the requested topic is decoded, so unknown message
types elsewhere in the bag do no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from key2mesh_core.camera.choose import NOTHING_STATED, Camera, choose_camera
from key2mesh_core.errors import BagError, Key2MeshError
from key2mesh_core.people.mesh_frame import (
    MESHES_TYPE,
    TOPOLOGY_TYPE,
    MeshFrame,
    Topology,
    mesh_frame,
)
from key2mesh_core.recordings.bag_files import opened, raw_topics

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

KEYPOINTS_TYPE = "key2mesh_ros/msg/PersonKeypointsArray"
CAMERA_TYPE = "sensor_msgs/msg/CameraInfo"

_IDL_SEPARATOR = "=" * 80 + "\n"


@dataclass(frozen=True)
class Topic:
    """A recording's information on one of its topics."""

    name: str
    message_type: str
    message_count: int


def message_definitions() -> dict[str, str]:
    """The text of our own message files by ROS type name ("key2mesh_ros/msg/BodyMesh"), in a
    source tree, a pip installation and a colcon workspace alike."""
    package = Path(__file__).parent.parent
    # Installed packages have a copy made by the build (setup.py, CMakeLists.txt); a source tree has
    # the originals next to the package.
    for folder in (package / "assets" / "msg", package.parent / "msg"):
        if files := sorted(folder.glob("*.msg")):
            return {f"key2mesh_ros/msg/{file.stem}": file.read_text() for file in files}
    raise Key2MeshError(f"no message definitions in {package}/assets/msg: install key2mesh again")


@cache
def message_store() -> Typestore:
    """The message types of ROS 2 Jazzy and of this project, for creating messages."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for name, text in message_definitions().items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


def list_topics(bag: str | Path) -> list[Topic]:
    """The topics of a recording; raises BagError as `opened` does."""
    with opened(Path(bag)) as reader:
        counts: Counter[tuple[str, str]] = Counter()
        for each in reader.connections:  # merged files list a topic more than once
            counts[each.topic, each.msgtype] += each.msgcount
        return [Topic(*key, count) for key, count in counts.items()]


def topics_of_type(bag: str | Path, message_type: str) -> list[str]:
    """Names of a recording's topics with messages of `message_type`."""
    return [t.name for t in list_topics(bag) if t.message_type == message_type and t.message_count]


def the_topic(bag: str | Path, message_type: str) -> str:
    """The only topic of a recording with messages of a type; BagError for none, or several."""
    names = topics_of_type(bag, message_type)
    if len(names) == 1:
        return names[0]
    if names:
        raise BagError(f"{bag} has several topics of {message_type}: {names}; choose one")
    topics = ", ".join(f"{t.name} ({t.message_type})" for t in list_topics(bag))
    raise BagError(f"{bag} has no messages of {message_type}; it has: {topics or 'no topics'}")


def read_messages(bag: str | Path, topic: str, message_type: str | None = None) -> Iterator[Any]:
    """The decoded messages of one topic in the order of recording.

    Args:
        bag: a rosbag2 folder, or a single .mcap or .db3 file.
        message_type: refuse a topic of any other type.

    Raises:
        BagError: the recording is missing or damaged; the topic is missing, empty or of another
            type; or a message cannot be decoded. Raised at the first message if the number of
            messages differs from the metadata.
    """
    decoder = Decoder(Path(bag))
    for connection, _, data in raw_topics(Path(bag), [topic], message_type):
        yield decoder.decode(connection, data)


class Decoder:
    """Decodes a recording's messages with the definitions in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stores: dict[str, Typestore] = {}
        self._count: Counter[str] = Counter()

    def decode(self, connection: Connection, data: bytes) -> Any:
        """The topic's next message; raises BagError for one that cannot be read."""
        kind, topic = connection.msgtype, connection.topic
        if kind not in self._stores:
            self._stores[kind] = definitions(connection, self._path)
        number, self._count[topic] = self._count[topic], self._count[topic] + 1
        try:
            return self._stores[kind].deserialize_cdr(data, kind)
        except Exception as error:  # rosbags raises IndexError, struct.error...
            raise BagError(
                f"{self._path}: message {number} on {topic!r} is not a {kind} ({len(data)} bytes): "
                f"{error}"
            ) from error


def read_camera(bag: str | Path, topic: str | None = None) -> Camera:
    """The camera of a recording: its first CameraInfo, or a guess if that is not calibrated. Raises
    CameraError if CameraInfo lacks even the image size."""
    topic = topic or the_topic(bag, CAMERA_TYPE)
    info = next(read_messages(bag, topic, CAMERA_TYPE))
    return choose_camera(info, NOTHING_STATED, width=0, height=0)


def read_meshes(bag: str | Path) -> Iterator[MeshFrame]:
    """The meshes of a recording, on the only such topic."""
    return map(mesh_frame, read_messages(bag, the_topic(bag, MESHES_TYPE), MESHES_TYPE))


def read_topologies(bag: str | Path) -> Iterator[Topology]:
    """Every body topology in a recording; may be empty."""
    for topic in topics_of_type(bag, TOPOLOGY_TYPE):
        for message in read_messages(bag, topic, TOPOLOGY_TYPE):
            triangles = np.array(message.triangles, dtype=np.int32).reshape(-1, 3)
            yield Topology(message.body_model, triangles, np.array(message.parents, np.int32))


def definitions(connection: Connection, path: Path) -> Typestore:
    """Types for one topic: from the definition in the recording, else from this project; raises
    BagError without either."""
    definition = connection.msgdef
    if definition.format == MessageDefinitionFormat.NONE:
        store = message_store()
        if connection.msgtype not in store.fielddefs:
            raise BagError(
                f"{path} has no definition of {connection.msgtype} (sqlite3 before ROS 2 Iron has "
                "none): run `ros2 bag convert` (storage_id: mcap) where its package is installed"
            )
        return store
    try:
        if definition.format == MessageDefinitionFormat.MSG:
            types = get_types_from_msg(definition.data, connection.msgtype)
        else:
            types = {}
            for part in definition.data.split(_IDL_SEPARATOR):
                body = part.partition("\n")[2] if part.startswith("IDL: ") else part
                types.update(get_types_from_idl(body) if body.strip() else {})
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        store.get_msgdef(connection.msgtype)
        return store
    except Exception as error:  # the parser raises many kinds of errors
        raise BagError(
            f"{path}: the definition of {connection.msgtype}, which {connection.topic!r} needs, "
            f"cannot be read: {error!r}"
        ) from error
