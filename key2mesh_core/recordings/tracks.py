# SPDX-License-Identifier: Apache-2.0
"""Identities in recordings: from image to image by the detector's ids, else by tracking; between
cameras by takes and names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.people.tracking import NOMINAL_PERIOD_S, Tracker, TrackingSettings

MAX_GAP = 10
"""Number of images that an unnamed person may be missing before being counted as somebody else."""

MAX_MOVE = 0.3
"""Largest mean distance of the keypoints from their prediction, in units of the person's box
size."""

_PATIENCE_S = (MAX_GAP + 0.5) * NOMINAL_PERIOD_S
# Nobody checks training data, so a doubtful person counts as a new one.
_SETTINGS = TrackingSettings(
    timeout_s=_PATIENCE_S, trial_s=_PATIENCE_S, gate=MAX_MOVE, gate_growth=0.0
)


Person = tuple[str, str]
"""A take and a name in it; the name is empty for a person who is alone in the image."""


@dataclass
class _Stream:
    tracker: Tracker = field(default_factory=lambda: Tracker(_SETTINGS))
    sequences: dict[str, int] = field(default_factory=dict)
    last: int = 0


@dataclass
class Tracks:
    """Gives every person of successive frames a sequence number; `names` has each one's stream, and
    the person's id if there is one."""

    names: list[str] = field(default_factory=list)
    _streams: dict[str, _Stream] = field(default_factory=dict)

    def assign(self, frame: PersonFrame) -> list[int]:
        """Sequence numbers of the people in a stream's next frame.

        A person with an id keeps the sequence of the id; others are tracked (`people.tracking`) by
        frame numbers, at an assumed 30 per second, because numbers, not stamps, show where a
        recording was cut. Streams share no sequences.
        """
        stream = self._streams.setdefault(frame.stream, _Stream())
        if frame.number < stream.last:
            stream.tracker.reset()
        stream.last = frame.number
        # The first image has number 0, and the tracker's clock must advance to it.
        stamp_ns = round(1e9 * NOMINAL_PERIOD_S * (frame.number + 1))
        names = stream.tracker.name(frame.ids, frame.keypoints, stamp_ns)
        for name in names:
            if name not in stream.sequences:
                stream.sequences[name] = len(self.names)
                own = f" {name}" if name in frame.ids else ""
                self.names.append(frame.stream + own)
        return [stream.sequences[name] for name in names]


def persons_of_take(image: PersonFrame) -> list[Person | None]:
    """Identifies the people in an image within its take.

    A person who is alone in the image is matched with the one whom the other cameras see alone,
    whatever the ids, because each camera's tracker counts separately. Of several people, those with
    the same name in all cameras are one person. None without a take, and without a name.
    """
    if image.take and len(image) == 1:
        return [(image.take, "")]
    return [(image.take, own) if image.take and own else None for own in image.ids]


def number_persons(
    persons: Sequence[Person | None], camera: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(N,) a number for each person whom several cameras saw, in the order of first appearance; -1
    for all others, because one camera alone gives nothing to agree on. `persons` is the person in
    each of N rows, `camera` (N,) the camera."""
    seen_by: defaultdict[Person, set[int]] = defaultdict(set)
    for person, number in zip(persons, camera.tolist(), strict=True):
        if person is not None:
            seen_by[person].add(number)
    shared = [person for person, cameras in seen_by.items() if len(cameras) > 1]
    numbers: dict[Person | None, int] = {person: number for number, person in enumerate(shared)}
    return np.array([numbers.get(person, -1) for person in persons], dtype=np.int32)


def cameras_at_once(
    camera: NDArray[np.int32], person: NDArray[np.int32], frame: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(N,) number of cameras that saw the person of each row at that moment, including its own;
    arguments as in `targets.TargetKeypoints`."""
    known = person >= 0
    moments = np.stack([person[known], frame[known]], axis=1)
    _, moment = np.unique(moments, axis=0, return_inverse=True)
    moment = moment.reshape(-1)
    views = np.unique(np.stack([moment, camera[known]], axis=1), axis=0)
    counts = np.ones(len(person), dtype=np.int64)
    counts[known] = np.bincount(views[:, 0])[moment]
    return counts
