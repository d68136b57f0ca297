# SPDX-License-Identifier: Apache-2.0
"""Tracking: names people from frame to frame by their keypoints, where the detector does not.

A track holds a person's last seen keypoints, extrapolated with the last velocity. The people in a
frame are assigned to tracks such that the sum of the distances is smallest. A distance is the mean
over the common keypoints, in units of the person's box size, so that it does not depend on the
person's distance from the camera. A new person gets a track at once. A track is kept, and its
position predicted, for `timeout_s` after it was last seen; one seen in a single frame (a false
detection) for `trial_s`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.keypoints.arrays import MINIMUM_SIZE_PX, SEEN_CONFIDENCE, bounding_boxes

FloatArray = NDArray[np.float32]

PREFIX = "track_"
"""Names consist of this prefix and a number that a tracker never uses twice."""

NOMINAL_PERIOD_S = 1 / 30
"""Assumed time between frames whose stamps do not advance [s]."""


@dataclass(frozen=True)
class TrackingSettings:
    """The limits within which a person is recognised as the same.

    Attributes:
        timeout_s: how long a person may be unseen [s].
        trial_s: the same for a person seen in one frame only [s].
        gate: largest distance from a track's prediction, in units of the person's box size.
        gate_growth: growth of the gate while the person is unseen, in box sizes per second.
        velocity_memory_s: how long an unseen person is assumed to keep moving [s].
    """

    timeout_s: float = 1.0
    trial_s: float = 0.2
    gate: float = 0.3
    gate_growth: float = 1.0
    velocity_memory_s: float = 0.5


#: Keypoints that a person and a track must share; with fewer, box centres are compared.
_SHARED = 3
#: Weight of the newest velocity in a track's velocity.
_VELOCITY_SHARE = 0.4


@dataclass
class _Track:
    name: str
    keypoints: FloatArray  # (K, 3), as last seen
    velocity: FloatArray  # (2,) px/s
    last_ns: int
    frames: int


def unshared(ids: Sequence[str]) -> tuple[str, ...]:
    """The ids of one image, with "" in place of an id that several people share.

    Such ids (one id for everybody, a tracking error) do not distinguish people.
    """
    counts = Counter(ids)
    return tuple(each if counts[each] == 1 else "" for each in ids)


class Tracker:
    """Names the people in one stream of images. Not thread-safe."""

    def __init__(self, settings: TrackingSettings | None = None) -> None:
        self.settings = settings or TrackingSettings()
        self._born = 0
        self.reset()

    def reset(self) -> None:
        """Forget everybody, because the clock jumped back or another stream begins.

        People who appear later get names that were not used before.
        """
        self._tracks: list[_Track] = []
        self._now_ns = 0

    def name(self, ids: Sequence[str], keypoints: FloatArray, stamp_ns: int) -> tuple[str, ...]:
        """N names, none of them empty, no two equal.

        Args:
            ids: the detector's ids of N people. A unique id is kept; people without an id, or with
                a shared one (see `unshared`), are tracked by pose.
            keypoints: (N, K, 3) sanitised: x px, y px, confidence.
            stamp_ns: when the image was taken [ns]; a stamp that does not advance counts as 1/30 s
                after the last one.
        """
        names = unshared(ids)
        unnamed = [person for person, each in enumerate(names) if not each]
        if not unnamed and not self._tracks:
            return names
        nominal = self._now_ns + round(1e9 * NOMINAL_PERIOD_S)
        self._now_ns = stamp_ns if stamp_ns > self._now_ns else nominal
        self._tracks = [track for track in self._tracks if self._lives(track)]
        return self._match(names, unnamed, keypoints) if unnamed else names

    def _lives(self, track: _Track) -> bool:
        most = self.settings.timeout_s if track.frames > 1 else self.settings.trial_s
        return (self._now_ns - track.last_ns) / 1e9 <= most

    def _match(
        self, names: tuple[str, ...], unnamed: list[int], keypoints: FloatArray
    ) -> tuple[str, ...]:
        """The names, filled in for the people `unnamed`, whose tracks are updated."""
        result, taken = list(names), set(names)
        # The detector itself may use a name that the tracker has given.
        self._tracks = [track for track in self._tracks if track.name not in taken]
        persons = keypoints[unnamed]
        pairs = self._pairs(persons) if self._tracks else {}
        for row, person in enumerate(unnamed):
            if row in pairs:
                track = self._tracks[pairs[row]]
                self._move(track, persons[row])
            else:
                track = self._begin(persons[row], taken)
            result[person] = track.name
        return tuple(result)

    def _pairs(self, persons: FloatArray) -> dict[int, int]:
        """Maps the row of a person to the index of a track, with the smallest sum of distances
        within the gates.

        Recently seen tracks are assigned first: a gate grows with the time unseen, and the track of
        a person who has left must not take a person who is there.
        """
        gaps = np.array([(self._now_ns - track.last_ns) / 1e9 for track in self._tracks])
        walked = np.minimum(gaps, self.settings.velocity_memory_s)[:, None]
        velocities = np.stack([track.velocity for track in self._tracks])
        expected = np.stack([track.keypoints for track in self._tracks])
        expected[..., :2] += (velocities * walked)[:, None]
        gates = self.settings.gate + self.settings.gate_growth * gaps
        # A pair beyond its gate costs as much as no assignment.
        cost = np.minimum(distances(persons, expected) - gates, 0.0)
        latest = gaps == gaps.min()
        pairs = _assigned(cost, np.arange(len(persons)), np.flatnonzero(latest))
        left = np.array([row for row in range(len(persons)) if row not in pairs], dtype=np.intp)
        return pairs | _assigned(cost, left, np.flatnonzero(~latest))

    def _begin(self, keypoints: FloatArray, taken: set[str]) -> _Track:
        self._born += 1
        while (name := f"{PREFIX}{self._born}") in taken:
            self._born += 1
        track = _Track(name, keypoints.copy(), np.zeros(2, np.float32), self._now_ns, 1)
        self._tracks.append(track)
        return track

    def _move(self, track: _Track, keypoints: FloatArray) -> None:
        gap = max((self._now_ns - track.last_ns) / 1e9, 1e-3)
        both = (keypoints[:, 2] >= SEEN_CONFIDENCE) & (track.keypoints[:, 2] >= SEEN_CONFIDENCE)
        if both.sum() >= _SHARED:
            # The median over the keypoints, because hands wave while people walk.
            moved = np.median(keypoints[both, :2] - track.keypoints[both, :2], axis=0)
            share = _VELOCITY_SHARE if track.frames > 1 else 1.0
            track.velocity = track.velocity + np.float32(share) * (moved / gap - track.velocity)
        track.keypoints, track.last_ns = keypoints.copy(), self._now_ns
        track.frames += 1


def _assigned(
    cost: FloatArray, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> dict[int, int]:
    """Maps rows to columns with the smallest sum of costs over some rows and columns; leaving a row
    unassigned costs 0."""
    if not (len(rows) and len(columns)):
        return {}
    part = cost[np.ix_(rows, columns)]
    if 1 in part.shape:
        chosen = np.unravel_index([int(part.argmin())], part.shape)
    else:
        from scipy.optimize import linear_sum_assignment  # slow to import: see `warm_up`

        chosen = linear_sum_assignment(part)
    pairs = zip(rows[chosen[0]].tolist(), columns[chosen[1]].tolist(), strict=True)
    return {row: column for row, column in pairs if cost[row, column] < 0}


def warm_up() -> None:
    """Import scipy now: half a second that the first two unnamed people would otherwise wait."""
    import scipy.optimize  # noqa: F401


def distances(persons: FloatArray, tracks: FloatArray) -> NDArray[np.float64]:
    """(N, T) mean distance of the keypoints seen in both of (N, K, 3) and (T, K, 3) sanitised ones,
    in units of the larger box; with fewer than three such, the distance of the box centres."""
    both = (persons[:, None, :, 2] >= SEEN_CONFIDENCE) & (tracks[None, :, :, 2] >= SEEN_CONFIDENCE)
    apart = np.linalg.norm(persons[:, None, :, :2] - tracks[None, :, :, :2], axis=-1)
    shared = both.sum(axis=2)
    mean = (apart * both).sum(axis=2) / np.maximum(shared, 1)
    boxes, others = bounding_boxes(persons), bounding_boxes(tracks)
    middles = ((boxes[:, None, :2] + boxes[:, None, 2:]) - (others[:, :2] + others[:, 2:])) / 2
    mean = np.where(shared >= _SHARED, mean, np.linalg.norm(middles, axis=-1))
    sides = [(box[:, 2:] - box[:, :2]).max(axis=1) for box in (boxes, others)]
    size = np.maximum(np.maximum(sides[0][:, None], sides[1]), MINIMUM_SIZE_PX)
    return np.where(np.isfinite(mean), mean / size, math.inf)
