# SPDX-License-Identifier: Apache-2.0
"""How far to trust a body: the error to be expected of it, as a number within 0..1.

The expected error E [mm] of a body's joints follows from three things that are known at run time:
how far the body's keypoints miss the detected ones, how sure the detector was, and what it did
not see. Its logarithm is a sum of them (`expected_error_mm`), whose few constants were fitted by
`evaluation.calibration`, and quality is 1 / (1 + (E / 100 mm)^2): 0.5 where 100 mm are to be
expected, 0.8 for 50 mm, 0.2 for 200 mm. docs/measurements/accuracy.md has
the errors that were measured for each range of quality.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.keypoints.arrays import MINIMUM_SIZE_PX, SEEN_CONFIDENCE, bounding_boxes
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS

FloatArray = NDArray[np.float32]

HALF_QUALITY_MM = 100.0
"""The expected error [mm] of a body of quality 0.5."""

LEAST_MISS = 0.003
"""A smaller re-projection error, as a share of the person's size, says nothing more."""

# What the fit found: log E = OFFSET + MISS log(error / size + LEAST_MISS)
#                             + DOUBT (1 - mean confidence) + the sum over unseen keypoints.
OFFSET = 4.615
MISS = 0.177
DOUBT = 1.082
UNSEEN: dict[str, float] = {
    "nose": 0.0,
    "neck": 0.012,
    "shoulder": 0.091,
    "elbow": 0.058,
    "wrist": 0.098,
    "hip": 0.052,
    "knee": 0.058,
    "ankle": 0.048,
    "eye": 0.026,
    "ear": 0.023,
}


def unseen_weights(weights: dict[str, float]) -> FloatArray:
    """(18,) the same for left and right, in the network's order."""
    return np.array([weights[n.rpartition("_")[2]] for n in NETWORK_KEYPOINTS], dtype=np.float32)


_UNSEEN = unseen_weights(UNSEEN)


def evidence(
    keypoints: FloatArray, reprojection_error: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """What quality is judged by.

    Args:
        keypoints: (N, K, 3), sanitised.
        reprojection_error: (N,) px.

    Returns:
        (N,) logarithm of the miss as a share of the longer side of the person's box,
        (N,) mean doubt, 1 - confidence, of the seen keypoints, and (N, K) which are unseen.
    """
    unseen = keypoints[..., 2] < SEEN_CONFIDENCE
    boxes = bounding_boxes(keypoints)
    size = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), MINIMUM_SIZE_PX)
    miss = np.log(reprojection_error / size + np.float32(LEAST_MISS))
    seen = keypoints.shape[1] - unseen.sum(axis=1, dtype=np.float32)
    doubt = 1 - keypoints[..., 2].sum(axis=1) / np.maximum(seen, 1)
    return miss, doubt, unseen


def expected_error_mm(keypoints: FloatArray, reprojection_error: FloatArray) -> FloatArray:
    """(N,) the mean error of joints [mm], pelvis-centred, to be expected of each body."""
    miss, doubt, unseen = evidence(keypoints, reprojection_error)
    return np.exp(OFFSET + MISS * miss + DOUBT * doubt + unseen @ _UNSEEN)


def quality_of(keypoints: FloatArray, reprojection_error: FloatArray) -> FloatArray:
    """(N,) how far to trust each body, within 0..1: 1 / (1 + (expected error / 100 mm)^2).

    Args:
        keypoints: (N, K, 3), sanitised.
        reprojection_error: (N,) px.
    """
    error = expected_error_mm(keypoints, reprojection_error) / np.float32(HALF_QUALITY_MM)
    return (1 / (1 + error * error)).astype(np.float32)
