# SPDX-License-Identifier: Apache-2.0
"""Detections of the one person whom a data set labels, from OpenPose's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.keypoints.arrays import bounding_boxes, sanitise
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.recordings.openpose import read_people
from key2mesh_core.recordings.which_layout import which_layout

UNDETECTED = np.zeros((len(NETWORK_KEYPOINTS), 3), np.float32)
"""(K, 3): no keypoint is seen."""


def one_person(file: Path | None, box: NDArray | None = None) -> NDArray[np.float32]:
    """(K, 3) one person of one image in the network's order; `UNDETECTED` without a file, or if it
    shows nobody (who overlaps with `box`).

    Args:
        file: of OpenPose's `--write_json`.
        box: x_min, y_min, x_max, y_max px of the labelled person: of several people, the one whose
            keypoints' box overlaps most with it is taken. Otherwise the one with the highest sum of
            confidences.

    Raises:
        TargetError: the file is damaged, not from OpenPose, or of an unknown layout.
    """
    people = [] if file is None else read_people(file)[1]
    if not people:
        return UNDETECTED
    layout = which_layout(np.array(people), "", str(file))
    keypoints = sanitise(to_network(layout, np.array(people)[:, : len(layout)]))
    if box is None:
        return keypoints[np.argmax(keypoints[..., 2].sum(axis=1))]
    overlaps = _overlap(bounding_boxes(keypoints), np.asarray(box, np.float64))
    best = int(np.argmax(overlaps))
    return keypoints[best] if overlaps[best] > 0 else UNDETECTED


def _overlap(boxes: NDArray, box: NDArray) -> NDArray[np.float64]:
    """(N,) intersection over union of boxes (N, 4) with one."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return shared / np.maximum(areas - shared, 1e-9)
