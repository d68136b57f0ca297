# SPDX-License-Identifier: Apache-2.0
"""The quality of a body: its expected error, as a number within 0..1.

The expected error E [mm] of a body's joints is estimated from how far the body's keypoints miss the
detected ones, from the detector's confidence, and from the unseen keypoints. The logarithm of E is
a weighted sum of these (`expected_error_mm`), with constants fitted on synthetic and real
detections. Quality is 1 / (1 + (E / 100 mm)^2): 0.5 for 100 mm, 0.8 for 50 mm, 0.2 for 200 mm.
docs/measurements/steadiness.md has the measured error for each range of quality.

A body that misses its keypoints by a large share of the person's size is not a poor estimate but a
*misfit*: the declared layout or the camera is wrong. docs/measurements/steadiness.md has the
measured misses, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.keypoints.arrays import MINIMUM_SIZE_PX, SEEN_CONFIDENCE
from key2mesh_core.keypoints.table import KEYPOINTS, REQUIRED

FloatArray = NDArray[np.float32]

HALF_QUALITY_MM = 100.0
"""Expected error [mm] of a body with quality 0.5."""

GUESSED_CAMERA_QUALITY = 0.5
"""Largest quality while the camera is a guess."""

LEAST_MISS = 0.003
"""Re-projection errors below this share of the person's size do not matter."""

MISFIT = 0.12
"""A re-projection error above this share of the person's size is a misfit. 99 % of people in a
wrong layout exceed it, 2 % of people seen by a poor detector (6 % of those hard to see).
"""

# What the fit found: log E = OFFSET + MISS log(error / size + LEAST_MISS)
#                             + DOUBT (1 - mean confidence) + the sum over unseen keypoints
#                             + GROSS, by degrees from one share of the person's size to another.
OFFSET = 5.062
MISS = 0.230
DOUBT = 0.764
UNSEEN: dict[str, float] = {
    "nose": 0.146,
    "neck": 0.0,
    "shoulder": 0.019,
    "elbow": 0.096,
    "wrist": 0.077,
    "hip": 0.032,
    "knee": 0.055,
    "ankle": 0.021,
    "eye": 0.025,
    "ear": 0.0,
}
# Up to a miss of 0.1, the sum without this term is accurate. Wrong layouts, which miss by more,
# have e^1.2 (each keypoint under the next one's name) to e^2.1 (Human3.6M given as COCO) times the
# error.
GROSS = 1.4
GROSS_FROM, GROSS_TO = 0.1, 0.16

_UNSEEN = np.array([UNSEEN[keypoint.kind] for keypoint in KEYPOINTS[:REQUIRED]], np.float32)


def is_misfit(reprojection_error: FloatArray, sizes: FloatArray) -> NDArray[np.bool_]:
    """(N,) mask of the bodies that miss their keypoints by more than `MISFIT` of the person's size.

    A single misfit may be a person whom the detector saw badly; if more than one in ten is a
    misfit, the layout, the camera or the detector is wrong. Errors that a body can still fit are
    not recognised: swapped x and y, swapped left and right, animals (0.01 to 0.12). Arguments: see
    `quality_of`.
    """
    return reprojection_error > MISFIT * np.maximum(sizes, MINIMUM_SIZE_PX)


def expected_error_mm(
    keypoints: FloatArray, reprojection_error: FloatArray, sizes: FloatArray
) -> FloatArray:
    """(N,) expected error of each body's joints [mm], pelvis-centred; optional keypoints do not
    count. Arguments: see `quality_of`."""
    keypoints = keypoints[:, :REQUIRED]
    share = reprojection_error / np.maximum(sizes, MINIMUM_SIZE_PX)
    unseen = keypoints[..., 2] < SEEN_CONFIDENCE
    seen = keypoints.shape[1] - unseen.sum(axis=1, dtype=np.float32)
    doubt = 1 - keypoints[..., 2].sum(axis=1) / np.maximum(seen, 1)
    gross = GROSS * np.clip((share - GROSS_FROM) / (GROSS_TO - GROSS_FROM), 0, 1)
    miss = np.log(share + np.float32(LEAST_MISS))
    return np.exp(OFFSET + MISS * miss + DOUBT * doubt + unseen @ _UNSEEN + gross)


def quality_of(
    keypoints: FloatArray, reprojection_error: FloatArray, sizes: FloatArray
) -> FloatArray:
    """(N,) quality of each body, within 0..1.

    Args:
        keypoints: (N, K, 3), sanitised.
        reprojection_error: (N,) px.
        sizes: (N,) px, the keypoints' `person_sizes`.
    """
    error = expected_error_mm(keypoints, reprojection_error, sizes) / np.float32(HALF_QUALITY_MM)
    return (1 / (1 + error * error)).astype(np.float32)
