# SPDX-License-Identifier: Apache-2.0
"""The derivatives of keypoints are those that finite differences find."""

import pytest
import torch

from key2mesh_core.body.files import load_body
from key2mesh_core.body.linearised import MOVING, LinearisedKeypoints
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import axis_angle_to_matrix

STEP = 1e-5


@pytest.fixture(scope="module")
def linearised():
    return LinearisedKeypoints(BodyModel(load_body("default"))).double()


@pytest.fixture(scope="module")
def bodies():
    torch.manual_seed(0)
    pose = 0.4 * torch.randn(3, 24, 3, dtype=torch.float64)
    return torch.randn(3, 10, dtype=torch.float64), axis_angle_to_matrix(pose)


def test_values_are_the_body_models(linearised, bodies):
    found = linearised(*bodies)
    joints, keypoints = linearised.body.keypoints(*bodies)
    torch.testing.assert_close(found.joints, joints)
    torch.testing.assert_close(found.keypoints, keypoints)


def test_turning_a_joint(linearised, bodies):
    betas, rotations = bodies
    found = linearised(betas, rotations)
    for column, (joint, axis) in enumerate((joint, axis) for joint in MOVING for axis in range(3)):
        small = torch.zeros(3, dtype=torch.float64)
        small[axis] = STEP
        there, back = rotations.clone(), rotations.clone()
        there[:, joint] = axis_angle_to_matrix(small) @ rotations[:, joint]
        back[:, joint] = axis_angle_to_matrix(-small) @ rotations[:, joint]
        wanted = linearised.body.keypoints(betas, there)[1]
        wanted = (wanted - linearised.body.keypoints(betas, back)[1]) / (2 * STEP)
        torch.testing.assert_close(found.by_rotation[..., column], wanted, atol=1e-6, rtol=0)


def test_changing_a_beta(linearised, bodies):
    betas, rotations = bodies
    found = linearised(betas, rotations)
    for number in range(10):
        step = torch.zeros(10, dtype=torch.float64)
        step[number] = STEP
        wanted = linearised.body.keypoints(betas + step, rotations)[1]
        wanted = (wanted - linearised.body.keypoints(betas - step, rotations)[1]) / (2 * STEP)
        torch.testing.assert_close(found.by_betas[..., number], wanted, atol=1e-6, rtol=0)


def test_only_moving_joints_move_keypoints(linearised, bodies):
    betas, rotations = bodies
    idle = [joint for joint in range(24) if joint not in MOVING]
    other = rotations.clone()
    other[:, idle] = axis_angle_to_matrix(torch.randn(3, len(idle), 3, dtype=torch.float64))
    before, after = (linearised.body.keypoints(betas, r)[1] for r in (rotations, other))
    assert (before - after).abs().max() < 1e-6
