# SPDX-License-Identifier: Apache-2.0
"""Recorded keypoints as stored in their messages, unprocessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from key2mesh_core.camera.choose import NOTHING_STATED
from key2mesh_core.people.messages import BY_TYPE
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.bags import KEYPOINTS_TYPE, read_messages, the_topic


def read_keypoints(bag: Path, topic: str = "") -> Iterator[PersonFrame]:
    """The frames of our own messages, in the detector's layout."""
    topic = topic or the_topic(bag, KEYPOINTS_TYPE)
    for message in read_messages(bag, topic, KEYPOINTS_TYPE):
        yield BY_TYPE[KEYPOINTS_TYPE].read(message, None, NOTHING_STATED)
