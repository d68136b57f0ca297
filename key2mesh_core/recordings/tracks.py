# SPDX-License-Identifier: Apache-2.0
"""Who is who from image to image: by the detector's names, else by the nearest pose before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_GAP = 10
"""Images that an unnamed person may be missing from before coming back as somebody else."""

MAX_MOVE = 0.3
"""Mean way of the keypoints from image to image, of the person's longer side: more is another."""

_COMMON = 3
"""Keypoints that two poses must both show to be compared."""


@dataclass
class _Stream:
    named: dict[str, int] = field(default_factory=dict)
    # Sequence -> image and pose (sanitised) where an unnamed person was last.
    latest: dict[int, tuple[int, NDArray[np.float32]]] = field(default_factory=dict)


@dataclass
class Tracker:
    """Gives every person of successive images a sequence number.

    Attributes:
        names: the name of each sequence: its stream, and the person's own name if it has one.
    """

    names: list[str] = field(default_factory=list)
    _streams: dict[str, _Stream] = field(default_factory=dict)

    def assign(
        self, stream_name: str, frame: int, ids: tuple[str, ...], keypoints: NDArray[np.float32]
    ) -> list[int]:
        """Sequence numbers of the persons of a stream's next image.

        A named person keeps the sequence of the name. An unnamed one (or a name that an image
        has twice) continues the sequence whose last pose is nearest, nearest pairs first, unless
        that is too far away or too long ago.

        Args:
            stream_name: what the image belongs to; streams have no sequence in common.
            frame: number of the image.
            ids: N names; empty strings for those who have none.
            keypoints: (N, 18, 3) sanitised.
        """
        stream = self._streams.setdefault(stream_name, _Stream())
        result = [-1] * len(ids)
        unnamed = []
        for person, name in enumerate(ids):
            if not name or name in ids[:person]:
                unnamed.append(person)
                continue
            if name not in stream.named:
                stream.named[name] = self._new(f"{stream_name} {name}")
            result[person] = stream.named[name]
        for person, sequence in _nearest(stream, frame, keypoints, unnamed):
            result[person] = sequence
        for person in unnamed:
            if result[person] < 0:
                result[person] = self._new(stream_name)
            stream.latest[result[person]] = frame, keypoints[person]
        return result

    def _new(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1


def _nearest(
    stream: _Stream, frame: int, keypoints: NDArray[np.float32], persons: Iterable[int]
) -> list[tuple[int, int]]:
    """Pairs of person and sequence, nearest first, each used once."""
    for sequence in [s for s, (last, _) in stream.latest.items() if frame - last > MAX_GAP]:
        del stream.latest[sequence]
    pairs = []
    for person in persons:
        for sequence, (_, pose) in stream.latest.items():
            move = _move(keypoints[person], pose)
            if move <= MAX_MOVE:
                pairs.append((move, person, sequence))
    chosen: dict[int, int] = {}
    for _, person, sequence in sorted(pairs):
        if person not in chosen and sequence not in chosen.values():
            chosen[person] = sequence
    return list(chosen.items())


def _move(pose: NDArray[np.float32], before: NDArray[np.float32]) -> float:
    """Mean way of the keypoints that both poses show, relative to the longer side of the first."""
    both = (pose[:, 2] > 0) & (before[:, 2] > 0)
    if np.count_nonzero(both) < _COMMON:
        return np.inf
    points = pose[pose[:, 2] > 0, :2]
    side = float(np.ptp(points, axis=0).max())
    way = float(np.linalg.norm(pose[both, :2] - before[both, :2], axis=1).mean())
    return way / max(side, 1.0)
