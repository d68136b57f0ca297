# SPDX-License-Identifier: Apache-2.0
"""Recorded detections of any message type that we understand, from its definition in the bag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.data.bag_cameras import BagCamera
from key2mesh_core.data.bags import Topic, list_topics, read_topics
from key2mesh_core.data.detections import Detections, Losses
from key2mesh_core.detector_messages import READERS, MessageRefused, People
from key2mesh_core.errors import BagError
from key2mesh_core.frames import stamp_ns_of
from key2mesh_core.keypoints import to_network

JUMP = 1000
"""Images that pass, as it were, when the clock jumps back: nothing moves across that."""


def read_bag(
    bag: str | Path, topic: str, size: tuple[int, int], losses: Losses, rectified: bool = False
) -> Iterator[Detections]:
    """The detections on one topic of a recording, or on all that a pattern names.

    Where the recording has a CameraInfo, on one topic or with the keypoints' frame, the lens is
    undone. Images are numbered by their stamps, in steps of the usual time between two of a topic:
    a gap in time is a gap in the numbers. Stamps that nobody set are replaced by the time of
    recording.

    Args:
        bag: a rosbag2 folder, or a single .mcap or .db3 file.
        topic: its name; with `*`, every topic that it matches and whose type we know
            ("/humans/bodies/*/skeleton2d": the `*` names the person where the message does not).
        size: width and height [px] of the images where the messages do not tell; (0, 0) takes
            them from the recording's CameraInfo.
        losses: gets the messages that are refused.
        rectified: whether the images are rectified: CameraInfo describes both kinds.

    Raises:
        BagError: see `bags.read_messages`; also for a topic of another type.
    """
    path = Path(bag)
    topics = list_topics(path)
    chosen = _chosen(path, topic, topics)
    camera = BagCamera(path, topics, chosen[0].name, rectified)
    size = size if all(size) else camera.image_size
    stamps: dict[str, list[int]] = {t.name: [] for t in chosen}
    people: dict[str, list[People | None]] = {t.name: [] for t in chosen}
    types = {t.name: t.message_type for t in chosen}
    for name, message in read_topics(path, list(types)):
        where = f"message {len(stamps[name])} on {name}"
        try:
            found = READERS[types[name]](message.value, *size)
            stamps[name].append(stamp_ns_of(message.value.header) or message.recorded_ns)
        except MessageRefused as error:
            losses.add(error.cause, f"{where}: {error}")
            found = None
            stamps[name].append(message.recorded_ns)
        except AttributeError as error:
            raise BagError(
                f"{path}: {where} is an unknown kind of {types[name]}: {error}"
            ) from error
        people[name].append(found)
    for name, persons in people.items():
        person = _wildcard(topic, name)
        for frame, found in zip(frame_numbers(stamps[name]), persons, strict=True):
            if found is not None:
                keypoints, intrinsics = camera.straighten(
                    to_network(found.layout, found.keypoints), found.width, found.height
                )
                yield Detections(
                    stream=name,
                    frame=int(frame),
                    ids=tuple(own or person for own in found.ids),
                    keypoints=keypoints,
                    width=found.width,
                    height=found.height,
                    intrinsics=intrinsics,
                )


def frame_numbers(stamps_ns: Sequence[int]) -> NDArray[np.int64]:
    """Images of one stream numbered in steps of their usual distance in time, each one further.

    A clock that jumps back goes on `JUMP` images later.
    """
    gaps = np.diff(np.asarray(stamps_ns, dtype=np.int64))
    forward = gaps[gaps > 0]
    step = np.median(forward) if len(forward) else 1.0
    steps = np.where(gaps < 0, JUMP, np.maximum(1, np.rint(gaps / step)))
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)[: len(stamps_ns)]


def _chosen(path: Path, topic: str, topics: list[Topic]) -> list[Topic]:
    named = [t for t in topics if t.name == topic]
    if not named and "*" in topic:
        named = [t for t in topics if fnmatchcase(t.name, topic) and t.message_type in READERS]
    if not named:
        good = [t for t in topics if t.message_type in READERS]
        listed = "\n".join(
            f"  {t.name} ({t.message_type}, {t.message_count} messages)" for t in good or topics
        )
        what = "It has keypoints on" if good else "No topic of it has keypoints; it has"
        raise BagError(f"{path} has no topic {topic!r}. {what}:\n{listed or '  no topic at all'}")
    for one in named:
        if one.message_type not in READERS:
            raise BagError(
                f"{path}: topic {one.name!r} holds {one.message_type}; keypoints can be read from "
                f"{', '.join(READERS)}"
            )
    return named


def _wildcard(pattern: str, name: str) -> str:
    """What a pattern's one `*` stands for in a name; the empty string without one."""
    before, star, after = pattern.partition("*")
    return name[len(before) : len(name) - len(after)] if star else ""
