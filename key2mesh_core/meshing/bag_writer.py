# SPDX-License-Identifier: Apache-2.0
"""Writes files of a new recording with another one's topics and ours, and joins them as one bag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags import interfaces
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from ruamel.yaml import YAML

from key2mesh_core.errors import BagError
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.recordings.bags import MESHES_TYPE, TOPOLOGY_TYPE, definitions, message_store

MIB = 1 << 20
_NO_HASH = "RIHS01_" + "0" * 64  # for types without a definition in old recordings


def topic_key(connection: Connection) -> tuple:
    """The key that distinguishes a recording's topics."""
    return connection.topic, connection.msgtype, repr(connection.ext)


@contextmanager
def writer(
    folder: Path, config: MeshConfig, source: Path, reader: Reader
) -> Iterator[tuple[Writer, dict[Any, Connection]]]:
    """An open file with all topics; the source's by `topic_key`, ours by type."""
    storage = storage_of(config, source)
    out = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
    for key, value in (reader.storage.metadata.custom or {}).items():
        out.set_custom_data(key, str(value))
    if storage == "mcap":
        out.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with out:
        connections: dict[Any, Connection] = {}
        for each in reader.connections:
            if topic_key(each) not in connections:  # merged files list a topic more than once
                definition, digest = _described(each, source)
                connections[topic_key(each)] = out.add_connection(
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


def storage_of(config: MeshConfig, source: Path) -> str:
    """How the new recording is stored: "mcap" or "sqlite3"."""
    if config.storage != "same":
        return config.storage
    names = [p.name for p in source.iterdir()] if source.is_dir() else [source.name]
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
    except BagError:  # an unknown type: its bytes are still copied
        return definition, digest or _NO_HASH


def _qos(latched: bool) -> interfaces.Qos:
    zero = interfaces.QosTime(0, 0)
    return interfaces.Qos(
        history=interfaces.QosHistory.KEEP_LAST,
        depth=1 if latched else 5,
        reliability=interfaces.QosReliability.RELIABLE,
        durability=interfaces.QosDurability["TRANSIENT_LOCAL" if latched else "VOLATILE"],
        deadline=zero,
        lifespan=zero,
        liveliness=interfaces.QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=zero,
        avoid_ros_namespace_conventions=False,
    )


def assemble(segments: list[Path], made: Path, name: str) -> None:
    """Moves the segments' files into one folder and writes one metadata.yaml for all."""
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
        if (segment / "bag" / old).exists():  # else an interrupted process has already moved it
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
