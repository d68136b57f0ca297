# SPDX-License-Identifier: Apache-2.0
"""Quality falls with everything that speaks against a body, and with nothing else."""

import numpy as np
import pytest
from helpers_bundle import standing_person

from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.keypoints.table import MIRROR
from key2mesh_core.people.quality import expected_error_mm, quality_of


def someone() -> np.ndarray:
    return sanitise(standing_person(height_px=300))


def errors(*pixels: float) -> np.ndarray:
    return np.array(pixels, np.float32)


def test_quality_says_what_error_to_expect():
    one = someone()
    expected = expected_error_mm(one, errors(3.0))
    assert quality_of(one, errors(3.0)) == pytest.approx(1 / (1 + (expected / 100) ** 2), rel=1e-5)
    assert 10 < expected < 100


def test_it_falls_with_the_error_in_the_image():
    one = someone().repeat(5, 0)
    qualities = quality_of(one, errors(0, 1, 5, 30, 1e30))
    assert (np.diff(qualities) < 0).all()
    assert qualities[-1] < 1e-3
    assert (qualities >= 0).all()
    assert (qualities <= 1).all()


def test_it_falls_with_the_detectors_doubt():
    sure, unsure = someone(), someone()
    unsure[..., 2] *= 0.5
    assert quality_of(unsure, errors(3.0)) < quality_of(sure, errors(3.0))


@pytest.mark.parametrize("keypoint", range(18))
def test_what_is_unseen_never_raises_it(keypoint):
    whole, partly = someone(), someone()
    whole[..., 2], partly[..., 2] = 0.9, 0.9
    partly[:, keypoint] = 0
    # The same miss as a share of the box, which may have become smaller.
    sides = [np.ptp(each[each[:, 2] > 0, :2], axis=0).max() for each in (whole[0], partly[0])]
    missed = [errors(0.02 * side) for side in sides]
    assert quality_of(partly, missed[1]) <= quality_of(whole, missed[0]) + 1e-6


def test_half_a_person_is_worth_less_than_a_whole_one():
    whole, desk = someone(), someone()
    desk[:, 8:14] = 0
    assert quality_of(desk, errors(3.0)) < quality_of(whole, errors(3.0)) - 0.1


def test_near_and_far_left_and_right_are_alike():
    near = sanitise(standing_person(height_px=600))
    assert quality_of(near, errors(6.0)) == pytest.approx(quality_of(someone(), errors(3.0)))
    partly = someone()
    partly[:, 3:5] = 0
    mirrored = partly[:, list(MIRROR)] * [-1, 1, 1]
    assert quality_of(partly, errors(3.0)) == pytest.approx(
        quality_of(mirrored.astype(np.float32), errors(3.0))
    )


def test_nobody_and_nothing_seen_are_finite():
    assert quality_of(np.zeros((0, 18, 3), np.float32), errors()).shape == (0,)
    nothing = quality_of(np.zeros((2, 18, 3), np.float32), errors(0, 0))
    assert np.isfinite(nothing).all()
    assert (nothing < 0.5).all()
