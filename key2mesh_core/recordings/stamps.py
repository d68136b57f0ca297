# SPDX-License-Identifier: Apache-2.0
"""Images numbered by their stamps: those of one stream, or of several on one clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import BagError
from key2mesh_core.people.person_frame import PersonFrame

JUMP = 1000
"""By how many images the numbers jump when the clock jumps back: nothing moves across that."""


def frame_numbers(stamps_ns: Sequence[int], step_ns: float | None = None) -> NDArray[np.int64]:
    """Images of one stream numbered in steps of their usual distance in time, each one further.

    After a clock that jumps back the numbers are `JUMP` images further.

    Args:
        stamps_ns: when each was taken [ns].
        step_ns: their usual distance [ns]; None for the median of the distances.
    """
    gaps = np.diff(np.asarray(stamps_ns, dtype=np.int64))
    step = step_ns or _usual_step([stamps_ns])
    steps = np.where(gaps < 0, JUMP, np.maximum(1, np.rint(gaps / step)))
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)[: len(stamps_ns)]


def moment_numbers(stamps_ns: Sequence[Sequence[int]]) -> list[NDArray[np.int64]]:
    """Images of several synchronous streams, numbered so that one moment has one number.

    Images of different streams up to half a step apart show one moment, where a step is the usual
    distance in time of the fastest stream. Moments are numbered as the images of one stream are.
    Stamps are compared with one another, never with a clock of even steps: a step that is a
    thousandth too long would be a whole image after a thousand.

    Args:
        stamps_ns: for each stream when its images were taken [ns], never going back.

    Returns:
        For each stream its images' numbers, each larger than the one before.
    """
    step = _usual_step(stamps_ns)
    times = np.concatenate([np.asarray(one, dtype=np.int64) for one in stamps_ns])
    stream = np.repeat(np.arange(len(stamps_ns)), [len(one) for one in stamps_ns])
    times -= times.min(initial=np.iinfo(np.int64).max)
    moment = np.zeros(len(times), dtype=np.int64)
    last, start, there = -1, 0, set[int]()
    for at in np.lexsort((stream, times)).tolist():
        if last < 0 or times[at] - start > step / 2 or stream[at] in there:
            last, start, there = last + 1, times[at], set()
        there.add(stream[at])
        moment[at] = last
    # The middle of a moment's images: its first may be any camera's, half a step early.
    middles = np.rint(np.bincount(moment, weights=times) / np.bincount(moment))
    numbers = frame_numbers(middles.astype(np.int64).tolist(), step)[moment]
    return np.split(numbers, np.cumsum([len(one) for one in stamps_ns])[:-1])


def number_by_stamps(frames: Sequence[PersonFrame], name: str) -> list[PersonFrame]:
    """The frames with `number` by their stamps: a gap in time is a gap in the numbers.

    Those of one take are numbered on one clock, so that one moment has one number; other streams
    each for itself.

    Args:
        name: of the recording, for errors.

    Raises:
        BagError: the clock of a stream of a take jumps back.
    """
    streams: dict[str, dict[str, list[int]]] = {}
    for place, frame in enumerate(frames):
        clock = frame.take or f"\0{frame.stream}"
        streams.setdefault(clock, {}).setdefault(frame.stream, []).append(place)
    numbers = np.zeros(len(frames), np.int64)
    for of_stream in streams.values():
        places = list(of_stream.values())
        stamps = [[frames[place].stamp_ns for place in one] for one in places]
        if len(places) == 1 and not frames[places[0][0]].take:
            numbers[places[0]] = frame_numbers(stamps[0])
            continue
        for stream, one in zip(of_stream, stamps, strict=True):
            _check_forward(f"{name}: the clock of {stream!r}", one, len(places))
        for one, found in zip(places, moment_numbers(stamps), strict=True):
            numbers[one] = found
    return [replace(f, number=int(n)) for f, n in zip(frames, numbers, strict=True)]


def _check_forward(clock: str, stamps_ns: Sequence[int], cameras: int) -> None:
    for before, after in pairwise(stamps_ns):
        if after < before:
            raise BagError(
                f"{clock} jumps back from {before} to {after} ns, so which images "
                f"of {cameras} cameras belong together is unknown: cut the bag there, or read the "
                "topics one at a time"
            )


def _usual_step(stamps_ns: Sequence[Sequence[int]]) -> float:
    """The smallest of the streams' median distances in time [ns]; 1 where no time ever passes."""
    gaps = [np.diff(np.asarray(one, dtype=np.int64)) for one in stamps_ns]
    return min((float(np.median(g[g > 0])) for g in gaps if (g > 0).any()), default=1.0)
