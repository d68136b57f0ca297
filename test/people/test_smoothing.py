# SPDX-License-Identifier: Apache-2.0
"""Laws of the smoother: invariance, equivariance, state and reset."""

import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers_training import small_body

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from key2mesh_core.people.bodies import Bodies, joined
from key2mesh_core.people.smoothing import Smoother, SmoothingSettings

SECOND = 10**9
STEP_NS = SECOND // 30
SIDE = np.array([0.3, 0, 0])


@pytest.fixture(scope="module")
def body():
    return BodyModel(small_body())


def bodies_of(body, vectors, translation, betas=None, quality=0.9) -> Bodies:
    """Bodies as the pose graph gives them, of axis-angles (N, 24, 3) and places (N, 3)."""
    vectors = np.asarray(vectors, np.float32).reshape(-1, 24, 3)
    count = len(vectors)
    betas = np.zeros((count, 10)) if betas is None else betas
    betas = np.asarray(betas, np.float32).reshape(count, 10)
    translation = np.asarray(translation, np.float32).reshape(count, 3)
    rotations = axis_angle_to_matrix(vectors)
    joints, _ = body.forward_kinematics(torch.as_tensor(betas), torch.as_tensor(rotations))
    return Bodies(
        betas=betas,
        rotations=rotations,
        translation=translation,
        poses=vectors.reshape(count, 72),
        joints=joints.numpy() + translation[:, None],
        reprojection_error=np.full(count, 2.0, np.float32),
        quality=np.full(count, quality, np.float32),
        position_covariance=np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
    )


def run(frames: list[Bodies], smoother: Smoother | None = None, ids=None, step=STEP_NS):
    smoother = smoother or Smoother(small_body().parents)
    ids = ids or tuple(map(str, range(len(frames[0]))))
    return [smoother.smooth(ids, each, 1 + i * step) for i, each in enumerate(frames)]


def random_pose(seed=0, persons=1):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 0.4, (persons, 24, 3))
    vectors[:, 0] = [np.pi - 0.05, 0.02, 0.1]  # upright before a camera: nearly half a turn
    return vectors, rng.uniform([-1, -1, 3], [1, 1, 5], (persons, 3))


def angles(one, other) -> np.ndarray:
    """Between rotations [rad]."""
    return np.linalg.norm(matrix_to_axis_angle(np.swapaxes(one, -1, -2) @ other), axis=-1)


def noisy(body, count=60, sigma=0.1, seed=1, **options) -> list[Bodies]:
    vectors, place = random_pose()
    rng = np.random.default_rng(seed)
    return [
        bodies_of(
            body,
            matrix_to_axis_angle(
                axis_angle_to_matrix(vectors) @ axis_angle_to_matrix(rng.normal(0, sigma, (24, 3)))
            ),
            place + rng.normal(0, [0.01, 0.01, 0.1]),
            betas=rng.normal(0, 0.5, 10),
            **options,
        )
        for _ in range(count)
    ]


def test_what_does_not_move_comes_out_as_it_went_in(body):
    still = bodies_of(body, *random_pose(persons=3))
    for smooth in run([still] * 20):
        for field in fields(Bodies):
            if field.name != "vertices":
                np.testing.assert_allclose(
                    getattr(smooth, field.name), getattr(still, field.name), atol=2e-5, rtol=1e-5
                )


def test_joints_and_poses_are_those_of_the_smoothed_body(body):
    for smooth in run(noisy(body)):
        joints, _ = body.forward_kinematics(
            torch.as_tensor(smooth.betas), torch.as_tensor(smooth.rotations)
        )
        np.testing.assert_allclose(
            smooth.joints, joints.numpy() + smooth.translation[:, None], atol=1e-5
        )
        vectors = smooth.poses.reshape(1, 24, 3)
        np.testing.assert_allclose(axis_angle_to_matrix(vectors), smooth.rotations, atol=1e-5)
        assert np.linalg.norm(vectors, axis=2).max() <= np.pi + 1e-5
        identity = smooth.rotations @ smooth.rotations.swapaxes(-1, -2)
        np.testing.assert_allclose(identity - np.eye(3), 0, atol=1e-5)


