# SPDX-License-Identifier: Apache-2.0
"""Tracking: names persons from frame to frame where the detector does not, by their keypoints.

A track is one person's keypoints as last seen, extrapolated at the person's last velocity. The
persons of a frame are assigned to tracks so that the sum of their distances is least
(`scipy.optimize.linear_sum_assignment`). A distance is the mean over the keypoints that both have,
in sides of the person's box, so that it means the same near and far.

    birth      at first sight: nobody waits for a name
    occlusion  a track is kept, and its place predicted, for `timeout_s` after it was last seen
    death      after that; a track seen in one frame only (a false detection) after `trial_s`
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.keypoints.arrays import MINIMUM_SIZE_PX, SEEN_CONFIDENCE, bounding_boxes

FloatArray = NDArray[np.float32]

PREFIX = "track_"
"""Names given here are this and a number that a tracker never uses twice."""

NOMINAL_PERIOD_S = 1 / 30
"""Time between frames whose stamps do not advance [s]."""


@dataclass(frozen=True)
class TrackingSettings:
    """When a person is still the same.

    Attributes:
        timeout_s: how long a person may be unseen [s].
        trial_s: the same for a person seen in one frame only [s].
        gate: largest distance from where a track is expected, in sides of the person's box.
        gate_growth: growth of the gate while the person is unseen, in box sides per second.
        velocity_memory_s: how long an unseen person is assumed to keep walking [s].
    """

    timeout_s: float = 1.0
    trial_s: float = 0.2
    gate: float = 0.3
    gate_growth: float = 1.0
    velocity_memory_s: float = 0.5


#: Keypoints that a person and a track must share; with fewer, the boxes' middles are compared.
_SHARED = 3
#: Share of the newest velocity in a track's.
_VELOCITY_SHARE = 0.4


@dataclass
class _Track:
    name: str
    keypoints: FloatArray  # (K, 3), as last seen
    velocity: FloatArray  # (2,) px/s
    first_ns: int
    last_ns: int
    frames: int


def unshared(ids: Sequence[str]) -> tuple[str, ...]:
    """The ids of one image, with "" in place of an id that several of its persons have.

    Such ids (one id for everybody, a tracker's mistake) do not tell the persons apart.
    """
    counts = Counter(ids)
    return tuple(each if counts[each] == 1 else "" for each in ids)


class Tracker:
    """Names the persons of one stream of images. Not thread-safe."""

    def __init__(self, settings: TrackingSettings | None = None) -> None:
        self.settings = settings or TrackingSettings()
        self._born = 0
        self.reset()

    def reset(self) -> None:
        """Forget all persons, because the clock jumped back or another stream begins.

        Persons who come later get names that were not used before.
        """
        self._tracks: list[_Track] = []
        self._now_ns = 0

    def name(self, ids: Sequence[str], keypoints: FloatArray, stamp_ns: int) -> tuple[str, ...]:
        """N names, none of them empty, no two equal.

        Args:
            ids: the detector's names of N persons. A name that one person alone has is kept;
                who has none, or shares it (see `unshared`), is tracked by pose.
            keypoints: (N, K, 3) sanitised: x px, y px, confidence.
            stamp_ns: when the image was taken [ns]; a stamp that does not advance counts as a
                thirtieth of a second after the last one.
        """
        names = unshared(ids)
        unnamed = [person for person, each in enumerate(names) if not each]
        if not unnamed and not self._tracks:
            return names
        self._now_ns = max(stamp_ns, 0) if stamp_ns > self._now_ns else self._later()
        self._bury()
        return self._match(names, unnamed, keypoints) if unnamed else names

    def _later(self) -> int:
        return self._now_ns + round(1e9 * NOMINAL_PERIOD_S)

    def _bury(self) -> None:
        def lives(track: _Track) -> bool:
            unseen_s = (self._now_ns - track.last_ns) / 1e9
            most = self.settings.timeout_s if track.frames > 1 else self.settings.trial_s
            return unseen_s <= most

        self._tracks = [track for track in self._tracks if lives(track)]

    def _match(
        self, names: tuple[str, ...], unnamed: list[int], keypoints: FloatArray
    ) -> tuple[str, ...]:
        """The names with those of the persons `unnamed`, whose tracks move to where they are."""
        result, taken = list(names), set(names)
        # The detector itself may use a name that was given here.
        self._tracks = [track for track in self._tracks if track.name not in taken]
        persons = keypoints[unnamed]
        pairs = self._pairs(persons) if self._tracks else {}
        for row, person in enumerate(unnamed):
            if row in pairs:
                track = self._tracks[pairs[row]]
                self._move(track, persons[row])
            else:
                track = self._bear(persons[row], taken)
            result[person] = track.name
        return tuple(result)

    def _pairs(self, persons: FloatArray) -> dict[int, int]:
        """Row of a person: index of its track, by the least sum of distances within the gates."""
        gaps = np.array([(self._now_ns - track.last_ns) / 1e9 for track in self._tracks])
        walked = np.minimum(gaps, self.settings.velocity_memory_s)[:, None]
        velocities = np.stack([track.velocity for track in self._tracks])
        expected = np.stack([track.keypoints for track in self._tracks])
        expected[..., :2] += (velocities * walked)[:, None]
        gates = self.settings.gate + self.settings.gate_growth * gaps
        # Not to match at all costs nothing, so nobody is pushed away to a worse track.
        cost = np.minimum(distances(persons, expected) - gates, 0.0)
        if 1 in cost.shape:
            rows, columns = np.unravel_index([int(cost.argmin())], cost.shape)
        else:
            rows, columns = _solver()(cost)
        chosen = zip(rows.tolist(), columns.tolist(), strict=True)
        return {row: column for row, column in chosen if cost[row, column] < 0}

    def _bear(self, keypoints: FloatArray, taken: set[str]) -> _Track:
        name = ""
        while not name or name in taken:
            self._born += 1
            name = f"{PREFIX}{self._born}"
        still = np.zeros(2, np.float32)
        track = _Track(name, keypoints.copy(), still, self._now_ns, self._now_ns, 1)
        self._tracks.append(track)
        return track

    def _move(self, track: _Track, keypoints: FloatArray) -> None:
        gap = max((self._now_ns - track.last_ns) / 1e9, 1e-3)
        both = (keypoints[:, 2] >= SEEN_CONFIDENCE) & (track.keypoints[:, 2] >= SEEN_CONFIDENCE)
        if both.sum() >= _SHARED:
            # The median keypoint's: hands wave, people walk.
            moved = np.median(keypoints[both, :2] - track.keypoints[both, :2], axis=0)
            share = _VELOCITY_SHARE if track.frames > 1 else 1.0
            track.velocity = track.velocity + np.float32(share) * (moved / gap - track.velocity)
        track.keypoints, track.last_ns = keypoints.copy(), self._now_ns
        track.frames += 1


@cache
def _solver() -> Callable[..., Any]:
    """`linear_sum_assignment`, whose import takes half a second and 30 MB: see `warm_up`."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment


def warm_up() -> None:
    """Import now what a tracker would otherwise import with the first two unnamed persons.

    Raises:
        ImportError: scipy is not installed.
    """
    _solver()


def distances(persons: FloatArray, tracks: FloatArray) -> NDArray[np.float64]:
    """(N, T) mean distance of the keypoints seen of both, in sides of the larger of both boxes.

    With fewer than three such keypoints the boxes' middles are compared.

    Args:
        persons: (N, K, 3) sanitised keypoints. tracks: (T, K, 3).
    """
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
