# SPDX-License-Identifier: Apache-2.0
"""Skinning weights for SMPL's joints: the trunk's respread, at most four a vertex."""

from __future__ import annotations

import numpy as np

from key2mesh_core.body.data import JOINT_NAMES

_TRUNK = ("pelvis", "spine1", "spine2", "spine3")
_STEP = 1024  # weights are multiples of 1/1024: exact in half floats, and their sums too


def respread_spine(weights: np.ndarray, vertices: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Shares what a vertex has on the trunk out among SMPL's trunk joints, by height.

    Anny's spine bends lower than SMPL's. Motions made for SMPL bend at SMPL's heights, so the
    skin must too. Each vertex passes smoothly from joint to joint around the joint's height.

    Args:
        weights: (V, 24). vertices: (V, 3) and joints (24, 3) of the mean person at rest [m].
    """
    index = [JOINT_NAMES.index(name) for name in _TRUNK]
    heights = joints[index, 1]
    total = weights[:, index].sum(1)
    # passed[:, k]: how far a vertex is above joint k, from 0 to 1; the first is always passed.
    passed = np.ones((len(weights), len(index) + 1))
    passed[:, -1] = 0
    for k in range(1, len(index)):
        reach = 0.75 * max(heights[k] - heights[k - 1], 0.06)
        t = np.clip((vertices[:, 1] - heights[k]) / (2 * reach) + 0.5, 0, 1)
        passed[:, k] = np.minimum(t * t * (3 - 2 * t), passed[:, k - 1])
    respread = weights.copy()
    respread[:, index] = total[:, None] * (passed[:, :-1] - passed[:, 1:])
    return respread


def at_most_four(weights: np.ndarray) -> np.ndarray:
    """The four largest weights of each vertex, in steps of 1/1024, summing to 1 exactly."""
    fourth = np.sort(weights, axis=1)[:, -4, None]
    kept = np.where(weights >= fourth, weights, 0)
    # Mirrored pairs may tie for the fourth place; the first joints win.
    kept[np.cumsum(kept > 0, axis=1) > 4] = 0
    kept *= _STEP / kept.sum(1, keepdims=True)
    steps = np.floor(kept)
    # What rounding down left goes to the largest remainders.
    order = np.argsort(np.argsort(-(kept - steps), axis=1, kind="stable"), axis=1)
    left = (_STEP - steps.sum(1, keepdims=True)).round()
    steps += (order < left) & (kept > 0)
    assert (steps.sum(1) == _STEP).all()
    return steps / _STEP
