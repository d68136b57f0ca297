# SPDX-License-Identifier: Apache-2.0
"""Finds the up axis of motion capture from the position of the heads, and turns it to z.

AMASS's world has z up; releases with y up exist (for games and video methods), and files in a
camera's frame have y down. Read as z-up, everybody would be lying. A single clip is not conclusive,
because people do lie and crawl, so the clips of a folder decide together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle

#: A spine points along an axis if its mean direction over a clip has this component or more.
_ALONG = 0.8
#: People who travel this far [m] horizontally, and farther than they rise, move along the ground.
_TRAVELLED_M = 1.0

_AXES = ("+x", "+y", "+z", "-x", "-y", "-z")
_TO_Z_UP = {
    "+y": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32),
    "-y": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32),
}


class Clue(NamedTuple):
    """Evidence from one clip: the axis along which its spines point ("+x" ... "-z"), or "" if there
    is none; and the number of frames."""

    axis: str
    frames: int


def clue_of(roots: NDArray[np.float32], trans: NDArray[np.float32] | None) -> Clue:
    """Reads a clip.

    Args:
        roots: (F, 3) axis-angle of the root in the world [rad].
        trans: (F, 3) position of the root [m], if the file has it.
    """
    # The second column: the direction of the body's own y axis, from pelvis to head.
    spine = axis_angle_to_matrix(roots)[..., 1].mean(axis=0)
    place = int(np.abs(spine).argmax())
    if abs(spine[place]) < _ALONG:
        return Clue("", len(roots))
    if place != 2 and trans is not None and trans.ndim == 2 and trans.shape[1] == 3:
        moved = trans[np.isfinite(trans).all(axis=1)]
        extent = np.ptp(moved, axis=0) if len(moved) else np.zeros(3)
        if extent[place] > max(_TRAVELLED_M, extent[2]):
            return Clue("", len(roots))  # crawling or swimming head first, not climbing
    return Clue(_AXES[place + (3 if spine[place] < 0 else 0)], len(roots))


def turn_upright(
    paths: Sequence[Path],
    roots: Sequence[NDArray[np.float32]],
    clues: Sequence[Clue],
    report: Callable[[str], None],
) -> list[NDArray[np.float32]]:
    """Roots (F, 3) of clips in a z-up world.

    Args:
        paths, roots, clues: of each clip. The clips of one folder decide together which axis is up;
            inconclusive ones follow them.
        report: called with what was turned, and with what looks wrong but was not turned.
    """
    votes: defaultdict[Path, Counter[str]] = defaultdict(Counter)
    for path, clue in zip(paths, clues, strict=True):
        if clue.axis:
            votes[path.parent][clue.axis] += clue.frames
    turned: Counter[tuple[Path, str]] = Counter()
    lying: list[Path] = []
    found = []
    for path, root, clue in zip(paths, roots, clues, strict=True):
        most, _ = max(votes[path.parent].items(), key=lambda vote: vote[::-1], default=("+z", 0))
        axis = clue.axis or most
        if axis == most and axis in _TO_Z_UP:
            turned[path.parent, axis] += 1
            root = matrix_to_axis_angle(_TO_Z_UP[axis] @ axis_angle_to_matrix(root))
        elif axis != "+z":
            lying.append(path)
        found.append(root.astype(np.float32))
    for (folder, axis), count in turned.items():
        up = "y up" if axis == "+y" else "y down"
        report(f"{folder}: {count} clips have {up} (heads are along {axis}): turned to z up")
    if lying:
        report(
            f"{len(lying)} clips show people who always lie ({lying[0]}, for example): used as "
            "they are; if they stand, their world's up axis is not z: turn them"
        )
    return found
