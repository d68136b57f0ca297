# SPDX-License-Identifier: Apache-2.0
"""Recorded detections of any message type that we understand, from its definition in the bag."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from key2mesh_core.data.bags import read_messages
from key2mesh_core.data.detections import Detections, Losses
from key2mesh_core.data.recordings import KEYPOINTS_TYPE
from key2mesh_core.detector_messages import MessageRefused, read_person_keypoints
from key2mesh_core.keypoints import to_network


def read_bag(
    bag: str | Path, topic: str, size: tuple[int, int], losses: Losses
) -> Iterator[Detections]:
    """The detections on one topic of a recording.

    Args:
        bag: a rosbag2 folder, or a single .mcap or .db3 file.
        topic: its name.
        size: width and height [px] of the images where the messages do not tell; 0 for unknown.
        losses: gets the messages that are refused.

    Raises:
        BagError: see `bags.read_messages`.
    """
    for index, message in enumerate(read_messages(bag, topic, KEYPOINTS_TYPE)):
        try:
            people = read_person_keypoints(message.value)
        except MessageRefused as error:
            losses.add(error.cause, f"message {index}: {error}")
            continue
        width, height = people.width or size[0], people.height or size[1]
        keypoints = to_network(people.layout, people.keypoints)
        yield Detections(topic, index, people.ids, keypoints, width, height)
