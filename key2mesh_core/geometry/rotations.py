# SPDX-License-Identifier: Apache-2.0
"""Rotations as axis-angle vectors, quaternions, matrices and the continuous 6D form.

Every function takes numpy or torch arrays of any leading shape and returns arrays of the same
library, dtype and device. Angles are in radians; matrices act on column vectors; quaternions are
(w, x, y, z).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

Array = Any


def _quaternion_products() -> np.ndarray:
    table = np.zeros((10, 4, 4), np.float32)
    signs = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1], [1, 1, 1, 1]])
    table[[0, 4, 8, 9]] = signs[:, :, None] * np.eye(4)
    for i in range(3):  # w with x, y, z; then the two others with each other
        j, k = (i + 1) % 3, (i + 2) % 3
        for a, b, sign in ((0, i + 1, -1), (j + 1, k + 1, 1)):
            table[3 * k + j, [a, b], [b, a]] = 1
            table[3 * j + k, [a, b], [b, a]] = sign
    return table.reshape(10, 16)


QUATERNION_PRODUCTS = _quaternion_products()
"""(10, 16): the nine numbers of a rotation matrix, row by row, and 1, multiplied by this table,
give the sixteen products 4 q_i q_j of its quaternion, row by row."""


# The inverse table, also of -1, 0 and 1; constants of the products cancel in it.
_TO_MATRIX = np.round(4 * np.linalg.pinv(QUATERNION_PRODUCTS[:9]))


def with_turned_root(turn: Array, rotations: Array) -> Array:
    """Joints' rotations (N, J, 3, 3) with the root, the first one, turned by (N, 3, 3)."""
    xp = array_namespace(rotations)
    return xp.concat([(turn @ rotations[:, 0])[:, None], rotations[:, 1:]], axis=1)


def axis_angle_to_matrix(axis_angle: Array) -> Array:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) [rad] (Rodrigues)."""
    xp = array_namespace(axis_angle)
    squared = xp.sum(axis_angle * axis_angle, axis=-1)
    small = squared < 1e-8
    # The second `where` keeps gradients finite: the unused branch must not divide by zero.
    safe = xp.where(small, xp.ones_like(squared), squared)
    angle = xp.sqrt(safe)
    sine = xp.where(small, 1 - squared / 6, xp.sin(angle) / angle)
    versine = xp.where(small, 0.5 - squared / 24, (1 - xp.cos(angle)) / safe)
    x, y, z = axis_angle[..., 0], axis_angle[..., 1], axis_angle[..., 2]
    rows = [
        1 - versine * (y * y + z * z),
        versine * x * y - sine * z,
        versine * x * z + sine * y,
        versine * x * y + sine * z,
        1 - versine * (x * x + z * z),
        versine * y * z - sine * x,
        versine * x * z - sine * y,
        versine * y * z + sine * x,
        1 - versine * (x * x + y * y),
    ]
    return xp.reshape(xp.stack(rows, axis=-1), (*axis_angle.shape[:-1], 3, 3))


def matrix_to_axis_angle(matrix: Array) -> Array:
    """Axis-angle vectors (..., 3) [rad], angle in [0, pi], of rotation matrices (..., 3, 3).

    Accurate even near 0 and near pi, where the textbook formula divides by zero.
    """
    return quaternion_to_axis_angle(_scaled_quaternion(matrix))


def matrix_to_quaternion(matrix: Array) -> Array:
    """Unit quaternions (..., 4) of rotation matrices (..., 3, 3), of either sign."""
    xp = array_namespace(matrix)
    quaternion = _scaled_quaternion(matrix)
    return quaternion / xp.sqrt(xp.sum(quaternion * quaternion, axis=-1, keepdims=True))


def _scaled_quaternion(matrix: Array) -> Array:
    """4 q_i q of the unit quaternion q of each matrix, with q_i its largest component."""
    xp = array_namespace(matrix)
    linear = xp.asarray(QUATERNION_PRODUCTS, dtype=matrix.dtype, device=_device(matrix))
    flat = xp.reshape(matrix, (*matrix.shape[:-2], 9))
    products = xp.matmul(flat, linear[:9, :]) + linear[9, :]
    best = xp.argmax(products[..., ::5], axis=-1)
    chosen = xp.astype(xp.arange(4, device=_device(matrix)) == best[..., None], matrix.dtype)
    products = xp.reshape(products, (*matrix.shape[:-2], 4, 4))
    return xp.matmul(chosen[..., None, :], products)[..., 0, :]


def quaternion_to_axis_angle(quaternion: Array) -> Array:
    """Axis-angle vectors (..., 3) [rad], angle in [0, pi], of quaternions (..., 4), any length."""
    xp = array_namespace(quaternion)
    w, vector = quaternion[..., :1], quaternion[..., 1:]
    # The length cancels in both ratios. The smallest norm avoids 0 / 0; near it, atan(norm / w) /
    # norm equals 1 / w to the last bit.
    norm = xp.sqrt(xp.sum(vector * vector, axis=-1, keepdims=True) + 1e-30)
    scale = 2 * xp.atan(norm / (xp.abs(w) + 1e-30)) / norm
    # q and -q are the same rotation; w >= 0 is the shorter way round.
    return vector * xp.where(w < 0, -scale, scale)


def quaternion_to_matrix(quaternion: Array) -> Array:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    xp = array_namespace(quaternion)
    products = quaternion[..., None] * quaternion[..., None, :]
    table = xp.asarray(_TO_MATRIX, dtype=quaternion.dtype, device=_device(quaternion))
    flat = xp.matmul(xp.reshape(products, (*quaternion.shape[:-1], 16)), table)
    return xp.reshape(flat, (*quaternion.shape[:-1], 3, 3))


def rotation_6d_to_matrix(rotation_6d: Array) -> Array:
    """Rotation matrices (..., 3, 3) of 6D vectors (..., 6), read row by row as (3, 2).

    The two columns are orthonormalised by Gram-Schmidt, the third is their cross product (Zhou et
    al., "On the Continuity of Rotation Representations", CVPR 2019). The result is finite for every
    finite input: a degenerate one gives a matrix that is not a rotation, but never NaN.
    """
    xp = array_namespace(rotation_6d)
    columns = xp.reshape(rotation_6d, (*rotation_6d.shape[:-1], 3, 2))
    first = _normalise(xp, columns[..., 0])
    second = columns[..., 1]
    second = _normalise(xp, second - xp.sum(first * second, axis=-1, keepdims=True) * first)
    third = _turned(first, 1) * _turned(second, 2) - _turned(first, 2) * _turned(second, 1)
    return xp.stack([first, second, third], axis=-1)


def matrix_to_rotation_6d(matrix: Array) -> Array:
    """6D vectors (..., 6) of rotation matrices (..., 3, 3): the first two columns, row by row."""
    xp = array_namespace(matrix)
    return xp.reshape(matrix[..., :2], (*matrix.shape[:-2], 6))


def _turned(vector: Array, places: int) -> Array:
    """(x, y, z) cyclically permuted, for cross products: (y, z, x) for 1, (z, x, y) for 2."""
    return vector[..., [places % 3, (places + 1) % 3, (places + 2) % 3]]


def _normalise(xp: Any, vector: Array) -> Array:
    return vector / xp.sqrt(xp.sum(vector * vector, axis=-1, keepdims=True) + 1e-12)


def _device(array: Array) -> Any:
    return getattr(array, "device", None)
