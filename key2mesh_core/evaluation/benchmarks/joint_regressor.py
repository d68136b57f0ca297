# SPDX-License-Identifier: Apache-2.0
"""The user's `J_regressor_h36m.npy`: Human3.6M's 17 joints from SMPL's vertices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EvaluationError

JOINTS = 17
ROWS = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0)
"""Rows of the 14 joints that the literature scores (right ankle, knee, hip, left hip, knee, ankle,
right wrist, elbow, shoulder, left shoulder, elbow, wrist, neck, head: SPIN's `H36M_TO_J14`), then
the pelvis's."""

_SUM_TOLERANCE = 0.01


def load_regressor(path: str | Path, template: NDArray[np.floating]) -> NDArray[np.float64]:
    """(15, V) regressor of the 14 joints and the pelvis.

    Args:
        path: .npy of shape (17, V).
        template: (V, 3) SMPL's T-pose, on which the joints must be where their order says.

    Raises:
        EvaluationError: the file is missing, damaged, of another shape, or of another joint set.
    """
    try:
        matrix = np.load(path, allow_pickle=False)
    except Exception as error:  # damage makes numpy raise nearly anything
        raise EvaluationError(f"{path} cannot be read as an .npy of numbers: {error}") from error
    count = len(template)
    shape = getattr(matrix, "shape", None)
    if shape != (JOINTS, count) or matrix.dtype.kind != "f":
        raise EvaluationError(
            f"{path} must be Human3.6M's regressor, ({JOINTS}, {count}) numbers "
            f"(J_regressor_h36m.npy); it has shape {shape}"
        )
    sums = matrix.sum(axis=1)
    if not (np.isfinite(matrix).all() and (abs(sums - 1) < _SUM_TOLERANCE).all()):
        worst = int(np.nanargmax(np.where(np.isfinite(sums), abs(sums - 1), np.inf)))
        raise EvaluationError(
            f"{path}: row {worst} must be finite and sum to 1, its sum is {sums[worst]:.3f}; this "
            "is not a joint regressor"
        )
    rows = np.asarray(matrix, np.float64)[list(ROWS)]
    _check_order(path, rows @ template)
    return rows


def _check_order(path: str | Path, joints: NDArray) -> None:
    """On the T-pose, y up and the left side at +x, the order shows in the positions."""
    x, y = joints[:, 0], joints[:, 1]
    legs = y[0] < y[1] < y[2] and y[5] < y[4] < y[3] and y[3] < y[12] < y[13]
    right = x[6] < x[7] < x[8] < x[12] and max(x[0], x[1], x[2]) < x[14]
    left = x[11] > x[10] > x[9] > x[12] and min(x[3], x[4], x[5]) > x[14]
    if not (legs and right and left):
        raise EvaluationError(
            f"{path}: on SMPL's T-pose, its joints are not in the order of Human3.6M's regressor "
            "(pelvis, left hip, knee, ankle, right hip, knee, ankle, spine, neck, jaw, head, left "
            "shoulder, elbow, wrist, right shoulder, elbow, wrist): a wrong joint set or a wrong "
            "body"
        )
