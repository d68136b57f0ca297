# SPDX-License-Identifier: Apache-2.0
"""A recording with meshes added: every message as it was, meshes right behind their keypoints.

The work is cut into segments, each a complete file of the new recording; that is how rosbag2
itself splits long ones, so nothing needs to be copied together in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from ruamel.yaml import YAML

from key2mesh_core.errors import BagError
from key2mesh_core.meshing.bag_in import BagKeypoints, every_message
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.partial import Partial
from key2mesh_core.meshing.people import BATCH_IMAGES, BATCH_PERSONS, Image, MeshMaker
from key2mesh_core.meshing.progress import Progress
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.recordings.bags import definitions, message_store
from key2mesh_core.recordings.own_messages import MESHES_TYPE, TOPOLOGY_TYPE

MIB = 1 << 20
_GROUP_BYTES = 64 * MIB  # held in memory while the engine works: images may lie between keypoints
_NO_HASH = "RIHS01_" + "0" * 64  # of types that old recordings do not describe


@dataclass(frozen=True, eq=False)
class Item:
    """A message, and if it holds keypoints, its image and header."""

    connection: Connection
    recorded_ns: int
    data: bytes
    image: Image | None
    header: Any


def add_meshes(
    config: MeshConfig,
    keypoints: BagKeypoints,
    bundle: Bundle,
    maker: MeshMaker,
    partial: Partial,
    progress: Progress,
    most_quality: float,
) -> None:
    """Makes the new recording, going on behind what is complete already.

    Args:
        most_quality: what `quality` is cut to.

    Raises:
        BagError: the recording is damaged, or has topics of the names that are to be added.
    """
    ours = _Messages(bundle, most_quality)
    with every_message(config.source) as (reader, messages):
        taken = {c.topic for c in reader.connections} & {config.meshes_topic, config.topology_topic}
        if taken:
            raise BagError(
                f"{config.source} has {sorted(taken)} already: choose another --meshes-topic"
            )
        groups = _groups(keypoints, messages)
        at = _skip(groups, partial.state().get("messages", 0), maker)
        group = next(groups, None)
        while group is not None:
            with partial.segment() as (folder, state):
                with _writer(folder / "bag", config, reader) as (out, connections):
                    if at == 0:
                        begin = group[0].recorded_ns
                        out.write(connections[TOPOLOGY_TYPE], begin, ours.topology())
                    written = 0
                    while group is not None and written < config.segment * MIB:
                        images, bodies = maker.make([i.image for i in group if i.image is not None])
                        for connection, recorded_ns, data in _merged(group, images, bodies, ours):
                            out.write(connections[connection], recorded_ns, data)
                            written += len(data)
                        at += len(group)
                        progress.add(len(images), len(bodies), [i.stamp_ns for i in images])
                        group = next(groups, None)
                state["messages"] = at
                state["images"] = progress.frames
    partial.finish(lambda segments, made: _assemble(segments, made, config.target.name))


def _groups(
    keypoints: BagKeypoints, messages: Iterator[tuple[Connection, int, bytes]]
) -> Iterator[list[Item]]:
    """Messages in groups that are worth a run of the engine."""
    group: list[Item] = []
    persons = images = size = 0
    for connection, recorded_ns, data in messages:
        image = keypoints.read(connection, data)
        header = None if image is None else keypoints.last.header
        group.append(Item(connection, recorded_ns, data, image, header))
        size += len(data)
        if image is not None:
            images += 1
            persons += len(image.ids)
        if persons >= BATCH_PERSONS or images >= BATCH_IMAGES or size >= _GROUP_BYTES:
            yield group
            group, persons, images, size = [], 0, 0, 0
    if group:
        yield group


def _skip(groups: Iterator[list[Item]], messages: int, maker: MeshMaker) -> int:
    """Passes over what is complete; segments end where groups end, whichever process made them."""
    at = 0
    while at < messages:
        group = next(groups, [])
        if not group:
            break
        at += len(group)
        maker.recall([item.image for item in group if item.image is not None])
    return at


def _merged(
    group: list[Item], images: Sequence[Image], bodies: Bodies, ours: _Messages
) -> Iterator[tuple[Any, int, bytes]]:
    """Key of the topic, time of recording and bytes of each message, meshes behind keypoints."""
    left, first = iter(images), 0
    for item in group:
        yield _key(item.connection), item.recorded_ns, item.data
        if item.image is not None:
            ids = next(left).ids
            here = bodies.select(np.arange(first, first + len(ids)))
            yield MESHES_TYPE, item.recorded_ns, ours.meshes(item.header, ids, here)
            first += len(ids)


class _Messages:
    """Makes CDR bytes of bodies."""

    def __init__(self, bundle: Bundle, most_quality: float) -> None:
        self._bundle = bundle
        self._most_quality = np.float32(most_quality)
        self._store = message_store()
        types = self._store.types
        self._array, self._body = types[MESHES_TYPE], types["key2mesh_ros/msg/BodyMesh"]
        self._point = types["geometry_msgs/msg/Point"]

    def topology(self) -> bytes:
        bundle = self._bundle
        value = self._store.types[TOPOLOGY_TYPE](
            body_model=bundle.body_model,
            triangles=bundle.triangles.astype(np.uint32).ravel(),
            joint_names=list(bundle.joint_names),
            parents=bundle.parents,
        )
        return bytes(self._store.serialize_cdr(value, TOPOLOGY_TYPE))

    def meshes(self, header: Any, ids: Sequence[str], bodies: Bodies) -> bytes:
        none = np.zeros(0, np.float32)
        values = [
            self._body(
                id=name,
                quality=float(min(bodies.quality[i], self._most_quality)),
                reprojection_error=float(bodies.reprojection_error[i]),
                position=self._point(*bodies.translation[i].tolist()),
                betas=bodies.betas[i],
                pose=bodies.poses[i],
                joints=bodies.joints[i].ravel(),
                vertices=none if bodies.vertices is None else bodies.vertices[i].ravel(),
            )
            for i, name in enumerate(ids)
        ]
        value = self._array(header=header, body_model=self._bundle.body_model, bodies=values)
        return bytes(self._store.serialize_cdr(value, MESHES_TYPE))


def _key(connection: Connection) -> tuple:
    return connection.topic, connection.msgtype, repr(connection.ext)


@contextmanager
def _writer(
    folder: Path, config: MeshConfig, reader: Reader
) -> Iterator[tuple[Writer, dict[Any, Connection]]]:
    """An open file with all topics; the source's by `_key`, ours by type."""
    storage = storage_of(config)
    out = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
    for key, value in (reader.storage.metadata.custom or {}).items():
        out.set_custom_data(key, str(value))
    if storage == "mcap":
        out.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with out:
        connections: dict[Any, Connection] = {}
        for each in reader.connections:
            if _key(each) not in connections:  # merged files name a topic more than once
                definition, digest = _described(each, config.source)
                connections[_key(each)] = out.add_connection(
                    each.topic,
                    each.msgtype,
                    msgdef=definition,
                    rihs01=digest,
                    serialization_format=each.ext.serialization_format,
                    offered_qos_profiles=each.ext.offered_qos_profiles,
                )
        store = message_store()
        for topic, kind, latched in (
            (config.meshes_topic, MESHES_TYPE, False),
            (config.topology_topic, TOPOLOGY_TYPE, True),
        ):
            connections[kind] = out.add_connection(
                topic, kind, typestore=store, offered_qos_profiles=[_qos(latched)]
            )
        yield out, connections


