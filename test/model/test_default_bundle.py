# SPDX-License-Identifier: Apache-2.0
"""The shipped bundle: its body, conventions and behaviour."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from key2mesh_core.body.data import JOINT_NAMES
from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.keypoints.arrays import usable
from key2mesh_core.keypoints.table import MIRROR, NETWORK_KEYPOINTS
from key2mesh_core.model.bundle import Bundle, load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies

CAMERA = Intrinsics(600, 600, 320, 240)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle()


@pytest.fixture(scope="module")
def estimator(bundle: Bundle) -> Estimator:
    return Estimator(bundle)


@pytest.fixture(scope="module")
def joint(bundle: Bundle) -> dict[str, int]:
    return {name: number for number, name in enumerate(bundle.joint_names)}


class Actor:
    """Keypoints with known ground truth: projections of the posed default body."""

    def __init__(self) -> None:
        self.body = BodyModel(load_body("default"))

    def __call__(
        self,
        left: str = "down",
        right: str = "down",
        facing: bool = True,
        place: tuple[float, float, float] = (0.0, 0.0, 3.5),
        camera: Intrinsics = CAMERA,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Someone upright with each arm "down" or "up", seen from the front or from behind.

        Returns:
            keypoints (1, 18, 3) px, joints (24, 3) in the camera frame [m], root (3, 3).
        """
        turns = np.zeros((24, 3))
        for side, up in (("left", 1.0), ("right", -1.0)):
            sign = up if {"left": left, "right": right}[side] == "up" else -up
            # About z, the way someone faces: the left arm points to +x, the right one to -x.
            turns[JOINT_NAMES.index(f"{side}_collar"), 2] = sign * np.radians(15)
            turns[JOINT_NAMES.index(f"{side}_shoulder"), 2] = sign * np.radians(65)
        rotations = axis_angle_to_matrix(turns)
        rotations[0] = np.diag([1.0, -1.0, -1.0] if facing else [-1.0, -1.0, 1.0])
        with torch.no_grad():
            joints, points = self.body.keypoints(
                torch.zeros(1, 10), torch.as_tensor(rotations[None], dtype=torch.float32)
            )
        keypoints = np.ones((1, 18, 3), np.float32)
        keypoints[..., :2] = project(points.numpy() + np.float32(place), camera)
        if not facing:
            hidden = [NETWORK_KEYPOINTS.index(name) for name in ("nose", "left_eye", "right_eye")]
            keypoints[0, hidden] = 0.0
        return keypoints, joints[0].numpy() + np.float32(place), rotations[0]


@pytest.fixture(scope="module")
def actor() -> Actor:
    return Actor()


def test_it_is_made_for_the_default_body(bundle):
    body = load_body("default")
    assert bundle.body_model == body.identifier
    assert bundle.vertex_count == len(body.template)
    np.testing.assert_array_equal(bundle.triangles, body.triangles)
    np.testing.assert_array_equal(bundle.parents, body.parents)


def test_its_card_says_what_it_is(bundle):
    assert bundle.card


@pytest.mark.parametrize("facing", [True, False], ids=["front", "back"])
@pytest.mark.parametrize("raised", ["right", "left"])
def test_a_raised_arm_is_the_bodys_arm_of_that_side(estimator, actor, joint, raised, facing):
    other = "left" if raised == "right" else "right"
    keypoints, truth, root = actor(**{raised: "up"}, facing=facing)
    bodies = estimator.estimate(keypoints, CAMERA)
    joints = bodies.joints[0]
    pelvis = joints[joint["pelvis"]]
    raised_wrist = joints[joint[f"{raised}_wrist"]]
    lowered_wrist = joints[joint[f"{other}_wrist"]]
    assert raised_wrist[1] < joints[joint[f"{raised}_shoulder"], 1] - 0.2  # y points down
    assert lowered_wrist[1] > joints[joint[f"{other}_shoulder"], 1] + 0.2
    # Facing the camera, the person's right is at the image's left (x < 0); from behind, not.
    towards = 1.0 if (raised == "left") == facing else -1.0
    assert towards * (raised_wrist[0] - pelvis[0]) > 0.1
    # The chest looks at the camera (towards -z) from the front, away from it from behind.
    turn = bodies.rotations[0, 0].T @ root
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 35
    assert np.linalg.norm((joints - pelvis) - (truth - truth[0]), axis=1).mean() < 0.12
    # The mesh goes with the joints: there is skin around the raised wrist.
    assert np.linalg.norm(bodies.vertices[0] - raised_wrist, axis=1).min() < 0.06


