# SPDX-License-Identifier: Apache-2.0
"""Quality falls with every reason to doubt a body, and with nothing else."""

from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import standing_person

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.keypoints.arrays import person_sizes, sanitise, usable
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.keypoints.table import MIRROR, NETWORK_KEYPOINTS
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people import quality as quality_module
from key2mesh_core.recordings.open import open_recording


def someone() -> np.ndarray:
    return sanitise(standing_person(height_px=300))


def errors(*pixels: float) -> np.ndarray:
    return np.array(pixels, np.float32)


def expected_error_mm(keypoints: np.ndarray, missed: np.ndarray) -> np.ndarray:
    return quality_module.expected_error_mm(keypoints, missed, person_sizes(keypoints))


def quality_of(keypoints: np.ndarray, missed: np.ndarray) -> np.ndarray:
    return quality_module.quality_of(keypoints, missed, person_sizes(keypoints))


def is_misfit(keypoints: np.ndarray, missed: np.ndarray) -> np.ndarray:
    return quality_module.is_misfit(missed, person_sizes(keypoints))


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
    assert not is_misfit(np.zeros((2, 18, 3), np.float32), errors(0, 0)).any()
    assert (nothing < 0.5).all()


def test_a_third_of_the_person_is_a_misfit_of_no_quality():
    one = sanitise(standing_person(height_px=300)).repeat(4, 0)
    one[..., 2] = 1.0
    missed = errors(*(300 * share for share in (0.02, 0.1, 1 / 3, 5)))
    np.testing.assert_array_equal(is_misfit(one, missed), [False, False, True, True])
    qualities = quality_of(one, missed)
    assert qualities[0] > 0.65
    assert qualities[1] > 0.5  # as before there was a misfit
    assert (qualities[2:] < 0.1).all()


@pytest.fixture(scope="module")
def street() -> tuple[np.ndarray, Intrinsics]:
    """The demo's people, and the camera that saw them."""
    frames = list(open_recording(Path(__file__).parents[2] / "demo" / "data" / "street"))
    return np.concatenate([frame.keypoints for frame in frames]), frames[0].camera.intrinsics


def judged(keypoints: np.ndarray, camera: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Quality of the default model's bodies, and which are misfits."""
    clean = sanitise(keypoints)
    bodies = Estimator(load_bundle("default")).estimate_poses(clean, camera)
    return bodies.quality, is_misfit(clean, bodies.reprojection_error)


def as_human36m(people: np.ndarray) -> np.ndarray:
    """(N, 17, 3) the same people with Human3.6M's joints in its order."""
    part = {name: people[:, number] for number, name in enumerate(NETWORK_KEYPOINTS)}
    pelvis = (part["left_hip"] + part["right_hip"]) / 2
    spine = (pelvis + part["neck"]) / 2
    legs = [part[f"{side}_{n}"] for side in ("right", "left") for n in ("hip", "knee", "ankle")]
    arms = [
        part[f"{side}_{n}"] for side in ("left", "right") for n in ("shoulder", "elbow", "wrist")
    ]
    head = part["nose"] + (part["nose"] - part["neck"]) * [1, 1, 0]
    return np.stack([pelvis, *legs, spine, part["neck"], part["nose"], head, *arms], axis=1)


def test_people_whom_the_camera_saw_keep_their_quality(street):
    quality, misfit = judged(*street)
    assert quality.mean() > 0.65
    assert misfit.mean() < 0.02


@pytest.mark.parametrize("kind", ["human36m as coco_17", "shifted by one name", "random order"])
def test_people_in_a_wrong_layout_are_misfits(street, kind):
    people, camera = street
    rng = np.random.default_rng(0)
    whole = people[(people[:, :14, 2] > 0.3).all(axis=1)]
    wrong = {
        "human36m as coco_17": lambda: to_network("coco_17", as_human36m(whole)),
        "shifted by one name": lambda: np.roll(whole, 1, axis=1),
        "random order": lambda: np.stack(
            [person[rng.permutation(len(person))] for person in whole]
        ),
    }[kind]()
    quality, misfit = judged(wrong[usable(wrong)], camera)
    assert len(quality) > 50
    assert misfit.mean() > 0.9
    assert np.median(quality) < 0.1
