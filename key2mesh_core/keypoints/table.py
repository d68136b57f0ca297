# SPDX-License-Identifier: Apache-2.0
"""The table of keypoints, one row each, and the constants derived from it.

Everything that depends on the set of keypoints is derived from `KEYPOINTS`: layouts, the regressor
from bodies to keypoints, synthetic detections, losses, quality, the network's input, drawing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keypoint:
    """A point of the body that detectors report.

    Attributes:
        name: the keypoint's name, with its side if there are two: "nose", "left_wrist".
        joint: the SMPL joint at its position; "" for a landmark on the skin, which the body's
            landmark regressor (`BodyData.face_regressor`) finds by the keypoint's name.
        limb: the keypoint that it is connected to in a drawn skeleton; "" for none.
        noise: how far detectors misplace it, relative to the average keypoint.
        offset: how far detectors place it from where the body has it [mm per axis].
        loss_weight: its weight in training losses. The ends of limbs have the largest errors and
            matter most.
        part: its body part, with its side if there are two; synthesis hides parts as a whole.
        standing: (x, y) position on a person who stands upright and faces the camera, relative to
            the person's centre (x right, y down), in units of the person's height.
        optional: whether layouts and networks may lack it.
    """

    name: str
    joint: str
    limb: str
    noise: float
    offset: int
    loss_weight: float
    part: str
    standing: tuple[float, float]
    optional: bool = False

    @property
    def kind(self) -> str:
        """The name without the side."""
        return self.name.removeprefix("left_").removeprefix("right_")


# The order is OpenPose's COCO layout. Optional keypoints come last, so a network trained without
# them takes the first rows.
# fmt: off
# ruff: noqa: E501
KEYPOINTS: tuple[Keypoint, ...] = (
    # name, joint, limb, noise, offset, loss weight, part, standing
    Keypoint("nose",           "",               "neck",           0.6,  8, 1, "face",           ( 0.00, -0.43)),
    Keypoint("neck",           "neck",           "",               0.9, 10, 1, "neck",           ( 0.00, -0.33)),
    Keypoint("right_shoulder", "right_shoulder", "neck",           0.9, 12, 2, "right_shoulder", (-0.10, -0.33)),
    Keypoint("right_elbow",    "right_elbow",    "right_shoulder", 1.1, 14, 4, "right_arm",      (-0.14, -0.16)),
    Keypoint("right_wrist",    "right_wrist",    "right_elbow",    1.3, 14, 8, "right_arm",      (-0.15, -0.02)),
    Keypoint("left_shoulder",  "left_shoulder",  "neck",           0.9, 12, 2, "left_shoulder",  ( 0.10, -0.33)),
    Keypoint("left_elbow",     "left_elbow",     "left_shoulder",  1.1, 14, 4, "left_arm",       ( 0.14, -0.16)),
    Keypoint("left_wrist",     "left_wrist",     "left_elbow",     1.3, 14, 8, "left_arm",       ( 0.15, -0.02)),
    Keypoint("right_hip",      "right_hip",      "neck",           1.4, 16, 2, "right_hip",      (-0.06,  0.00)),
    Keypoint("right_knee",     "right_knee",     "right_hip",      1.2, 10, 4, "right_leg",      (-0.06,  0.24)),
    Keypoint("right_ankle",    "right_ankle",    "right_knee",     1.2, 10, 8, "right_foot",     (-0.06,  0.47)),
    Keypoint("left_hip",       "left_hip",       "neck",           1.4, 16, 2, "left_hip",       ( 0.06,  0.00)),
    Keypoint("left_knee",      "left_knee",      "left_hip",       1.2, 10, 4, "left_leg",       ( 0.06,  0.24)),
    Keypoint("left_ankle",     "left_ankle",     "left_knee",      1.2, 10, 8, "left_foot",      ( 0.06,  0.47)),
    Keypoint("right_eye",      "",               "nose",           0.5, 10, 1, "face",           (-0.02, -0.45)),
    Keypoint("left_eye",       "",               "nose",           0.5, 10, 1, "face",           ( 0.02, -0.45)),
    Keypoint("right_ear",      "",               "right_eye",      0.7, 12, 1, "face",           (-0.05, -0.44)),
    Keypoint("left_ear",       "",               "left_eye",       0.7, 12, 1, "face",           ( 0.05, -0.44)),
)
# fmt: on

NETWORK_KEYPOINTS: tuple[str, ...] = tuple(keypoint.name for keypoint in KEYPOINTS)
"""Keypoint names in the network's input order."""

REQUIRED: int = sum(not keypoint.optional for keypoint in KEYPOINTS)
"""Number of keypoints that every layout has; they come first."""

STANDING: tuple[tuple[float, float], ...] = tuple(keypoint.standing for keypoint in KEYPOINTS)
"""Keypoints of a person who stands upright and faces the camera (`Keypoint.standing`)."""


def number_of(name: str) -> int:
    """The row of the keypoint called `name`."""
    return NETWORK_KEYPOINTS.index(name)


def numbers_of(*parts: str) -> tuple[int, ...]:
    """Indices of the keypoints of `parts`; a part without a side ("arm") means both sides."""
    return tuple(
        number
        for number, keypoint in enumerate(KEYPOINTS)
        if keypoint.part in parts or keypoint.part.partition("_")[2] in parts
    )


def _mirrored(name: str) -> str:
    side, _, kind = name.partition("_")
    other = {"left": "right", "right": "left"}.get(side)
    return f"{other}_{kind}" if other else name


MIRROR: tuple[int, ...] = tuple(number_of(_mirrored(name)) for name in NETWORK_KEYPOINTS)
"""Permutation that swaps left and right: `keypoints[:, MIRROR]` after x -> width - x."""

LIMBS: tuple[tuple[int, int], ...] = tuple(
    (number_of(keypoint.limb), number) for number, keypoint in enumerate(KEYPOINTS) if keypoint.limb
)
"""Pairs of keypoints to connect by a line in a drawn skeleton."""
