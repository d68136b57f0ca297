# SPDX-License-Identifier: Apache-2.0
"""The bodies found in one image, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Bodies:
    """N bodies along the first axis; all float32, in the camera's optical frame (x right, y down, z
    forward).

    Attributes:
        betas: (N, 10) shape coefficients.
        rotations: (N, 24, 3, 3) rotation matrices relative to the parent joint; the root's is
            relative to the camera.
        translation: (N, 3) pelvis [m].
        poses: (N, 72) the rotations as axis-angle vectors [rad], joint by joint.
        joints: (N, 24, 3) joints [m].
        reprojection_error: (N,) RMS distance of the body's keypoints from the seen ones [px].
        quality: (N,) within 0..1; see `key2mesh_core.people.quality`.
        vertices: (N, V, 3) [m], or None.
        position_covariance: (N, 3, 3) of the pelvis's position [m^2], or None; see
            `key2mesh_core.people.position_uncertainty`.
    """

    betas: NDArray[np.float32]
    rotations: NDArray[np.float32]
    translation: NDArray[np.float32]
    poses: NDArray[np.float32]
    joints: NDArray[np.float32]
    reprojection_error: NDArray[np.float32]
    quality: NDArray[np.float32]
    vertices: NDArray[np.float32] | None = None
    position_covariance: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.betas)

    def select(self, persons: ArrayLike) -> Bodies:
        """Some of the bodies, by indices or by a mask of N booleans."""
        arrays = {each.name: getattr(self, each.name) for each in fields(self)}
        persons = np.asarray(persons)
        return Bodies(**{n: None if a is None else a[persons] for n, a in arrays.items()})


def joined(parts: Sequence[Bodies]) -> Bodies:
    """Several sets of bodies as one."""
    values = {}
    for field in fields(Bodies):
        arrays = [getattr(part, field.name) for part in parts]
        values[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    return Bodies(**values)
