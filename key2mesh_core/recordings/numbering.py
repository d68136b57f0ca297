# SPDX-License-Identifier: Apache-2.0
"""Images in the order they were taken, from file names of any style."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable


def number_names(names: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Each name's stream and its number in it, in the order of time.

    Of the numbers in names that are otherwise alike, the one with the most different values
    counts the images (the last of those, if several have as many); all else names the stream:
    `cam1_0007.json` is image 7 of `cam1_#.json`. Numbers are compared as numbers: 9 before 10.
    """
    alike = defaultdict(list)
    for name in sorted(set(names)):
        parts = re.split(r"([0-9]+)", name)
        alike[tuple(parts[0::2])].append((name, parts))
    found: list[tuple[str, int, str]] = []
    for texts, group in alike.items():
        if len(texts) == 1:
            found += [(name, 0, name) for name, _ in group]
            continue
        values = [len({parts[at] for _, parts in group}) for at in range(1, 2 * len(texts) - 1, 2)]
        at = 2 * max(range(len(values)), key=lambda place: (values[place], place)) + 1
        for name, parts in group:
            stream = "".join([*parts[:at], "#", *parts[at + 1 :]])
            found.append((stream, int(parts[at]), name))
    return {name: (stream, number) for stream, number, name in sorted(found, key=_natural)}


def _natural(entry: tuple[str, int, str]) -> tuple[list[tuple[int, str]], int, str]:
    stream, number, name = entry
    parts = re.split(r"([0-9]+)", stream)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts], number, name
