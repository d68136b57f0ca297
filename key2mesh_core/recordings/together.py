# SPDX-License-Identifier: Apache-2.0
"""Who is seen by several cameras at the same moment, from the takes and names of detections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.people.person_frame import PersonFrame

Person = tuple[str, str]
"""A take and a name in it, empty for who is alone in the image."""


def persons_of_take(image: PersonFrame, usable: Sequence[str]) -> list[Person | None]:
    """Who the usable persons of an image are in its take.

    Args:
        image: what the detector gave.
        usable: names of those of its persons that are of use; empty for the unnamed.

    Returns:
        One for each of `usable`. Whoever is alone is taken for the one whom the other cameras see
        alone, whatever the name: trackers of several cameras count each for itself. Of several
        persons, those of one name in all cameras are one person. None without a take, and where
        it is in doubt who it is: without a name, or with one that the image has twice.
    """
    if not image.take:
        return [None] * len(usable)
    if len(usable) == 1:
        return [(image.take, "")]
    return [(image.take, name) if name and image.ids.count(name) == 1 else None for name in usable]


def number_persons(
    persons: Sequence[Person | None], camera: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(N,) a number for each person whom several cameras saw, in the order of first appearance.

    -1 for all others: what one camera alone saw has nothing to agree with.

    Args:
        persons: who is in each of N rows; None where that is in doubt.
        camera: (N,) the camera that saw each.
    """
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
    """(N,) how many cameras saw the person of each row at that moment, its own included.

    Args:
        camera, person, frame: (N,) as in `targets.TargetKeypoints`.
    """
    known = person >= 0
    moments = np.stack([person[known], frame[known]], axis=1)
    _, moment = np.unique(moments, axis=0, return_inverse=True)
    moment = moment.reshape(-1)
    views = np.unique(np.stack([moment, camera[known]], axis=1), axis=0)
    counts = np.ones(len(person), dtype=np.int64)
    counts[known] = np.bincount(views[:, 0])[moment]
    return counts
