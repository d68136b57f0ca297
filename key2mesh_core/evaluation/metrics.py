# SPDX-License-Identifier: Apache-2.0
"""Errors of predicted points: MPJPE (PVE, if they are vertices) and PA-MPJPE.

Every function takes points in metres, samples first, and returns one error in millimetres per
sample, so that callers average over frames, cameras or clips as they need. A sample that cannot be
measured (too few valid points) is NaN; average with `mean_of_measured`. A non-finite prediction
raises an error, because leaving it out would flatter the network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.errors import EvaluationError

FloatArray = NDArray[np.float64]

MILLIMETRES_PER_METRE = 1000.0
# Two points can always be aligned with two others, so they carry no information.
MINIMUM_POINTS_TO_ALIGN = 3


def mpjpe(predicted: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Mean per-joint position error in the points' frame.

    Args:
        predicted: (N, J, 3) points in metres, finite wherever the weight is positive.
        truth: (N, J, 3) points in metres; may have any value where the weight is zero.
        weights: (N, J) weights or a validity mask; None counts every point once.

    Returns:
        (N,) mm; NaN if every weight of the sample is zero.

    Raises:
        EvaluationError: shapes do not match, a weight is negative, or a point with a positive
            weight is not finite.
    """
    predicted, truth, weights = _checked(predicted, truth, weights)
    return _weighted_mean_distance(predicted, truth, weights)


def pa_mpjpe(
    predicted: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None
) -> FloatArray:
    """MPJPE after the best similarity (scale, rotation, translation) of each sample.

    Args, errors: as in `mpjpe`.

    Returns:
        (N,) mm; NaN if fewer than three points of the sample have a positive weight.
    """
    predicted, truth, weights = _checked(predicted, truth, weights)
    aligned = _aligned(predicted, truth, weights)
    errors = _weighted_mean_distance(aligned, truth, weights)
    errors[(weights > 0).sum(axis=1) < MINIMUM_POINTS_TO_ALIGN] = np.nan
    return errors


def similarity_align(
    predicted: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None
) -> FloatArray:
    """Align each sample of `predicted` with `truth` by its best proper similarity.

    Weighted Procrustes analysis (Umeyama 1991): scale >= 0 and a rotation with determinant +1, so
    that a mirrored pose keeps its error. If the rotation is not unique (points on a line), any best
    one is used; a prediction with all points in one place is aligned with the truth's centre.

    Args, errors: as in `mpjpe`.

    Returns:
        (N, J, 3) m in the truth's frame; all points are moved, even those with zero weight.
    """
    return _aligned(*_checked(predicted, truth, weights))


def mean_of_measured(errors: ArrayLike) -> float:
    """Mean over the measured samples (not NaN); NaN if there are none."""
    errors = np.asarray(errors, dtype=np.float64)
    measured = errors[~np.isnan(errors)]
    return float(measured.mean()) if measured.size else float("nan")


def _aligned(predicted: FloatArray, truth: FloatArray, weights: FloatArray) -> FloatArray:
    total = weights.sum(axis=1)
    share = (weights / np.where(total > 0, total, 1.0)[:, None])[..., None]
    predicted_centre = (share * predicted).sum(axis=1, keepdims=True)
    true_centre = (share * truth).sum(axis=1, keepdims=True)
    predicted_offsets = predicted - predicted_centre
    true_offsets = truth - true_centre

    covariance = np.swapaxes(share * true_offsets, 1, 2) @ predicted_offsets
    left, singular_values, right = np.linalg.svd(covariance)
    # If the best orthogonal matrix is a reflection, the least important axis is flipped.
    signs = np.ones_like(singular_values)
    signs[:, 2] = np.where(np.linalg.det(left @ right) < 0, -1.0, 1.0)
    rotation = (left * signs[:, None, :]) @ right

    spread = (share * predicted_offsets**2).sum(axis=(1, 2))
    # A spread at the level of rounding errors is a point: any scale fits equally well, so use none.
    size = (share * predicted**2).sum(axis=(1, 2))
    is_a_point = spread <= (1e-15 * size)
    scale = (singular_values * signs).sum(axis=1) / np.where(is_a_point, 1.0, spread)
    scale = np.where(is_a_point, 0.0, scale)
    return scale[:, None, None] * predicted_offsets @ np.swapaxes(rotation, 1, 2) + true_centre


def _weighted_mean_distance(
    predicted: FloatArray, truth: FloatArray, weights: FloatArray
) -> FloatArray:
    distances = np.linalg.norm(predicted - truth, axis=2)
    total = weights.sum(axis=1)
    errors = (weights * distances).sum(axis=1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, errors, np.nan) * MILLIMETRES_PER_METRE


def _checked(
    predicted: ArrayLike, truth: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Both point sets and the weights as float64, with zeros where the weight is zero."""
    predicted, truth = (np.asarray(points, dtype=np.float64) for points in (predicted, truth))
    weights = np.asarray(np.ones(predicted.shape[:2]) if weights is None else weights, np.float64)
    if not predicted.shape == truth.shape == (*weights.shape, 3) or weights.ndim != 2:
        raise EvaluationError(
            "predicted and truth must both be (N, J, 3) in metres, weights (N, J); got "
            f"{predicted.shape}, {truth.shape} and {weights.shape}"
        )
    if not ((weights >= 0) & (weights < np.inf)).all():
        raise EvaluationError(f"weights must be finite and >= 0; the smallest is {weights.min()}")
    counts = (weights > 0)[..., None]
    for name, points in (("predicted", predicted), ("truth", truth)):
        bad = ~np.isfinite(points) & counts
        if bad.any():
            sample, joint, _ = (int(i) for i in np.argwhere(bad)[0])
            raise EvaluationError(
                f"{name}[{sample}, {joint}] = {points[sample, joint]} is not finite; "
                "give such a point weight 0 if it is unknown, or fix its source"
            )
    return np.where(counts, predicted, 0.0), np.where(counts, truth, 0.0), weights
