# SPDX-License-Identifier: Apache-2.0
"""Laws of the rotation formulas, for numpy and torch alike, with scipy as the oracle."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from key2mesh_core.geometry import rotations as r

LIBRARIES = pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
ANGLES = [0.0, 1e-7, 1e-4, 0.5, np.pi / 2, 3.0, np.pi - 1e-6, np.pi]


def axis_angles(seed: int = 0) -> np.ndarray:
    axes = np.random.default_rng(seed).normal(size=(40, 3))
    axes = np.concatenate([axes, np.eye(3), -np.eye(3)])
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    return axes[:, None] * np.array(ANGLES)[:, None]


@LIBRARIES
def test_axis_angle_to_matrix_agrees_with_scipy(make):
    vectors = axis_angles()
    expected = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(46, -1, 3, 3)
    np.testing.assert_allclose(
        np.asarray(r.axis_angle_to_matrix(make(vectors))), expected, atol=1e-9
    )


@LIBRARIES
def test_matrix_to_axis_angle_is_the_inverse_even_near_zero_and_pi(make):
    matrices = r.axis_angle_to_matrix(axis_angles())
    vectors = r.matrix_to_axis_angle(make(matrices))
    assert float(np.linalg.norm(np.asarray(vectors), axis=-1).max()) <= np.pi + 1e-9
    np.testing.assert_allclose(r.axis_angle_to_matrix(np.asarray(vectors)), matrices, atol=1e-7)


@LIBRARIES
def test_quaternions_agree_with_scipy_and_lead_back(make):
    matrices = r.axis_angle_to_matrix(axis_angles())
    quaternions = r.matrix_to_quaternion(make(matrices))
    xyzw = np.asarray(quaternions)[..., [1, 2, 3, 0]].reshape(-1, 4)
    found = Rotation.from_quat(xyzw).as_matrix().reshape(matrices.shape)
    np.testing.assert_allclose(found, matrices, atol=1e-9)
    np.testing.assert_allclose(np.asarray(r.quaternion_to_matrix(quaternions)), matrices, atol=1e-9)
    twice = np.asarray(r.quaternion_to_axis_angle(-2 * quaternions))
    np.testing.assert_allclose(r.axis_angle_to_matrix(twice), matrices, atol=1e-7)


@LIBRARIES
def test_6d_round_trip_and_projection_onto_rotations(make):
    matrices = r.axis_angle_to_matrix(axis_angles())
    six = r.matrix_to_rotation_6d(make(matrices))
    np.testing.assert_allclose(np.asarray(r.rotation_6d_to_matrix(six)), matrices, atol=1e-6)
    arbitrary = np.random.default_rng(1).normal(size=(100, 6))
    found = np.asarray(r.rotation_6d_to_matrix(make(arbitrary)))
    identity = np.broadcast_to(np.eye(3), found.shape)
    np.testing.assert_allclose(found @ np.swapaxes(found, -1, -2), identity, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-6)


def test_6d_is_read_row_by_row_as_two_columns():
    quarter_turn_about_z = np.array([0.0, -1.0, 1.0, 0.0, 0.0, 0.0])
    expected = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(r.rotation_6d_to_matrix(quarter_turn_about_z), expected, atol=1e-6)


@LIBRARIES
def test_degenerate_6d_stays_finite(make):
    for six in (np.zeros((2, 6)), np.ones((2, 6)), np.full((2, 6), 1e18)):
        assert np.isfinite(np.asarray(r.rotation_6d_to_matrix(make(six)))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (r.axis_angle_to_matrix, (5, 24, 3)),
        (r.matrix_to_axis_angle, (5, 24, 3, 3)),
        (r.rotation_6d_to_matrix, (0, 6)),
        (r.matrix_to_rotation_6d, (2, 3, 3)),
    ],
)
def test_dtype_and_leading_shape_are_kept(function, shape, dtype):
    result = function(np.ones(shape, dtype))
    assert result.dtype == dtype
    assert function(torch.ones(shape)).dtype == torch.float32
    assert result.shape[0] == shape[0]


def test_gradients_are_finite_at_the_identity():
    vector = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    r.axis_angle_to_matrix(vector).sum().backward()
    assert torch.isfinite(vector.grad).all()
    torch.autograd.gradcheck(
        r.axis_angle_to_matrix, torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    )