def storage_of(config: MeshConfig) -> str:
    """How the new recording is stored: "mcap" or "sqlite3"."""
    if config.storage != "same":
        return config.storage
    path = config.source
    names = [p.name for p in path.iterdir()] if path.is_dir() else [path.name]
    return "sqlite3" if any(".db3" in name for name in names) else "mcap"


def _described(connection: Connection, path: Path) -> tuple[str, str]:
    """Definition and hash of a topic's type; old recordings may have neither."""
    definition, digest = connection.msgdef.data, connection.digest
    if definition and digest:
        return definition, digest
    try:
        store = definitions(connection, path)
        if connection.msgdef.format == MessageDefinitionFormat.NONE:
            definition, _ = store.generate_msgdef(connection.msgtype, ros_version=2)
        return definition, digest or store.hash_rihs01(connection.msgtype)
    except BagError:  # of a type nobody knows: its bytes are kept all the same
        return definition, digest or _NO_HASH


def _qos(latched: bool) -> Qos:
    zero = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 5,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=zero,
        lifespan=zero,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=zero,
        avoid_ros_namespace_conventions=False,
    )


def _assemble(segments: list[Path], made: Path, name: str) -> None:
    """The segments' files side by side, and one metadata.yaml for all."""
    made.mkdir(exist_ok=True)
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    infos = []
    for number, segment in enumerate(segments):
        info = yaml.load((segment / "bag" / "metadata.yaml").read_text())
        info = info["rosbag2_bagfile_information"]
        (old,) = info["relative_file_paths"]
        file = f"{name}_{number}{Path(old).suffix}"
        info["relative_file_paths"] = [file]
        info["files"][0]["path"] = file
        infos.append(info)
        if (segment / "bag" / old).exists():  # else an interrupted process has moved it
            (segment / "bag" / old).rename(made / file)
    whole = infos[0]
    start = min(each["starting_time"]["nanoseconds_since_epoch"] for each in infos)
    end = max(
        each["starting_time"]["nanoseconds_since_epoch"] + each["duration"]["nanoseconds"]
        for each in infos
    )
    for each in infos[1:]:
        whole["relative_file_paths"] += each["relative_file_paths"]
        whole["files"] += each["files"]
        whole["message_count"] += each["message_count"]
        for topic, more in zip(
            whole["topics_with_message_count"], each["topics_with_message_count"], strict=True
        ):
            topic["message_count"] += more["message_count"]
    whole["starting_time"] = {"nanoseconds_since_epoch": start}
    whole["duration"] = {"nanoseconds": end - start}
    with (made / "metadata.yaml").open("w") as stream:
        yaml.dump({"rosbag2_bagfile_information": whole}, stream)
