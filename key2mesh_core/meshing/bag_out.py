# SPDX-License-Identifier: Apache-2.0
"""Writes a recording with meshes added: every message unchanged, meshes right after their
keypoints.

The work is split into segments, each a complete file of the new recording. rosbag2 itself splits
long recordings like this, so nothing is copied in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from key2mesh_core.errors import BagError
from key2mesh_core.meshing.bag_writer import MIB, assemble, topic_key, writer
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.maker import MeshMaker, batches
from key2mesh_core.meshing.partial import Partial
from key2mesh_core.meshing.progress import Progress
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.mesh_frame import body_mesh_array, body_topology
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.bag_files import RawMessage, every_message, opened
from key2mesh_core.recordings.bag_keypoints import BagKeypoints, Read
from key2mesh_core.recordings.bags import MESHES_TYPE, TOPOLOGY_TYPE, message_store
from key2mesh_core.recordings.open import Recording


class Item(NamedTuple):
    """A message of the recording, and the keypoint frames that it completes; None for the end of
    the recording, which also completes frames."""

    message: RawMessage | None
    recorded_ns: int
    read: list[Read]

    @property
    def frames(self) -> list[PersonFrame]:
        return [frame for frame, _ in self.read]

    def measure(self) -> tuple[int, int, int]:
        """Number of people, images and bytes."""
        size = len(self.message[2]) if self.message else 0
        return sum(map(len, self.frames)), len(self.read), size


def add_meshes(
    config: MeshConfig,
    recording: Recording,
    bundle: Bundle,
    maker: MeshMaker,
    partial: Partial,
    progress: Progress,
) -> None:
    """Makes the new recording, resuming after the complete segments.

    Raises:
        BagError: the recording is damaged, or already has the topics to be added.
        TargetError: there is nobody in the recording.
    """
    ours, path = _Messages(bundle), recording.source.path
    preparation = recording.begin()
    recording.bag.rewind(preparation)
    with opened(path) as reader:
        taken = {c.topic for c in reader.connections} & {config.meshes_topic, config.topology_topic}
        if taken:
            raise BagError(f"{path} already has {sorted(taken)}: choose another --meshes-topic")
        groups = batches(_items(recording.bag, every_message(path, reader)), Item.measure)
        at, done = 0, partial.state().get("messages", 0)
        group = next(groups, None)
        while at < done and group is not None:  # segments end at the end of a group
            at += len(group)
            maker.recall([frame for item in group for frame in item.frames])
            group = next(groups, None)
        while group is not None:
            with partial.segment() as (folder, state):
                with writer(folder / "bag", config, path, reader) as (out, connections):
                    if at == 0:
                        begin = group[0].recorded_ns
                        out.write(connections[TOPOLOGY_TYPE], begin, ours.topology())
                    written = 0
                    while group is not None and written < config.segment * MIB:
                        frames, bodies = maker.make([f for item in group for f in item.frames])
                        for key, recorded_ns, data in _merged(group, frames, bodies, ours):
                            out.write(connections[key], recorded_ns, data)
                            written += len(data)
                        at += len(group)
                        progress.add(len(frames), len(bodies), [f.stamp_ns for f in frames])
                        group = next(groups, None)
                state |= {"messages": at, **progress.state()}
    preparation.end(recording.source.text)
    partial.finish(lambda segments, made: assemble(segments, made, config.target.name))


def _items(bag: BagKeypoints, messages: Iterator[RawMessage]) -> Iterator[Item]:
    recorded_ns = 0
    for connection, recorded_ns, data in messages:
        read = bag.read(connection, recorded_ns, data)
        yield Item((connection, recorded_ns, data), recorded_ns, read)
    if rest := bag.end():
        yield Item(None, recorded_ns, rest)


def _merged(
    group: list[Item], frames: Sequence[PersonFrame], bodies: Bodies, ours: _Messages
) -> Iterator[tuple[Any, int, bytes]]:
    """Key of the topic, time of recording and bytes of each message, meshes after keypoints."""
    named, first = iter(frames), 0
    for item in group:
        if item.message is not None:
            connection, recorded_ns, data = item.message
            yield topic_key(connection), recorded_ns, data
        for _, header in item.read:
            frame = next(named)
            here = bodies.select(np.arange(first, first + len(frame)))
            yield MESHES_TYPE, item.recorded_ns, ours.meshes(header, frame, here)
            first += len(frame)


class _Messages:
    """Serialises bodies to CDR."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._store = message_store()

    def topology(self) -> bytes:
        message = body_topology(self._new, np.ravel, self._bundle)
        return bytes(self._store.serialize_cdr(message, TOPOLOGY_TYPE))

    def meshes(self, header: Any, frame: PersonFrame, bodies: Bodies) -> bytes:
        # The detector's policy determines the frame; the header may name another.
        frame_id = frame.frame_id or header.frame_id
        message = body_mesh_array(
            self._new,
            np.ravel,
            self._new("std_msgs/msg/Header", stamp=header.stamp, frame_id=frame_id),
            frame,
            bodies,
            self._bundle.body_model,
        )
        return bytes(self._store.serialize_cdr(message, MESHES_TYPE))

    def _new(self, kind: str, **fields: Any) -> Any:
        return self._store.types[kind](**fields)
