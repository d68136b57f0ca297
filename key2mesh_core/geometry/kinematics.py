# SPDX-License-Identifier: Apache-2.0
"""Computes the joints of posed bodies from bones, and bones from joints, fast enough for every
frame.

A bone is a joint's position in its parent's frame [m]; it depends on the shape alone. Bones follow
from the pose graph's joints and rotations, so no body model is needed. Rotations along the tree are
multiplied by doubling: three products instead of one per level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]

_STILL = np.eye(3, dtype=np.float32)


class Kinematics:
    """A tree of J joints.

    Args:
        parents: (J,) parent of each joint, -1 for the root; parents come before their children.
    """

    def __init__(self, parents: ArrayLike) -> None:
        parents = np.asarray(parents, dtype=np.intp)
        count = len(parents)
        self._own = np.maximum(parents, 0)
        # The root's parent is an extra joint that never rotates.
        above = np.append(np.where(parents < 0, count, parents), count)
        self._parents = above[:count]
        self._strides = []
        while (above[self._parents] != count).any():
            self._strides.append(above)
            above = above[above]
        self._sum = np.eye(count, dtype=np.float32)
        for joint in range(1, count):
            self._sum[joint] += self._sum[parents[joint]]

    def steps(self, joints: FloatArray) -> FloatArray:
        """(N, J, 3) vectors from parent to joint, in the frame of `joints`; 0 for the root."""
        return joints - joints.take(self._own, axis=1)

    def parents_rotations(self, rotations: FloatArray) -> FloatArray:
        """(N, J, 3, 3) rotation of each joint's parent relative to the root's parent frame, from
        rotations (N, J, 3, 3) relative to the parent."""
        number, count = rotations.shape[:2]
        chain = np.empty((number, count + 1, 3, 3), np.float32)
        chain[:, :count] = rotations
        chain[:, count] = _STILL
        for above in self._strides:
            chain = chain.take(above, axis=1) @ chain
        return chain.take(self._parents, axis=1)

    def bones(self, steps: FloatArray, rotations: FloatArray) -> FloatArray:
        """(N, J, 3) each joint in its parent's frame, from `steps` and rotations (N, J, 3, 3)."""
        # A row vector times a rotation is rotated by its inverse.
        return (steps[..., None, :] @ self.parents_rotations(rotations))[..., 0, :]

    def joints(self, bones: FloatArray, rotations: FloatArray) -> FloatArray:
        """(N, J, 3) joints, root at the origin, from bones and rotations (N, J, 3, 3)."""
        return self._sum @ (self.parents_rotations(rotations) @ bones[..., None])[..., 0]
