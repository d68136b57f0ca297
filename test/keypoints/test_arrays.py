# SPDX-License-Identifier: Apache-2.0
"""Sanitising leaves only usable numbers; boxes and usability look at what is seen."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from key2mesh_core.errors import KeypointError
from key2mesh_core.keypoints.arrays import bounding_boxes, sanitise, usable
from key2mesh_core.keypoints.table import KEYPOINTS

K = len(KEYPOINTS)

any_keypoints = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 4), st.just(K), st.just(3)),
    elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
)


def test_arrays_of_another_shape_are_refused():
    with pytest.raises(KeypointError, match=rf"\(N, {K}, 3\), got \({K}, 3\)"):
        sanitise(np.zeros((K, 3)))
    with pytest.raises(KeypointError):
        sanitise([[[1, 2, 3]], [[1, 2, 3], [1, 2, 3]]])
    with pytest.raises(KeypointError, match="<U1"):
        sanitise(np.full((1, K, 3), "x"))


@settings(deadline=None)
@given(any_keypoints)
@example(np.tile([0.0, -0.0, 1.0], (1, K, 1)))
@example(np.tile([1e-300, 0.0, 1.0], (1, K, 1)))
def test_sanitised_keypoints_are_seen_and_sound_or_zero(keypoints):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean = sanitise(keypoints)
    assert clean.dtype == np.float32
    assert np.isfinite(clean).all()
    seen = clean[..., 2] >= 0.1
    assert (clean[~seen] == 0).all()
    assert clean[seen][:, :2].any(axis=1).all()
    assert (np.abs(clean[..., :2]) <= 1e5).all()
    assert (clean[..., 2] <= 1).all()
    np.testing.assert_array_equal(sanitise(clean), clean)
    np.testing.assert_array_equal(usable(clean), usable(keypoints))


def test_sanitising_keeps_good_keypoints_and_the_argument():
    keypoints = np.full((1, K, 3), 0.5, np.float32)
    keypoints[0, :6] = [
        [np.nan, 0, 1],
        [0, -np.inf, 1],
        [0, 100_001, 1],
        [5, 6, 0.0999],
        [-3, 7, 0.1],
        [5, 6, 1.5],
    ]
    before = keypoints.copy()
    clean = sanitise(keypoints)
    np.testing.assert_array_equal(keypoints, before)
    assert not clean[0, :4].any()
    np.testing.assert_array_equal(clean[0, 4], np.float32([-3, 7, 0.1]))
    np.testing.assert_array_equal(clean[0, 5], [5, 6, 1])
    np.testing.assert_array_equal(clean[0, 6:], before[0, 6:])


def test_boxes_hold_the_seen_keypoints_only():
    keypoints = np.zeros((2, K, 3), np.float32)
    keypoints[0, 3] = [10, 20, 1]
    keypoints[0, 4] = [-5, 40, 0.2]
    np.testing.assert_array_equal(bounding_boxes(keypoints), [[-5, 20, 10, 40], [0, 0, 0, 0]])


def test_usable_needs_six_keypoints_and_some_extent():
    keypoints = np.zeros((4, K, 3), np.float32)
    grid = np.stack([1 + np.arange(K) * 3.0, np.arange(K) * 5.0, np.full(K, 0.9)], axis=-1)
    keypoints[0, :6] = grid[:6]
    keypoints[1, :5] = grid[:5]
    keypoints[2] = [50, 50, 1]  # all on one pixel
    np.testing.assert_array_equal(usable(keypoints), [True, False, False, False])
    assert usable(np.zeros((0, K, 3))).shape == (0,)


def test_zero_zero_is_unseen_whatever_its_confidence_and_the_axes_are_not():
    keypoints = np.full((1, K, 3), 50, np.float32)
    keypoints[0, :4] = [[0, 0, 0.4], [0, 0, 1], [0, 7, 0.4], [7, 0, 0.4]]
    np.testing.assert_array_equal(sanitise(keypoints)[0, :4, 2] > 0, [False, False, True, True])