def test_noise_goes_down(body):
    frames = noisy(body, 200, sigma=0.03)
    smooth = run(frames)
    vectors, _ = random_pose()
    true = axis_angle_to_matrix(vectors.astype(np.float32))
    before = np.mean([angles(each.rotations, true) for each in frames[30:]])
    after = np.mean([angles(each.rotations, true) for each in smooth[30:]])
    assert after < 0.75 * before
    shaking = [np.diff([each.joints[0] for each in b], 2, axis=0) for b in (frames, smooth)]
    assert np.abs(shaking[1]).mean() < np.abs(shaking[0]).mean() / 3


def test_the_distance_is_held_more_than_the_place_in_the_image(body):
    vectors, place = random_pose()
    rng = np.random.default_rng(4)
    frames = [bodies_of(body, vectors, place * (1 + rng.normal(0, 0.03))) for _ in range(200)]
    raw, smooth = (
        np.concatenate([each.translation for each in b])[60:] for b in (frames, run(frames))
    )
    assert smooth[:, 2].std() < raw[:, 2].std() / 2
    image = smooth[:, :2] / smooth[:, 2:]
    np.testing.assert_allclose(
        image, (place[:, :2] / place[:, 2:]).repeat(len(image), 0), atol=1e-4
    )


def test_turning_the_camera_or_a_joints_frame_turns_the_result(body):
    frames = noisy(body)
    turn, other = axis_angle_to_matrix(np.array([[0.3, -1.1, 0.7], [2.0, 0.4, -0.5]], np.float32))
    turned = [replace(each, rotations=turn @ each.rotations @ other) for each in frames]
    turned = [
        replace(each, poses=matrix_to_axis_angle(each.rotations).reshape(1, 72)) for each in turned
    ]
    for one, two in zip(run(frames), run(turned), strict=True):
        np.testing.assert_allclose(turn @ one.rotations @ other, two.rotations, atol=2e-4)


def test_a_body_that_turns_round_and_round_never_jumps(body):
    """The axis-angle of its root does, and so does the quaternion's sign."""
    vectors, place = random_pose()
    upright = axis_angle_to_matrix(np.array([np.pi, 0, 0], np.float32))
    frames = []
    for i in range(150):
        yaw = axis_angle_to_matrix(np.array([0, 4 * np.pi * i / 150, 0], np.float32))
        vectors[:, 0] = matrix_to_axis_angle(yaw @ upright)
        frames.append(bodies_of(body, vectors, place))
    smooth = np.concatenate([each.rotations[:, 0] for each in run(frames)])
    true = np.concatenate([each.rotations[:, 0] for each in frames])
    step = 4 * np.pi / 150
    assert angles(smooth[:-1], smooth[1:]).max() < 1.6 * step
    assert angles(smooth, true)[30:].max() < step / 2  # even motion is followed without lag


def test_half_a_turn_from_one_frame_to_the_next_ends_where_it_should(body):
    vectors, place = random_pose()
    there = bodies_of(body, vectors, place)
    away = vectors.copy()
    away[:, 0] = matrix_to_axis_angle(
        axis_angle_to_matrix(vectors[:, 0].astype(np.float32))
        @ axis_angle_to_matrix(np.array([0, np.pi, 0], np.float32))
    )
    other = bodies_of(body, away, place)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smooth = run([there] * 10 + [other] * 60)
    assert all(np.isfinite(each.joints).all() for each in smooth)
    assert angles(smooth[-1].rotations, other.rotations).max() < 0.05


def test_exactly_half_a_turn_is_no_division_by_zero(body):
    vectors = np.zeros((1, 24, 3))
    vectors[:, 0] = [np.pi, 0, 0]
    still = bodies_of(body, vectors, [0, 0, 3])
    exact = replace(still, rotations=np.round(still.rotations))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smooth = run([exact] * 3)[-1]
    np.testing.assert_allclose(np.abs(smooth.poses), np.abs(exact.poses), atol=1e-5)


def test_the_shape_converges_and_stays(body):
    smooth = run(noisy(body, 900))
    betas = np.concatenate([each.betas for each in smooth])
    assert np.abs(betas[-1]).max() < 0.15  # of 0.5 of noise
    late = np.abs(np.diff(betas[600:], axis=0)).max()
    assert late < 0.05
    assert late < np.abs(np.diff(betas[:30], axis=0)).max() / 5


