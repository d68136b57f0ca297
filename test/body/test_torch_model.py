# SPDX-License-Identifier: Apache-2.0
"""The torch body against a plain double-precision skinning and against the smplx package."""

import numpy as np
import pytest
import torch
from helpers_training import small_body
from scipy.spatial.transform import Rotation

from key2mesh_core.body.files import load_body
from key2mesh_core.body.keypoint_regressor import FACE_ROW, joint_mix
from key2mesh_core.body.torch_model import BodyModel


def random_pose(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.7, (count * 24, 3))).as_matrix()
    betas = rng.normal(size=(count, 10))
    return torch.tensor(betas).float(), torch.tensor(rotations).float().reshape(count, 24, 3, 3)


def skinned(body, betas, rotations):
    """Reference: vertices and joints of one person with 4x4 matrices, joint by joint."""
    shaped = body.template + body.shape_directions @ betas
    joints = body.joint_regressor.astype(float) @ shaped
    if body.pose_directions is not None:
        shaped = shaped + body.pose_directions @ (rotations[1:] - np.eye(3)).reshape(-1)
    world = np.zeros((24, 4, 4))
    for k in range(24):
        local = np.eye(4)
        local[:3, :3] = rotations[k]
        parent = body.parents[k]
        local[:3, 3] = joints[k] - (joints[parent] if k else 0)
        world[k] = world[parent] @ local if k else local
    relative = world.copy()
    relative[:, :3, 3] -= np.einsum("kab,kb->ka", world[:, :3, :3], joints)
    blend = np.einsum("vk,kab->vab", body.skinning_weights, relative)
    vertices = np.einsum("vab,vb->va", blend[:, :3, :3], shaped) + blend[:, :3, 3]
    return vertices - joints[0], world[:, :3, 3] - joints[0]


@pytest.mark.parametrize("correctives", [False, True])
@pytest.mark.parametrize("as_detected", [False, True])
def test_reduced_keypoints_equal_keypoints_regressed_from_the_mesh(correctives, as_detected):
    data = small_body(correctives=correctives)
    model = BodyModel(data, as_detected)
    betas, rotations = random_pose(20)
    joints, keypoints = model.keypoints(betas, rotations)
    vertices = model.vertices(betas, rotations)
    for n in range(20):
        true, true_joints = skinned(data, betas[n].double().numpy(), rotations[n].double().numpy())
        np.testing.assert_allclose(vertices[n], true, atol=2e-6)
        np.testing.assert_allclose(joints[n], true_joints, atol=2e-6)
        expected = joint_mix(data.joint_regressor @ data.template, as_detected) @ true_joints
        for keypoint, row in FACE_ROW.items():
            expected[keypoint] = data.face_regressor[row] @ true
        np.testing.assert_allclose(keypoints[n], expected, atol=2e-6)


@pytest.mark.parametrize("correctives", [False, True])
def test_gradients_of_reduced_keypoints(correctives):
    model = BodyModel(small_body(correctives=correctives)).double()
    betas, rotations = random_pose(2)
    arguments = (betas.double().requires_grad_(), rotations.double().requires_grad_())
    torch.autograd.gradcheck(lambda b, r: model.keypoints(b, r)[1], arguments)


def test_turning_the_root_turns_the_body():
    model = BodyModel(small_body(correctives=True))
    betas, rotations = random_pose(5)
    turn = random_pose(1, seed=9)[1][0, 0]
    turned = torch.cat([(turn @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)
    for function in (model.vertices, lambda b, r: model.keypoints(b, r)[1]):
        torch.testing.assert_close(
            function(betas, turned), function(betas, rotations) @ turn.T, atol=1e-5, rtol=0
        )


def test_no_person_is_no_error():
    model = BodyModel(small_body())
    joints, keypoints = model.keypoints(torch.zeros(0, 10), torch.zeros(0, 24, 3, 3))
    assert joints.shape == (0, 24, 3)
    assert keypoints.shape == (0, 18, 3)
    assert model.vertices(torch.zeros(0, 10), torch.zeros(0, 24, 3, 3)).shape == (0, 192, 3)


@pytest.mark.parametrize("correctives", [False, True])
@pytest.mark.parametrize("as_detected", [False, True])
def test_joints_keypoints_and_mesh_are_those_of_smplx(correctives, as_detected):
    smplx_body = pytest.importorskip("benchmarks.smplx_body", reason="smplx is not installed")
    data = small_body(correctives=correctives)
    betas, rotations = random_pose(30)
    model, oracle = BodyModel(data, as_detected), smplx_body.SmplxBody(data, as_detected)
    with torch.no_grad():
        for found, expected in zip(
            model.keypoints(betas, rotations), oracle.keypoints(betas, rotations), strict=True
        ):
            torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)
        vertices = model.vertices(betas, rotations)
    torch.testing.assert_close(vertices, oracle.latest_vertices, atol=5e-6, rtol=0)


def test_the_default_body_is_that_of_smplx_too():
    smplx_body = pytest.importorskip("benchmarks.smplx_body", reason="smplx is not installed")
    data = load_body("default")
    betas, rotations = random_pose(3)
    model, oracle = BodyModel(data), smplx_body.SmplxBody(data)
    with torch.no_grad():
        oracle.keypoints(betas, rotations)
        vertices = model.vertices(betas, rotations)
    torch.testing.assert_close(vertices, oracle.latest_vertices, atol=1e-5, rtol=0)
