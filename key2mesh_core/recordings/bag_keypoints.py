# SPDX-License-Identifier: Apache-2.0
"""Reads the people in a bag's messages, of any supported detector, message by message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from key2mesh_core.errors import BagError
from key2mesh_core.people.messages import BY_TYPE, MessageRefused, StreamResolution
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.people.stamps import LATE_NS, StampOrder
from key2mesh_core.recordings.bag_files import raw_topics
from key2mesh_core.recordings.bag_topics import choose_topics, wildcard
from key2mesh_core.recordings.bags import Decoder, list_topics
from key2mesh_core.recordings.camera_infos import find_camera
from key2mesh_core.recordings.options import RecordingOptions
from key2mesh_core.recordings.prepare import DroppedRecords, Preparation

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

Read = tuple[PersonFrame, Any]
"""A frame, and the std_msgs/Header of its message."""

LATEST_NS = 500_000_000
"""How much later than the next images' messages a person's message may arrive [ns of stamps]."""


@dataclass
class _Stream:
    """A keypoint topic whose camera's CameraInfo is on `camera` (empty for none). The topics of the
    people in one image form one stream with one `name`; `person` is the id of people whose message
    has none, `number` the index of the next message."""

    topic: str
    camera: str
    name: str
    person: str
    number: int = 0
    resolution: StreamResolution = field(default_factory=StreamResolution)
    order: StampOrder = field(default_factory=StampOrder)


class BagKeypoints:
    """Reads the keypoint messages of one bag, and their CameraInfo.

    Attributes:
        count: number of messages on the keypoint topics.
        preparation: prepares frames and counts what was left out; `rewind` starts a new one.

    Raises:
        BagError: the bag is damaged; it has no keypoint topic, or several topics or cameras and the
            options do not select one; or a topic has another type.
    """

    def __init__(self, path: Path, options: RecordingOptions) -> None:
        self._path, self._options = path, options
        topics = list_topics(path)
        chosen = choose_topics(path, options.topic, topics)
        self._take = path.absolute().name if chosen.cameras else ""
        infos = options.camera_info.split(",")
        if len(infos) not in (1, len(chosen.topics)):
            raise BagError(
                f"{path}: {len(infos)} CameraInfo topics for {len(chosen.topics)} keypoint topics"
            )
        self._streams: dict[str, _Stream] = {}
        self._first_infos: dict[str, Any] = {}
        camera = ""
        for number, topic in enumerate(chosen.topics):
            if chosen.cameras or not number:
                wanted = infos[number % len(infos)]
                alone = not chosen.cameras
                camera, info = find_camera(path, topics, topic, options.camera, wanted, alone)
                self._first_infos |= {camera: info} if camera else {}
            name = chosen.pattern or topic.name
            person = wildcard(chosen.pattern, topic.name)
            self._streams[topic.name] = _Stream(topic.name, camera, name, person)
        self.count = sum(topic.message_count for topic in chosen.topics)
        self._persons_apart = bool(chosen.pattern)
        self._frame_id = ""
        self.rewind(Preparation(options))

    def rewind(self, preparation: Preparation) -> None:
        """Read the bag from its beginning again, with new counts."""
        self.preparation, self._decoder = preparation, Decoder(self._path)
        for stream in self._streams.values():
            stream.number, stream.resolution, stream.order = 0, StreamResolution(), StampOrder()
        # The first CameraInfo applies from the beginning, later ones from their position on.
        self._infos = dict(self._first_infos)
        self._images = BodiesOfImage() if self._persons_apart else None

    def frames(self, preparation: Preparation) -> Iterator[PersonFrame]:
        """The frames of the whole bag, in message order."""
        self.rewind(preparation)
        names = [*self._streams, *self._infos]
        for connection, recorded_ns, data in raw_topics(self._path, names):
            yield from (frame for frame, _ in self.read(connection, recorded_ns, data))
        yield from (frame for frame, _ in self.end())

    def read(self, connection: Connection, recorded_ns: int, data: bytes) -> list[Read]:
        """The frames that a message completes: none for messages of other topics and for refused or
        late ones, usually its own, and earlier ones if every person has a topic.

        Messages must be passed in the bag's order, because a CameraInfo applies from its position
        on.

        Raises:
            BagError: the message cannot be decoded.
            CameraError: the image size is needed but unknown.
        """
        if connection.topic in self._infos:
            self._infos[connection.topic] = self._decoder.decode(connection, data)
        stream = self._streams.get(connection.topic)
        if stream is None:
            return []
        number, stream.number = stream.number, stream.number + 1
        message = self._decoder.decode(connection, data)
        where = f"message {number} on {stream.topic}"
        try:
            read = BY_TYPE[connection.msgtype].read
            frame = read(message, self._infos.get(stream.camera), self._options.camera)
            frame = stream.resolution.settle(frame)
            if self._images is None:
                stream.order.check(frame.stamp_ns)
        except MessageRefused as error:
            self.preparation.dropped.add(error.cause, f"{where}: {error}")
            stream.number -= error.cause == "late"  # no image is missing there
            return []
        except AttributeError as error:
            raise BagError(
                f"{self._path}: {where} is an unsupported {connection.msgtype}: {error}"
            ) from error
        frame = replace(
            frame,
            ids=tuple(own or stream.person for own in frame.ids),
            stamp_ns=frame.stamp_ns or recorded_ns,
            stream=stream.name,
            number=number,
            take=self._take,
        )
        if self._images is None:
            return self._prepared(stream, [(frame, message.header)])
        self._frame_id = self._frame_id or frame.frame_id
        if frame.frame_id != self._frame_id:
            raise BagError(
                f"{self._path}: the topics {stream.name} come from several cameras with the frames "
                f"{self._frame_id!r} and {frame.frame_id!r}: name one camera's topics"
            )
        complete = self._images.add(frame, message.header, self.preparation.dropped)
        return self._prepared(stream, complete)

    def end(self) -> list[Read]:
        """The frames that are complete at the end of the bag."""
        rest = [] if self._images is None else self._images.rest()
        return self._prepared(next(iter(self._streams.values())), rest)

    def _prepared(self, stream: _Stream, read: list[Read]) -> list[Read]:
        info = self._infos.get(stream.camera)
        return [(self.preparation.prepare(frame, info), header) for frame, header in read]


class BodiesOfImage:
    """Assembles images from people that have separate messages with equal stamps, and returns them
    in the order of their stamps."""

    def __init__(self) -> None:
        self._waiting: dict[int, Read] = {}
        self._newest = self._given = -1
        self._number = 0

    def add(self, frame: PersonFrame, header: Any, dropped: DroppedRecords) -> list[Read]:
        """The images that a person's frame completes, with their headers; people who arrive after
        their image was returned are dropped and counted."""
        complete = []
        stamp = frame.stamp_ns
        if stamp < self._newest - LATE_NS:
            complete = self.rest()
            self._newest = self._given = -1
        if stamp <= self._given:
            dropped.add("late", f"{frame.stream}, stamp {stamp} ns", len(frame))
            return complete
        if stamp in self._waiting:
            before, _ = self._waiting[stamp]
            frame = replace(
                before,
                ids=before.ids + frame.ids,
                keypoints=np.concatenate([before.keypoints, frame.keypoints]),
            )
        self._waiting[stamp] = frame, header
        self._newest = max(self._newest, stamp)
        return complete + self._give(self._newest - LATEST_NS)

    def rest(self) -> list[Read]:
        """All waiting images, at the end of the recording."""
        return self._give(self._newest)

    def _give(self, until: int) -> list[Read]:
        given = []
        for stamp in sorted(stamp for stamp in self._waiting if stamp <= until):
            frame, header = self._waiting.pop(stamp)
            given.append((replace(frame, number=self._number), header))
            self._given, self._number = stamp, self._number + 1
        return given