def test_sure_views_count_more_for_the_shape(body):
    vectors, place = random_pose()
    sure = bodies_of(body, vectors, place, betas=np.full(10, 1.0), quality=0.9)
    poor = bodies_of(body, vectors, place, betas=np.full(10, -1.0), quality=0.1)
    betas = run(([sure] * 5 + [poor] * 5) * 20)[-1].betas
    np.testing.assert_allclose(betas, 0.8, atol=0.05)


def test_a_first_body_of_no_quality_is_still_a_body(body):
    still = bodies_of(body, *random_pose(), quality=0.0)
    np.testing.assert_allclose(run([still])[0].joints, still.joints, atol=1e-4)


def test_the_distance_follows_the_size(body):
    """Half as large and half as far looks the same: so does what comes out."""
    vectors, place = random_pose()
    still = bodies_of(body, vectors, place)
    smaller = replace(
        still,
        translation=still.translation / 2,
        joints=still.joints / 2,
    )
    smooth = run([still] * 30 + [smaller] * 30)[-1]
    size = np.linalg.norm(smooth.joints[0, 15] - smooth.joints[0, 0])
    shown = size / smooth.translation[0, 2]
    size = np.linalg.norm(still.joints[0, 15] - still.joints[0, 0])
    assert shown == pytest.approx(size / still.translation[0, 2], rel=0.02)


def test_persons_do_not_touch_each_other(body):
    one, other = noisy(body, 40, seed=1), noisy(body, 40, seed=2)
    alone = run(one)
    together = [joined(pair) for pair in zip(one, other, strict=True)]
    for single, pair in zip(alone, run(together), strict=True):
        np.testing.assert_allclose(single.joints[0], pair.joints[0], atol=1e-5)


def test_a_gap_is_bridged_and_a_long_one_begins_anew(body):
    vectors, place = random_pose()
    here, there = bodies_of(body, vectors, place), bodies_of(body, vectors, place + SIDE)
    for gap, anew in ((0.5, False), (1.5, True)):
        smoother = Smoother(small_body().parents, SmoothingSettings(timeout_s=1.0))
        run([here] * 20, smoother)
        nobody = here.select(np.zeros(0, int))
        now = 20 * STEP_NS
        assert len(smoother.smooth((), nobody, now)) == 0
        back = smoother.smooth(("0",), there, now + round(gap * SECOND))
        assert bool(np.abs(back.translation - there.translation).max() < 1e-6) == anew


def test_after_a_reset_the_first_frame_comes_out_as_it_went_in(body):
    frames = noisy(body, 20)
    smoother = Smoother(small_body().parents)
    run(frames, smoother)
    smoother.reset()
    first = smoother.smooth(("0",), frames[3], 5)
    np.testing.assert_allclose(first.joints, frames[3].joints, atol=1e-5)


def test_what_was_given_out_is_not_changed_later(body):
    frames = noisy(body, 10)
    smoother = Smoother(small_body().parents)
    first = smoother.smooth(("0",), frames[0], 1)
    before = {f.name: getattr(first, f.name) for f in fields(Bodies) if f.name != "vertices"}
    copies = {name: value.copy() for name, value in before.items()}
    for i, each in enumerate(frames[1:], 2):
        smoother.smooth(("0",), each, i * STEP_NS)
    for name, value in before.items():
        np.testing.assert_array_equal(value, copies[name])


def test_a_frame_takes_the_time_since_the_last_into_account(body):
    """At 10 Hz a frame says more than at 100 Hz."""
    vectors, place = random_pose()
    here, there = bodies_of(body, vectors, place), bodies_of(body, vectors, place + SIDE)
    moved = [
        run([here] * 20 + [there], step=SECOND // rate)[-1].translation[0, 0] for rate in (100, 10)
    ]
    assert moved[0] < moved[1] < place[0, 0] + SIDE[0]


@pytest.mark.parametrize("step", [0, STEP_NS])
def test_stamps_that_stand_still_are_thirtieths_of_a_second(body, step):
    frames = noisy(body, 20)
    np.testing.assert_allclose(run(frames, step=step)[-1].joints, run(frames)[-1].joints, atol=1e-3)
