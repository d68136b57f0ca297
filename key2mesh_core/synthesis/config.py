# SPDX-License-Identifier: Apache-2.0
"""How motion capture becomes keypoints: every setting with its reason. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from key2mesh_core.errors import TrainingError


@dataclass(frozen=True)
class SynthesisConfig:
    """How a frame of motion capture becomes what a detector would have seen of it.

    Defaults are the robot recipe; where the paper differs, its value is in brackets.
    """

    distance: tuple[float, float] = (1.5, 8.0)
    """Camera to pelvis [m], uniform in 1/distance: close bodies show perspective. [(6, 6)]"""
    tilt_degrees: float = 35.0
    """Pitch of the camera, uniform in +-: robots look from knee to head height. [20]"""
    roll_degrees: float = 20.0
    """Roll of the camera, uniform in +-. [20]"""
    tumble: float = 0.1
    """Share of samples with an arbitrary root rotation: people also lie and turn over. [0]"""
    centre_view: bool = True
    """Turn the view to the middle of the person's box before the network sees it, so that where
    the person stands in the image does not matter. [False]"""
    mirror: float = 0.5
    """Share of samples mirrored left to right. [0]"""
    exchange_halves: float = 0.3
    """Share of samples whose legs come from another frame: variety of poses. [0]"""
    joint_noise: float = 0.08
    """Random rotation of every body joint [rad], standard deviation. [0]"""
    large_joint_noise: float = 0.35
    """The same for the share `large_joint_noise_share` of samples. [0]"""
    large_joint_noise_share: float = 1 / 3
    """Share of samples with `large_joint_noise`. [0]"""
    beta_deviation: float = 1.0
    """Standard deviation of random betas where a clip has none (all zero)."""
    jitter: tuple[float, float] = (0.003, 0.025)
    """Keypoint noise as a share of the box's longest side; each sample draws its own standard
    deviation, log-uniform. [rounded 1 px at 6 m: (0.014, 0.014)]"""
    outliers: float = 0.01
    """Share of keypoints thrown off by a tenth of the box or more. [0]"""
    swaps: float = 0.03
    """Share of samples with the left and right arm, or leg, exchanged by the detector. [0]"""
    drop: float = 0.2
    """Largest share of keypoints dropped one by one; each sample draws its own from 0 to this.
    [every sample 0.2]"""
    drop_varies: bool = True
    """Whether samples draw their own drop rate. [False]"""
    drop_limbs: float = 0.15
    """Share of samples that lose a whole limb, both legs or the whole upper body. [0]"""
    drop_halves: float = 0.3
    """Share of samples of which a half alone is seen (behind a desk, a close-up, the legs, one
    side), or which an edge of the image cuts. [0]"""
    hide_face: float = 0.5
    """Share of samples that lose the face keypoints which the head itself hides. [0]"""
    detector_keypoints: bool = True
    """Put neck and hips where COCO-trained detectors see them, not at SMPL's joints. [False]"""

    def __post_init__(self) -> None:
        near, far = self.distance
        if not 0.5 <= near <= far:
            raise TrainingError(f"distance must be 0.5 <= near <= far [m], got {self.distance}")
        shares = ("tumble", "mirror", "exchange_halves", "drop", "drop_limbs", "drop_halves")
        for name in (*shares, "hide_face"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} is a share in 0..1, got {getattr(self, name)}")


def as_recorded(synthesis: SynthesisConfig) -> SynthesisConfig:
    """The same cameras and the same detector, of poses that stay what was recorded."""
    return replace(
        synthesis,
        tumble=0.0,
        mirror=0.0,
        exchange_halves=0.0,
        joint_noise=0.0,
        large_joint_noise_share=0.0,
    )


def without_augmentation(synthesis: SynthesisConfig) -> SynthesisConfig:
    """The same cameras and the same keypoints, seen perfectly, of poses as recorded."""
    return replace(
        as_recorded(synthesis),
        jitter=(0.0, 0.0),
        outliers=0.0,
        swaps=0.0,
        drop=0.0,
        drop_limbs=0.0,
        drop_halves=0.0,
        hide_face=0.0,
    )


PAPER_SYNTHESIS = replace(
    without_augmentation(SynthesisConfig()),
    distance=(6.0, 6.0),
    tilt_degrees=20.0,
    roll_degrees=20.0,
    centre_view=False,
    jitter=(0.014, 0.014),
    drop=0.2,
    drop_varies=False,
    detector_keypoints=False,
)
"""Camera, noise and keypoints as in the authors' code."""
