# SPDX-License-Identifier: Apache-2.0
"""Joints of posed bodies from their bones, and bones from joints: numpy, for every frame.

A bone is a joint's place in its parent's frame [m]; it depends on the shape alone. The pose graph
gives joints and rotations, which tell the bones; so nothing need be known of the body model.
Chains are multiplied by doubling: three products instead of one a level of the tree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]

_STILL = np.eye(3, dtype=np.float32)


class Kinematics:
    """One tree of J joints.

    Args:
        parents: (J,) each joint's parent, -1 for the root, parents before their children.
    """

    def __init__(self, parents: ArrayLike) -> None:
        parents = np.asarray(parents, dtype=np.intp)
        count = len(parents)
        self._own = np.maximum(parents, 0)
        # The root's parent is one more joint, which never turns.
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
        """(N, J, 3) from each parent to its joint, in the joints' own frame; 0 for the root."""
        return joints - joints.take(self._own, axis=1)

    def parents_rotations(self, rotations: FloatArray) -> FloatArray:
        """(N, J, 3, 3) of each joint's parent in the root's outer frame, of rotations
        (N, J, 3, 3) relative to the parent."""
        number, count = rotations.shape[:2]
        chain = np.empty((number, count + 1, 3, 3), np.float32)
        chain[:, :count] = rotations
        chain[:, count] = _STILL
        for above in self._strides:
            chain = chain.take(above, axis=1) @ chain
        return chain.take(self._parents, axis=1)

    def bones(self, steps: FloatArray, rotations: FloatArray) -> FloatArray:
        """(N, J, 3) each joint in its parent's frame, of `steps` and rotations (N, J, 3, 3)."""
        # A row vector times a rotation is turned back by it.
        return (steps[..., None, :] @ self.parents_rotations(rotations))[..., 0, :]

    def joints(self, bones: FloatArray, rotations: FloatArray) -> FloatArray:
        """(N, J, 3) joints, the root at the origin, of bones posed by rotations (N, J, 3, 3)."""
        return self._sum @ (self.parents_rotations(rotations) @ bones[..., None])[..., 0]
