# SPDX-License-Identifier: Apache-2.0
"""Detections of the one person whom a data set labels, from OpenPose's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.keypoints.arrays import bounding_boxes, sanitise
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.recordings.openpose import layout_of, read_people


def one_person(files: Sequence[Path | None], boxes: NDArray | None = None) -> NDArray[np.float32]:
    """(F, K, 3) one person in each image of a sequence, in the network's order; all zero, so
    unseen, without a file, or if it shows nobody (who overlaps with the box).

    Args:
        files: of OpenPose's `--write_json`, one per image. Their layout is that of the sequence:
            one image may show too little of the person to recognise it.
        boxes: (F, 4) x_min, y_min, x_max, y_max px of the labelled person: of several people, the
            one whose keypoints' box overlaps most with it is taken. Otherwise the one with the
            highest sum of confidences.

    Raises:
        TargetError: a file is damaged, not from OpenPose, or of another layout than the others, or
            their layout is unknown.
    """
    found = np.zeros((len(files), len(NETWORK_KEYPOINTS), 3), np.float32)
    images = {str(file): read_people(file) for file in files if file is not None}
    shown = {name: each for name, each in images.items() if each[1]}
    if not shown:
        return found
    layout = layout_of(Path(next(iter(shown))).parent, shown, "")
    for row, file in enumerate(files):
        if str(file) in shown:
            people = np.array(shown[str(file)][1])[:, : len(layout)]
            box = None if boxes is None else np.asarray(boxes[row], np.float64)
            found[row] = _labelled(sanitise(to_network(layout, people)), box)
    return found


def _labelled(people: NDArray[np.float32], box: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """(K, 3) the labelled one of people (N, K, 3)."""
    if box is None:
        return people[np.argmax(people[..., 2].sum(axis=1))]
    overlaps = _overlap(bounding_boxes(people), box)
    best = np.argmax(overlaps)
    return people[best] if overlaps[best] > 0 else np.zeros_like(people[0])


def _overlap(boxes: NDArray, box: NDArray) -> NDArray[np.float64]:
    """(N,) intersection over union of boxes (N, 4) with one."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return shared / np.maximum(areas - shared, 1e-9)
