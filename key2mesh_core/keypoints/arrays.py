# SPDX-License-Identifier: Apache-2.0
"""Arrays of keypoints: which keypoints are seen, which people can be estimated, their boxes.

The last axis is (x px, y px, confidence); a confidence below `SEEN_CONFIDENCE` means *unseen*. K is
the number of keypoints that the network takes (`table.NETWORK_KEYPOINTS`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.errors import KeypointError
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS, REQUIRED

SEEN_CONFIDENCE = 0.1
"""A keypoint with a lower confidence counts as unseen, as in the paper's data preparation."""

MINIMUM_KEYPOINTS = 6
"""A person needs at least this many seen keypoints, as in the paper's evaluation."""

MINIMUM_SIZE_PX = 2.0
"""A person's box needs a side of at least this length; a smaller one does not reveal the pose."""

COORDINATE_LIMIT_PX = 1e5
"""No image is this large; a larger coordinate is a detector error."""

# Limits of x, y and confidence of a usable keypoint.
_LEAST = np.array([-COORDINATE_LIMIT_PX, -COORDINATE_LIMIT_PX, SEEN_CONFIDENCE], np.float32)
_MOST = np.array([COORDINATE_LIMIT_PX, COORDINATE_LIMIT_PX, np.finfo(np.float32).max], np.float32)
_CUT_TO = np.array([COORDINATE_LIMIT_PX, COORDINATE_LIMIT_PX, 1.0], np.float32)


def as_keypoints(keypoints: ArrayLike, count: int, what: str) -> NDArray[np.float32]:
    """`keypoints` as a C-contiguous (N, count, 3) float32 array.

    Values too large for float32 become infinite (and unseen once sanitised).

    Raises:
        KeypointError: the shape is wrong, or values are not numbers.
    """
    if (
        type(keypoints) is np.ndarray
        and keypoints.dtype == np.float32
        and keypoints.ndim == 3
        and keypoints.shape[1:] == (count, 3)
        and keypoints.flags.c_contiguous
    ):
        return keypoints  # the common case in a stream, without a copy
    try:
        array = np.asarray(keypoints)
    except ValueError as error:  # rows of unequal length
        raise KeypointError(f"{what}: people have different numbers of keypoints") from error
    if array.dtype.kind not in "fiu":
        raise KeypointError(f"{what}: expected numbers, got values of type {array.dtype}")
    if array.ndim != 3 or array.shape[1:] != (count, 3):
        raise KeypointError(
            f"{what}: expected shape (N, {count}, 3), got {tuple(array.shape)}; "
            f"the axes are people, {count} keypoints, (x, y, confidence)"
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def sanitise(keypoints: ArrayLike) -> NDArray[np.float32]:
    """Replace every unusable keypoint of (N, K, 3) with (0, 0, 0), which means *unseen*.

    Unusable: NaN, infinite, |coordinate| > 1e5 px, confidence < 0.1, and exactly (0, 0), which
    means unseen whatever the confidence. Confidences above 1 become 1. Returns a new float32 array.
    Call this before undoing a lens or cropping an image, because both move (0, 0).

    Raises:
        KeypointError: the shape is wrong.
    """
    array = as_keypoints(keypoints, len(NETWORK_KEYPOINTS), "keypoints")
    result = np.zeros(array.shape, dtype=np.float32)
    return np.minimum(array, _CUT_TO, out=result, where=is_seen(array)[..., None])


def without_placeholders(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, L, 3) keypoints with placeholders outside the image replaced by (0, 0, 0).

    Placeholders are (-1, -1), and positions with a negative coordinate that several keypoints share
    exactly: zeros of a letterboxed image, from which the border was subtracted again.
    """
    outside = (keypoints[..., :2] < 0).any(axis=-1)
    if not outside.any():
        return keypoints
    places = keypoints[outside, :2]
    _, place, counts = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    outside[outside] = (counts[place.reshape(-1)] > 1) | (places == -1).all(axis=1)
    return np.where(outside[..., None], np.float32(0), keypoints)


def is_seen(keypoints: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, K) mask of the (N, K, 3) keypoints that `sanitise` keeps."""
    # NaN fails every comparison.
    within = (keypoints >= _LEAST) & (keypoints <= _MOST)
    placed = keypoints != 0
    return within[..., 0] & within[..., 1] & within[..., 2] & (placed[..., 0] | placed[..., 1])


def bounding_boxes(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) x_min, y_min, x_max, y_max px of the seen keypoints among (N, K, 3) sanitised ones.

    A person without a seen keypoint gets (0, 0, 0, 0).
    """
    points, seen = keypoints[..., :2], keypoints[..., 2:] >= SEEN_CONFIDENCE
    boxes = np.empty((len(keypoints), 4), dtype=np.float32)
    np.minimum.reduce(points, axis=1, where=seen, initial=np.inf, out=boxes[:, :2])
    np.maximum.reduce(points, axis=1, where=seen, initial=-np.inf, out=boxes[:, 2:])
    boxes[boxes[:, 0] > boxes[:, 2]] = 0.0  # nothing was seen
    return boxes


def person_sizes(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) longer sides of `bounding_boxes` over the keypoints that every network takes [px]."""
    boxes = bounding_boxes(keypoints[:, :REQUIRED])
    return (boxes[:, 2:] - boxes[:, :2]).max(axis=1)


def usable(keypoints: ArrayLike) -> NDArray[np.bool_]:
    """(N,) whether each person with (N, K, 3) keypoints can be estimated.

    True for at least 6 seen keypoints whose box has a side of at least 2 px. Optional keypoints do
    not count, because not every network takes them.
    """
    clean = sanitise(keypoints)
    few, spot = unusable(clean, person_sizes(clean))
    return ~(few | spot)


def unusable(
    clean: NDArray[np.float32], sizes: NDArray[np.float32], minimum: int = MINIMUM_KEYPOINTS
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two (N,) masks of the people who cannot be estimated: those with fewer than `minimum` seen
    keypoints, and of the others those whose keypoints all lie on one spot.

    Args:
        clean: (N, K, 3), sanitised.
        sizes: (N,) their `person_sizes`.
    """
    few = seen_counts(clean) < minimum
    return few, ~few & (sizes < MINIMUM_SIZE_PX)


def seen_counts(clean: NDArray[np.float32]) -> NDArray[np.intp]:
    """(N,) numbers of seen keypoints among those that every network takes, of (N, K, 3) sanitised
    ones."""
    return (clean[:, :REQUIRED, 2] >= SEEN_CONFIDENCE).sum(axis=1)
