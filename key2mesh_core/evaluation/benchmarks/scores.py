# SPDX-License-Identifier: Apache-2.0
"""Errors of one person in a benchmark: predicted meshes against labelled bodies or joints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.skinning import rest_pelvis, skin
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.benchmarks.protocols import Protocol
from key2mesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.keypoints.arrays import seen_counts, usable
from key2mesh_core.recordings.labelled import LabelledPerson

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Meshes:
    """N bodies of SMPL's mesh in the camera's frame, wherever they stand.

    Attributes:
        vertices: (N, V, 3) [m].
        joints: (N, 24, 3) SMPL's joints [m].
        origin: (N, 3) where SMPL with zero translation has its origin [m].
    """

    vertices: NDArray[np.floating]
    joints: NDArray[np.floating]
    origin: NDArray[np.floating]

    @classmethod
    def of(cls, body: BodyData, betas: NDArray, rotations: NDArray) -> Meshes:
        """From betas (N, 10) and rotations (N, 24, 3, 3), the pelvis at the origin."""
        vertices, joints = skin(body, betas, rotations)
        return cls(vertices, joints, -rest_pelvis(body, betas))


Predict = Callable[[NDArray[np.float32], Intrinsics], Meshes]
"""Maps keypoints (N, K, 3) px, sanitised and usable, and their camera to N bodies."""


@dataclass(frozen=True, eq=False)
class PersonScores:
    """Errors of one person.

    Attributes:
        name: of the person in the sequence.
        images: (F,) measured images.
        pa_mpjpe_mm, mpjpe_mm, pve_mm: (F,); pve_mm is NaN if the truth has no mesh.
        left_out: number of images that do not count, by cause.
    """

    name: str
    images: NDArray[np.int64]
    pa_mpjpe_mm: NDArray[np.float64]
    mpjpe_mm: NDArray[np.float64]
    pve_mm: NDArray[np.float64]
    left_out: dict[str, int]


class Judge:
    """Measures people according to a protocol.

    Args:
        protocol: what is measured.
        bodies: the SMPL of every gender that the protocol's truth needs.
        regressor: (15, V) of the 14 joints and the pelvis; None for SMPL's joints.
    """

    def __init__(
        self,
        protocol: Protocol,
        bodies: dict[str, BodyData],
        regressor: NDArray[np.float64] | None = None,
    ) -> None:
        if (protocol.joints == "h36m_14") != (regressor is not None):
            raise EvaluationError(f"{protocol.joints} joints and a regressor do not go together")
        self.protocol, self.regressor = protocol, regressor
        self._bodies = bodies

    def measure(self, person: LabelledPerson, predict: Predict) -> PersonScores:
        """Predict the bodies of a person's images and measure them.

        Raises:
            EvaluationError: the truth needs a body that is missing, or predictions have another
                mesh than SMPL or are not finite.
        """
        person, left_out = self._counted(person)
        parts = []
        for start in range(0, len(person), _BATCH):
            chunk = person.select(np.arange(start, min(start + _BATCH, len(person))))
            found = predict(chunk.keypoints, chunk.camera.intrinsics)
            parts.append(self.errors(found, self._truth(chunk)))
        pa, centred, vertices = (
            np.concatenate([part[i] for part in parts]) if parts else np.zeros(0) for i in range(3)
        )
        return PersonScores(person.name, person.images, pa, centred, vertices, left_out)

    def errors(
        self, found: Meshes, true: Meshes | NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(N,) PA-MPJPE, MPJPE and PVE [mm] of predicted bodies.

        Args:
            found: predictions.
            true: bodies, or (N, 15, 3) the 14 joints and the pelvis [m]; PVE is then NaN.
        """
        joints, centre = self._joints(found)
        if isinstance(true, Meshes):
            true_joints, true_centre = self._joints(true)
            by_joints = self.protocol.vertices == "joints"
            zero = centre if by_joints else found.origin
            true_zero = true_centre if by_joints else true.origin
            vertices = mpjpe(found.vertices - zero[:, None], true.vertices - true_zero[:, None])
        else:
            true_joints, true_centre = self._split(true)
            vertices = np.full(len(true), np.nan)
        pa = pa_mpjpe(joints, true_joints)
        return pa, mpjpe(joints - centre[:, None], true_joints - true_centre[:, None]), vertices

    def _joints(self, meshes: Meshes) -> tuple[NDArray, NDArray]:
        """Scored joints (N, J, 3) and the point to centre on (N, 3)."""
        if self.regressor is None:
            joints = np.asarray(meshes.joints, np.float64)
            hips = self.protocol.centre == "hips"
            return joints, joints[:, [1, 2]].mean(1) if hips else joints[:, 0]
        count = self.regressor.shape[1]
        if meshes.vertices.shape[1] != count:
            raise EvaluationError(
                f"predicted meshes have {meshes.vertices.shape[1]} vertices, the regressor is for "
                f"{count}"
            )
        return self._split(np.einsum("jv,nvc->njc", self.regressor, meshes.vertices, optimize=True))

    def _split(self, points: NDArray) -> tuple[NDArray, NDArray]:
        joints, pelvis = points[:, :14], points[:, 14]
        return joints, joints[:, [2, 3]].mean(1) if self.protocol.centre == "hips" else pelvis

    def _truth(self, person: LabelledPerson) -> Meshes | NDArray:
        if person.joints is not None:
            return person.joints
        gender = "neutral" if self.protocol.truth == "neutral" else person.gender
        if gender not in self._bodies:
            raise EvaluationError(f"the truth of {person.name!r} needs the {gender} SMPL")
        betas = np.tile(person.betas, (len(person), 1))
        rotations = axis_angle_to_matrix(person.poses.reshape(-1, 24, 3))
        return Meshes.of(self._bodies[gender], betas, rotations)

    def _counted(self, person: LabelledPerson) -> tuple[LabelledPerson, dict[str, int]]:
        """The images that count, with sanitised keypoints of a pinhole camera."""
        clean = person.undistorted()
        seen = seen_counts(clean.keypoints)
        counts = usable(clean.keypoints) & (seen >= self.protocol.minimum_keypoints)
        left_out = {
            "invalid": person.invalid,
            "undetected": int((seen == 0).sum()),
            "too_few_keypoints": int((~counts & (seen > 0)).sum()),
        }
        return clean.select(counts), left_out
