# SPDX-License-Identifier: Apache-2.0
"""Numbers images in the order in which they were taken: by file names of any style, or by the
stamps of one stream or of several on one clock."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import BagError
from key2mesh_core.people.person_frame import PersonFrame

JUMP = 1000
"""Jump of the image numbers when the clock jumps back, too large for any track."""


_CAMERA = re.compile(r"(cam|camera|view|kinect|(?<![a-z])c)[ _-]*$", re.IGNORECASE)
"""Text before a camera's number in a file name."""


def number_names(names: Iterable[str], apart: bool = False) -> dict[str, tuple[str, int]]:
    """Stream and number of each name, in chronological order.

    Of the numbers in names that are otherwise alike, the one with the most distinct values is the
    image number (the last one if several tie), a camera's number only if no other number differs;
    everything else names the stream: `cam1_0007.json` is image 7 of `cam1_#.json`. Numbers are
    compared as numbers: 9 before 10.

    Args:
        apart: whether each folder is a separate stream.
    """
    alike = defaultdict(list)
    for name in sorted(set(names)):
        parts = re.split(r"([0-9]+)", name)
        folder = name.rpartition("/")[0] if apart else ""
        alike[folder, tuple(parts[0::2])].append((name, parts))
    found: list[tuple[str, int, str]] = []
    for (_, texts), group in alike.items():
        if len(texts) == 1:
            found += [(name, 0, name) for name, _ in group]
            continue
        values = {
            at: (len({parts[at] for _, parts in group}), at)
            for at in range(1, 2 * len(texts) - 1, 2)
        }
        counting = [
            at for at, (n, _) in values.items() if n > 1 and not _CAMERA.search(texts[at // 2])
        ]
        at = max(counting or values, key=lambda place: values[place])
        for name, parts in group:
            stream = "".join([*parts[:at], "#", *parts[at + 1 :]])
            found.append((stream, int(parts[at]), name))
    return {name: (stream, number) for stream, number, name in sorted(found, key=_natural)}


def _natural(entry: tuple[str, int, str]) -> tuple[list[tuple[int, str]], int, str]:
    stream, number, name = entry
    parts = re.split(r"([0-9]+)", stream)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts], number, name


def frame_numbers(stamps_ns: Sequence[int], step_ns: float | None = None) -> NDArray[np.int64]:
    """Numbers the images of one stream, taken at `stamps_ns`, in steps of the usual period
    `step_ns` (by default the median), by at least 1; by `JUMP` after a clock that jumps back. Late
    frames have already been dropped (`people.stamps`)."""
    gaps = np.diff(np.asarray(stamps_ns, dtype=np.int64))
    step = step_ns or _usual_step([stamps_ns])
    steps = np.where(gaps < 0, JUMP, np.maximum(1, np.rint(gaps / step)))
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)[: len(stamps_ns)]


def moment_numbers(stamps_ns: Sequence[Sequence[int]]) -> list[NDArray[np.int64]]:
    """Numbers the images of several synchronous streams, so that one moment has one number.

    Images of different streams at most half a step apart show one moment, where a step is the usual
    period of the fastest stream. Moments are numbered like the images of one stream. Stamps are
    compared with one another, never with a clock of even steps, because an error of a thousandth of
    a step would grow to a whole image after a thousand. The stamps of each stream must not go back;
    its numbers always increase.
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
    # The mean time of a moment's images: the first may be any camera's, half a step early.
    middles = np.rint(np.bincount(moment, weights=times) / np.bincount(moment))
    numbers = frame_numbers(middles.astype(np.int64).tolist(), step)[moment]
    return np.split(numbers, np.cumsum([len(one) for one in stamps_ns])[:-1])


def number_by_stamps(frames: Sequence[PersonFrame], name: str) -> list[PersonFrame]:
    """The frames with `number` set from their stamps: a gap in time is a gap in the numbers.

    Streams of one take are numbered on one clock, so that one moment has one number; other streams
    separately. `name` is the recording's name, for errors.

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
            back = next((pair for pair in pairwise(one) if pair[1] < pair[0]), None)
            if back:
                raise BagError(
                    f"{name}: the clock of {stream!r} jumps back from {back[0]} to {back[1]} ns, "
                    f"so which images of {len(places)} cameras match is unknown: cut the "
                    "bag there, or read the topics one at a time"
                )
        for one, found in zip(places, moment_numbers(stamps), strict=True):
            numbers[one] = found
    return [replace(f, number=int(n)) for f, n in zip(frames, numbers, strict=True)]


def _usual_step(stamps_ns: Sequence[Sequence[int]]) -> float:
    """The smallest of the streams' median periods [ns]; 1 if stamps never advance."""
    gaps = [np.diff(np.asarray(one, dtype=np.int64)) for one in stamps_ns]
    return min((float(np.median(g[g > 0])) for g in gaps if (g > 0).any()), default=1.0)
