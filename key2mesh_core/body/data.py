# SPDX-License-Identifier: Apache-2.0
"""The data of a body model in SMPL's format, checked once on construction.

SMPL: Loper et al., SIGGRAPH Asia 2015. A body is a template mesh in a T-pose, shape components, a
regressor from vertices to joints, and skinning weights. Frame: y up, facing +z, the person's left
at +x, metres.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import BodyFileError

JOINT_NAMES: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee",
    "spine2", "left_ankle", "right_ankle", "spine3", "left_foot", "right_foot",
    "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
"""SMPL's 24 joints in SMPL's order."""

JOINT_COUNT = len(JOINT_NAMES)

BETA_COUNT = 10
"""Number of shape components that the network predicts; of 300 in a file, the first ones are
used."""

PARENTS: NDArray[np.int32] = np.array(
    [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21],
    dtype=np.int32,
)
"""(24,) parent of each joint, -1 for the root."""
PARENTS.flags.writeable = False

FACE_NAMES: tuple[str, ...] = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
"""Rows of the face regressor: points on the head that detectors report but that are not joints."""

GENDERS: tuple[str, ...] = ("neutral", "female", "male")

POSE_DIRECTION_COUNT = (JOINT_COUNT - 1) * 9
"""SMPL's pose correctives: nine numbers of R - I for each joint except the root."""

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class BodyData:
    """A body model as plain arrays; V vertices, F triangles, B shape components.

    Attributes:
        name: its usual name, e.g. "SMPL_NEUTRAL".
        gender: "neutral", "female" or "male".
        template: (V, 3) float32, mean body in the T-pose [m].
        shape_directions: (V, 3, B) float32, displacement per unit of each beta [m].
        pose_directions: (V, 3, 207) float32 pose correctives [m], or None.
        joint_regressor: (24, V) float32, rows sum to 1; joints = regressor @ vertices.
        skinning_weights: (V, 24) float32, non-negative, rows sum to 1.
        parents: (24,) int32, always those of SMPL.
        triangles: (F, 3) int32, counter-clockwise seen from outside.
        face_regressor: (5, V) float32, rows sum to 1: nose, R eye, L eye, R ear, L ear.

    Arrays are converted to these types and made read-only.

    Raises:
        BodyFileError: an array has an invalid shape or value; names the array.
    """

    name: str
    gender: str
    template: NDArray[np.float32]
    shape_directions: NDArray[np.float32]
    pose_directions: NDArray[np.float32] | None
    joint_regressor: NDArray[np.float32]
    skinning_weights: NDArray[np.float32]
    parents: NDArray[np.int32]
    triangles: NDArray[np.int32]
    face_regressor: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.gender not in GENDERS:
            raise BodyFileError(f"gender must be one of {', '.join(GENDERS)}, got {self.gender!r}")
        if not self.name or "@" in self.name:
            raise BodyFileError(f"a body's name must not be empty or contain '@': {self.name!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("name", "gender") or value is None:
                continue
            kind = np.int32 if field.name in ("parents", "triangles") else np.float32
            object.__setattr__(self, field.name, _frozen_copy(field.name, value, kind))
        self._check_shapes()
        self._check_values()

    def _check_shapes(self) -> None:
        count = self.template.shape[0] if self.template.ndim else 0
        components = self.shape_directions.shape[-1] if self.shape_directions.ndim else 0
        if not (count and components):
            raise BodyFileError(
                f"template must be (V, 3) and shape_directions (V, 3, B), V > 0 and B > 0; got "
                f"{self.template.shape} and {self.shape_directions.shape}"
            )
        expected = {
            "template": (count, 3),
            "shape_directions": (count, 3, components),
            "pose_directions": (count, 3, POSE_DIRECTION_COUNT),
            "joint_regressor": (JOINT_COUNT, count),
            "skinning_weights": (count, JOINT_COUNT),
            "parents": (JOINT_COUNT,),
            "triangles": (self.triangles.size // 3, 3),
            "face_regressor": (len(FACE_NAMES), count),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise BodyFileError(
                    f"{name} must be {shape} for a body of {count} vertices, got {array.shape}"
                )

    def _check_values(self) -> None:
        if not np.array_equal(self.parents, PARENTS):
            raise BodyFileError(
                f"the joint tree must be SMPL's {PARENTS.tolist()}, got {self.parents.tolist()}"
            )
        outside = (self.triangles < 0) | (self.triangles >= len(self.template))
        if outside.any():
            raise BodyFileError(
                f"triangles refer to vertex {int(self.triangles[outside][0])} of a body with "
                f"{len(self.template)} vertices"
            )
        if self.skinning_weights.min() < -_SUM_TOLERANCE:
            least = self.skinning_weights.min()
            raise BodyFileError(f"skinning_weights must be non-negative, got {least}")
        for name in ("skinning_weights", "joint_regressor", "face_regressor"):
            sums = getattr(self, name).sum(axis=1, dtype=np.float64)
            worst = int(np.abs(sums - 1).argmax())
            if abs(sums[worst] - 1) > _SUM_TOLERANCE:
                raise BodyFileError(f"{name} row {worst} must sum to 1, got {sums[worst]:.6f}")

    @cached_property
    def identifier(self) -> str:
        """`name@` and 12 hexadecimal digits of a content hash: equal bodies have equal
        identifiers."""
        digest = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "name" or value is None:
                continue
            digest.update(field.name.encode())
            if isinstance(value, str):
                digest.update(value.encode())
            else:
                digest.update(str(value.shape).encode())
                digest.update(np.ascontiguousarray(value).tobytes())
        return f"{self.name}@{digest.hexdigest()[:12]}"

    def matches(self, identifier: str) -> bool:
        """Whether an equal body has this identifier, whatever its name."""
        return self.identifier.partition("@")[2] == identifier.partition("@")[2]

    def shaped(self, betas: NDArray[np.floating]) -> NDArray[np.float32]:
        """The T-posed body of `betas` (K,), K <= B: vertices (V, 3) [m]."""
        betas = np.asarray(betas, dtype=np.float32)
        if betas.ndim != 1 or len(betas) > self.shape_directions.shape[2]:
            raise BodyFileError(
                f"betas must be at most {self.shape_directions.shape[2]} numbers for "
                f"{self.identifier}, got shape {betas.shape}"
            )
        return self.template + self.shape_directions[:, :, : len(betas)] @ betas

    def joints(self, vertices: NDArray[np.floating]) -> NDArray[np.float32]:
        """Joints (24, 3) [m] of T-posed `vertices` (V, 3)."""
        return (self.joint_regressor @ vertices).astype(np.float32)


def _frozen_copy(name: str, value: object, kind: type) -> NDArray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise BodyFileError(f"{name} must contain numbers, got an array of {array.dtype}")
    if not np.isfinite(array).all():
        raise BodyFileError(f"{name} contains values that are not finite")
    copy = np.array(array, dtype=kind, order="C")
    copy.flags.writeable = False
    return copy
