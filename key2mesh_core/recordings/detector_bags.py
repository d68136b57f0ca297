# SPDX-License-Identifier: Apache-2.0
"""Recorded detections of any message type that we understand, from its definition in the bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import BagError
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.people.frames import stamp_ns_of
from key2mesh_core.people.messages import BY_TYPE, MessageRefused
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.bag_cameras import BagCamera
from key2mesh_core.recordings.bags import Topic, list_topics, read_topics
from key2mesh_core.recordings.detections import Detections, Losses
from key2mesh_core.recordings.stamps import frame_numbers, moment_numbers


@dataclass
class _Stream:
    """One topic of a recording, as it is read.

    Attributes:
        camera: that saw the topic's keypoints.
        size: width and height [px] of images whose message does not tell, as the user says.
        person: name of persons to whom the message gives none.
        stamps_ns: when each message's image was taken [ns].
        people: what each message holds; None for one that is refused.
    """

    topic: Topic
    camera: BagCamera
    size: tuple[int, int]
    person: str
    stamps_ns: list[int] = field(default_factory=list)
    people: list[PersonFrame | None] = field(default_factory=list)


def read_bag(
    bag: str | Path, topic: str, size: tuple[int, int], losses: Losses, rectified: bool = False
) -> Iterator[Detections]:
    """The detections on one topic of a recording, on all that a pattern names, or on several.

    Where the recording has a CameraInfo, on one topic or with the keypoints' frame, the lens is
    undone. Images are numbered by their stamps, in steps of the usual time between two of a topic:
    a gap in time is a gap in the numbers. Stamps that nobody set are replaced by the time of
    recording.

    Args:
        bag: a rosbag2 folder, or a single .mcap or .db3 file.
        topic: its name; with `*`, every topic that it matches and whose type we know
            ("/humans/bodies/*/skeleton2d": the `*` names the person where the message does not).
            Several names with commas between them are cameras that saw the same people at the
            same time ("/left/keypoints,/right/keypoints"): one take, numbered on one clock.
        size: width and height [px] of the images where the messages do not tell; (0, 0) takes
            them from the recording's CameraInfo.
        losses: gets the messages that are refused.
        rectified: whether the images are rectified: CameraInfo describes both kinds.

    Raises:
        BagError: see `bags.read_messages`; also for a topic of another type, and for several
            topics of which one is no plain name, is named twice, or has stamps that go back.
    """
    path = Path(bag)
    topics = list_topics(path)
    several = "," in topic
    if several:
        chosen = _listed(path, topic, topics)
        cameras = [BagCamera(path, topics, t.name, rectified, only_camera=False) for t in chosen]
    else:
        chosen = _chosen(path, topic, topics)
        cameras = [BagCamera(path, topics, chosen[0].name, rectified)] * len(chosen)
    streams = [
        _Stream(
            topic=one,
            camera=camera,
            size=size,
            person=_wildcard(topic, one.name),
        )
        for one, camera in zip(chosen, cameras, strict=True)
    ]
    _read(path, streams, losses)
    if several:
        numbers = _numbers_on_one_clock(path, streams)
    else:
        numbers = [frame_numbers(stream.stamps_ns) for stream in streams]
    take = path.absolute().name if several else ""
    for stream, frames in zip(streams, numbers, strict=True):
        yield from _detections(stream, frames, take)


def _read(path: Path, streams: list[_Stream], losses: Losses) -> None:
    """Fills the streams with what the recording has of them."""
    by_name = {stream.topic.name: stream for stream in streams}
    for name, message in read_topics(path, list(by_name)):
        stream = by_name[name]
        kind = stream.topic.message_type
        where = f"message {len(stream.stamps_ns)} on {name}"
        try:
            found = BY_TYPE[kind].read(
                message.value, stream.camera.info, CameraOptions(image_size=stream.size)
            )
            stream.stamps_ns.append(stamp_ns_of(message.value.header) or message.recorded_ns)
        except MessageRefused as error:
            losses.add(error.cause, f"{where}: {error}")
            found = None
            stream.stamps_ns.append(message.recorded_ns)
        except AttributeError as error:
            raise BagError(f"{path}: {where} is an unknown kind of {kind}: {error}") from error
        stream.people.append(found)


def _numbers_on_one_clock(path: Path, streams: list[_Stream]) -> list[NDArray[np.int64]]:
    """Numbers of the messages of synchronous cameras: one moment has one number.

    Those that were refused get none of their own (-1): the time of recording that stands for
    their stamps is another clock's.
    """
    known = [np.array([people is not None for people in s.people], dtype=bool) for s in streams]
    stamps = [np.array(s.stamps_ns, np.int64)[k] for s, k in zip(streams, known, strict=True)]
    for stream, mine in zip(streams, stamps, strict=True):
        back = np.flatnonzero(np.diff(mine) < 0)
        if len(back):
            raise BagError(
                f"{path}: the clock of {stream.topic.name!r} jumps back from {mine[back[0]]} to "
                f"{mine[back[0] + 1]} ns, so which images of {len(streams)} cameras belong "
                "together is unknown: cut the bag there, or read the topics one at a time"
            )
    numbers = [np.full(len(k), -1, dtype=np.int64) for k in known]
    for all_of_it, k, found in zip(numbers, known, moment_numbers(stamps), strict=True):
        all_of_it[k] = found
    return numbers


def _detections(stream: _Stream, frames: NDArray[np.int64], take: str) -> Iterator[Detections]:
    for frame, found in zip(frames, stream.people, strict=True):
        if found is not None:
            keypoints, intrinsics = stream.camera.straighten(
                to_network(found.layout, found.keypoints), found.width, found.height
            )
            yield Detections(
                stream=stream.topic.name,
                frame=int(frame),
                ids=tuple(own or stream.person for own in found.ids),
                keypoints=keypoints,
                width=found.width,
                height=found.height,
                intrinsics=intrinsics,
                take=take,
            )


def _listed(path: Path, names: str, topics: list[Topic]) -> list[Topic]:
    """The topics of several cameras, from their names with commas between them."""
    listed = names.split(",")
    if "*" in names:
        raise BagError(
            f"{path}: {names!r} has both '*' and ','; a pattern names the topics of persons, a "
            "list those of cameras: name each camera's one topic"
        )
    if "" in listed:
        raise BagError(f"{path}: {names!r} has an empty name: write /left/people,/right/people")
    twice = [name for place, name in enumerate(listed) if name in listed[:place]]
    if twice:
        raise BagError(f"{path}: {names!r} names {twice[0]!r} twice; each topic is one camera")
    chosen = [_chosen(path, name, topics)[0] for name in listed]
    for one in chosen:
        if not one.message_count:
            raise BagError(f"{path}: topic {one.name!r} holds no message")
    return chosen


def _chosen(path: Path, topic: str, topics: list[Topic]) -> list[Topic]:
    named = [t for t in topics if t.name == topic]
    if not named and "*" in topic:
        named = [t for t in topics if fnmatchcase(t.name, topic) and t.message_type in BY_TYPE]
    if not named:
        good = [t for t in topics if t.message_type in BY_TYPE]
        listed = "\n".join(
            f"  {t.name} ({t.message_type}, {t.message_count} messages)" for t in good or topics
        )
        what = "It has keypoints on" if good else "No topic of it has keypoints; it has"
        raise BagError(f"{path} has no topic {topic!r}. {what}:\n{listed or '  no topic at all'}")
    for one in named:
        if one.message_type not in BY_TYPE:
            raise BagError(
                f"{path}: topic {one.name!r} holds {one.message_type}; keypoints can be read from "
                f"{', '.join(BY_TYPE)}"
            )
    return named


def _wildcard(pattern: str, name: str) -> str:
    """What a pattern's one `*` stands for in a name; the empty string without one."""
    before, star, after = pattern.partition("*")
    return name[len(before) : len(name) - len(after)] if star else ""