@pytest.mark.parametrize(
    "place", [(0, 0, 2.5), (0, 0, 7), (-1.2, 0, 3.5), (1.2, 0.1, 3.5), (0, 0.5, 4), (2, -0.3, 6)]
)
@pytest.mark.parametrize("focal", [400.0, 900.0])
def test_a_person_stands_where_they_were_filmed(estimator, actor, joint, place, focal):
    camera = Intrinsics(focal, focal, 320, 240)
    keypoints, truth, root = actor(place=place, camera=camera)
    bodies = estimator.estimate(keypoints, camera, vertices=False)
    # The distance hangs on the person's size, which pixels do not tell; the direction does not.
    found, true = bodies.translation[0], truth[0]
    assert found[2] == pytest.approx(true[2], rel=0.12)
    np.testing.assert_allclose(found[:2] / found[2], true[:2] / true[2], atol=0.02)
    turn = bodies.rotations[0, 0].T @ root
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 25
    np.testing.assert_allclose(
        project(bodies.joints[0], camera)[joint["left_ankle"]],
        project(truth, camera)[joint["left_ankle"]],
        atol=0.06 * focal / place[2] * 1.7,
    )


def test_a_nearer_or_a_zoomed_in_person_is_told_apart_by_the_intrinsics_alone(estimator, actor):
    keypoints, _, _ = actor()
    near = estimator.estimate(keypoints, CAMERA, vertices=False).translation[0]
    zoomed = Intrinsics(2 * CAMERA.fx, 2 * CAMERA.fy, CAMERA.cx, CAMERA.cy)
    far = estimator.estimate(keypoints, zoomed, vertices=False).translation[0]
    assert far[2] == pytest.approx(2 * near[2], rel=0.05)


def test_outputs_are_what_their_names_say(estimator, actor, joint):
    people = [actor()[0], actor(left="up", right="up", facing=False)[0]]
    bodies = estimator.estimate(np.concatenate(people), CAMERA)
    np.testing.assert_allclose(bodies.joints[:, joint["pelvis"]], bodies.translation, atol=1e-4)
    identity = np.broadcast_to(np.eye(3), bodies.rotations.shape)
    products = bodies.rotations @ bodies.rotations.swapaxes(-1, -2)
    np.testing.assert_allclose(products, identity, atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(bodies.rotations), 1, atol=1e-4)
    height = np.ptp(bodies.vertices[0, :, 1])
    assert 1.2 < height < 2.3
    sizes = [np.ptp(person[person[..., 2] > 0][:, 1]) for person in people]
    assert (bodies.reprojection_error < 0.08 * np.array(sizes)).all()
    assert (bodies.quality > 0.4).all()


def test_persons_do_not_disturb_each_other(estimator, actor):
    people = np.concatenate([actor(place=(0.2 * k, 0, 2.0 + k))[0] for k in range(7)])
    together = estimator.estimate(people, CAMERA)
    for number in (0, 3, 6):
        alone = estimator.estimate(people[number : number + 1], CAMERA)
        np.testing.assert_allclose(alone.vertices[0], together.vertices[number], atol=1e-4)


def _mirrored(bodies: Bodies) -> np.ndarray:
    return bodies.joints * np.float32([-1, 1, 1])


def test_a_mirrored_view_gives_a_nearly_mirrored_body(estimator, actor, bundle):
    person = actor(right="up")[0]
    image = person.copy()
    image[..., 0] = 640 - image[..., 0]
    image = image[:, list(MIRROR)]
    swap = [
        bundle.joint_names.index(
            name.replace("left", "?").replace("right", "left").replace("?", "right")
        )
        for name in bundle.joint_names
    ]
    one = estimator.estimate(person, CAMERA, vertices=False)
    two = estimator.estimate(image, CAMERA, vertices=False)
    relative = one.joints - one.translation[:, None]
    other = (_mirrored(two) - _mirrored(two)[:, :1])[:, swap]
    assert np.linalg.norm(relative - other, axis=-1).mean() < 0.1


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(np.float64, (3, 18, 3), elements=st.floats(allow_nan=True, allow_infinity=True)),
    hnp.arrays(np.float64, (4, 18, 3), elements=st.floats(0.1, 1)),
    st.sampled_from([1e-3, 1.0, 10.0, 1e3, 2e5]),
    st.floats(1, 1e6),
    st.floats(-1e6, 1e6),
)
def test_whatever_comes_in_only_finite_numbers_leave(estimator, wild, tame, size, focal, centre):
    tame[..., :2] = (tame[..., :2] - 0.5) * size
    people = np.concatenate([wild, tame])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people = people[usable(people)]
        bodies = estimator.estimate(people, Intrinsics(focal, focal, centre, -centre))
    for name in ("rotations", "translation", "joints", "reprojection_error", "vertices"):
        assert np.isfinite(getattr(bodies, name)).all(), name
    assert (bodies.translation[:, 2] > 0).all()
