# SPDX-License-Identifier: Apache-2.0
"""The shipped body is a body: closed, symmetric, human in size, with its joints inside."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree

from key2mesh_core.body.data import FACE_NAMES, JOINT_NAMES
from key2mesh_core.body.files import DEFAULT_BODY, default_body, load_body

JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}


@pytest.fixture(scope="module")
def body():
    return default_body()


@pytest.fixture(scope="module")
def mirror(body):
    """Index of each vertex's mirror image."""
    return cKDTree(body.template).query(body.template * [-1, 1, 1])[1]


def volume(vertices, triangles):
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return float(np.einsum("fc,fc->", a, np.cross(b, c)) / 6)


def winding(point, vertices, triangles):
    """How often the surface goes around a point: 1 inside, 0 outside."""
    a, b, c = (vertices[triangles[:, k]] - point for k in range(3))
    la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
    below = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
    return np.arctan2(np.einsum("fc,fc->f", a, np.cross(b, c)), below).sum() / (2 * np.pi)


def test_size_of_smpl_in_a_small_file(body):
    assert body.template.shape == (6890, 3)
    assert body.triangles.shape == (13776, 3)
    assert body.shape_directions.shape == (6890, 3, 10)
    assert body.pose_directions is None
    assert DEFAULT_BODY.stat().st_size < 1_100_000


def test_default_is_read_once_and_by_either_name(body):
    assert load_body("default") is load_body() is body


def test_the_surface_is_closed_and_in_one_piece(body):
    edges = np.concatenate([body.triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges)
    assert directed == {(b, a) for a, b in directed}
    assert len(np.unique(body.triangles)) == len(body.template)
    # Euler's formula for one closed surface without handles.
    assert len(body.template) - len(edges) // 2 + len(body.triangles) == 2


def test_the_surface_faces_outward_and_holds_a_human_volume(body):
    assert 0.050 < volume(body.template, body.triangles) < 0.085


def test_the_mean_body_is_symmetric(body, mirror):
    flip = np.array([-1, 1, 1])
    np.testing.assert_allclose(body.template[mirror], body.template * flip, atol=1e-5)
    faces = {tuple(np.roll(t, -np.argmin(t))) for t in body.triangles}
    mirrored = mirror[body.triangles][:, ::-1]
    assert faces == {tuple(np.roll(t, -np.argmin(t))) for t in mirrored}
    other = [_other(name) for name in JOINT_NAMES]
    weights, regressor = body.skinning_weights, body.joint_regressor
    np.testing.assert_allclose(weights[mirror][:, other], weights, atol=0.01)
    np.testing.assert_allclose(regressor[other][:, mirror], regressor, atol=1e-6)
    for beta in range(10):
        direction = body.shape_directions[:, :, beta]
        np.testing.assert_allclose(direction[mirror], direction * flip, atol=1e-4)


def _other(name):
    swap = {"left": "right", "right": "left"}
    side, _, part = name.partition("_")
    return JOINT[f"{swap[side]}_{part}" if side in swap else name]


def test_weights_tie_each_vertex_to_at_most_four_joints_and_sum_to_one_exactly(body):
    assert (body.skinning_weights > 0).sum(1).max() <= 4
    np.testing.assert_array_equal(body.skinning_weights.sum(1), 1)
    assert (body.skinning_weights.max(0) > 0.4).all(), "a joint that moves nothing"


def test_regressors_are_sparse_means_of_vertices(body):
    for regressor in (body.joint_regressor, body.face_regressor):
        assert regressor.min() >= 0
        assert (regressor > 0).sum(1).max() <= 60
        np.testing.assert_allclose(regressor.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("betas", [(), (2,), (-2,), (0, 2), (0, -2), (0, 0, 2), (0, 0, -2)])
def test_every_joint_lies_inside_the_body(body, betas):
    vertices = body.shaped(np.array(betas, dtype=float))
    joints = body.joints(vertices)
    for name, index in JOINT.items():
        assert winding(joints[index], vertices, body.triangles) == pytest.approx(1, abs=0.01), name


def test_the_t_pose(body):
    joints = body.joints(body.template)
    at = {name: joints[index] for name, index in JOINT.items()}
    np.testing.assert_allclose(at["pelvis"], 0, atol=2e-3)
    for side, out in (("left", 1), ("right", -1)):
        for chain, direction in (
            (("collar", "shoulder", "elbow", "wrist", "hand"), (out, 0, 0)),
            (("hip", "knee", "ankle"), (0, -1, 0)),
        ):
            for first, second in pairwise(chain):
                bone = at[f"{side}_{second}"] - at[f"{side}_{first}"]
                cosine = bone @ direction / np.linalg.norm(bone)
                assert cosine > np.cos(np.radians(8)), (side, first)
        assert at[f"{side}_foot"][2] > at[f"{side}_ankle"][2] + 0.08, "feet point forward"
    upward = [at[name][1] for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head")]
    assert (np.diff(upward) > 0.04).all()
    # Palms down: the thumb side of the hand, its highest z, is not its highest y.
    hand = body.template[body.skinning_weights[:, JOINT["left_hand"]] > 0.9]
    assert np.ptp(hand[:, 2]) > np.ptp(hand[:, 1])


def test_the_face_is_where_faces_are(body):
    face = dict(zip(FACE_NAMES, body.face_regressor @ body.template, strict=True))
    head = body.joints(body.template)[JOINT["head"]]
    assert face["nose"][2] > max(face["left_eye"][2], face["right_eye"][2])
    assert face["left_eye"][2] > face["left_ear"][2] > head[2] - 0.05
    for side, out in (("left", 1), ("right", -1)):
        eye, ear = face[f"{side}_eye"], face[f"{side}_ear"]
        assert 0.02 < out * eye[0] < 0.05
        assert 0.05 < out * ear[0] < 0.10
        assert eye[1] > face["nose"][1] > head[1]


def test_betas_are_standard_deviations_of_adults(body):
    height = np.ptp(body.template[:, 1])
    assert 1.60 < height < 1.80
    rng = np.random.default_rng(0)
    people = [body.shaped(betas) for betas in rng.normal(size=(200, 10))]
    heights = np.array([np.ptp(person[:, 1]) for person in people])
    assert 0.08 < heights.std() < 0.14
    assert heights.min() > 1.2
    assert heights.max() < 2.2
    volumes = np.array([volume(person, body.triangles) for person in people])
    assert volumes.min() > 0.025
    assert volumes.max() < 0.15
    # Components come in the order of what they explain.
    spread = np.linalg.norm(body.shape_directions.reshape(-1, 10), axis=0)
    assert (np.diff(spread) < 0).all()


def test_positive_first_beta_is_taller(body):
    assert np.ptp(body.shaped(np.array([2.0]))[:, 1]) > np.ptp(body.template[:, 1]) + 0.1
