# SPDX-License-Identifier: Apache-2.0
"""Recordings (rosbag2: sqlite3 and mcap, folders and single files), read without ROS.

A recording that cannot be trusted is refused: one whose metadata promises another number of
messages than its storage holds, one without the topic asked for, one that breaks off. Only the
topic asked for is decoded, so a message type nobody knows elsewhere in the bag does no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from key2mesh_core.camera.choose import NOTHING_STATED, Camera, choose_camera
from key2mesh_core.errors import BagError
from key2mesh_core.people.mesh_frame import MeshFrame, Topology, mesh_frame
from key2mesh_core.recordings.bag_files import opened, raw_topics
from key2mesh_core.recordings.definitions import message_definitions

try:
    from rosbags.interfaces import Connection, MessageDefinitionFormat
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
except ModuleNotFoundError as error:  # pragma: no cover
    raise BagError("reading recordings needs the package rosbags: pip install rosbags") from error

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

KEYPOINTS_TYPE = "key2mesh_ros/msg/PersonKeypointsArray"
CAMERA_TYPE = "sensor_msgs/msg/CameraInfo"
MESHES_TYPE = "key2mesh_ros/msg/BodyMeshArray"
TOPOLOGY_TYPE = "key2mesh_ros/msg/BodyTopology"

_IDL_SEPARATOR = "=" * 80 + "\n"


@dataclass(frozen=True)
class Topic:
    """What a recording says about one of its topics."""

    name: str
    message_type: str
    message_count: int


@dataclass(frozen=True)
class Message:
    """One decoded message, and when it was recorded [ns]."""

    recorded_ns: int
    value: Any


@cache
def message_store() -> Typestore:
    """The message types of ROS 2 Jazzy and of this project, to make messages from."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for name, text in message_definitions().items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


def list_topics(bag: str | Path) -> list[Topic]:
    """The topics of a recording.

    Raises:
        BagError: the recording is missing, damaged, or contradicts its own metadata.
    """
    with opened(Path(bag)) as reader:
        counts: Counter[tuple[str, str]] = Counter()
        for each in reader.connections:  # merged files name a topic more than once
            counts[each.topic, each.msgtype] += each.msgcount
        return [Topic(*key, count) for key, count in counts.items()]


def topics_of_type(bag: str | Path, message_type: str) -> list[str]:
    """Names of the topics of a recording that hold messages of `message_type`."""
    return [t.name for t in list_topics(bag) if t.message_type == message_type and t.message_count]


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


def read_raw(
    bag: str | Path, topic: str, message_type: str | None = None
) -> Iterator[tuple[int, bytes]]:
    """When each message of one topic was recorded [ns], and its CDR bytes; raises as
    `read_messages`."""
    for _, recorded_ns, data in raw_topics(Path(bag), [topic], message_type):
        yield recorded_ns, data


def read_messages(
    bag: str | Path, topic: str, message_type: str | None = None
) -> Iterator[Message]:
    """The messages of one topic, decoded, in the order they were recorded.

    Args:
        bag: a rosbag2 folder, or a single .mcap or .db3 file.
        message_type: refuse the topic if it holds anything else.

    Raises:
        BagError: the recording is missing or damaged, has no such topic, has it empty or of
            another type, or a message cannot be decoded. Raised at the first message if the
            recording's metadata contradicts its storage on the number of messages.
    """
    decoder = Decoder(Path(bag))
    for connection, recorded_ns, data in raw_topics(Path(bag), [topic], message_type):
        yield Message(recorded_ns, decoder.decode(connection, data))


class Decoder:
    """Decodes a recording's messages by the definitions in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stores: dict[str, Typestore] = {}
        self._count: Counter[str] = Counter()

    def decode(self, connection: Connection, data: bytes) -> Any:
        """The topic's next message.

        Raises:
            BagError: its definition or the message cannot be read.
        """
        kind, topic = connection.msgtype, connection.topic
        if kind not in self._stores:
            self._stores[kind] = definitions(connection, self._path)
        number, self._count[topic] = self._count[topic], self._count[topic] + 1
        try:
            return self._stores[kind].deserialize_cdr(data, kind)
        except Exception as error:  # rosbags lets IndexError, struct.error... through
            raise BagError(
                f"{self._path}: message {number} on {topic!r} is not a {kind} ({len(data)} bytes): "
                f"{error}"
            ) from error


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


def definitions(connection: Connection, path: Path) -> Typestore:
    """Types for one topic: from the definition in the recording, else this project's own.

    Raises:
        BagError: there is no definition, or it cannot be read.
    """
    definition = connection.msgdef
    if definition.format == MessageDefinitionFormat.NONE:
        store = message_store()
        if connection.msgtype not in store.fielddefs:
            raise BagError(
                f"{path} holds no definition of {connection.msgtype}, which {connection.topic!r} "
                "needs (sqlite3 before ROS 2 Iron has none): convert it with `ros2 bag convert` "
                "(storage_id: mcap) where that package is installed"
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
    except Exception as error:  # parser errors are of many kinds
        raise BagError(
            f"{path}: the definition of {connection.msgtype}, which {connection.topic!r} needs, "
            f"cannot be read: {error!r}"
        ) from error
