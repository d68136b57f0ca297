# SPDX-License-Identifier: Apache-2.0
"""Settings of the synthesis of detections from motion capture. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from key2mesh_core.errors import TrainingError


@dataclass(frozen=True)
class SynthesisConfig:
    """Settings of the synthesis of detections from a frame of motion capture.

    Defaults are the robot recipe; where the paper differs, its value is in brackets.
    """

    distance: tuple[float, float] = (1.5, 8.0)
    """Distance from camera to pelvis [m], uniform in 1/distance: close bodies show perspective.
    [(6, 6)]"""
    tilt_degrees: float = 35.0
    """Largest pitch of the camera [degrees], uniform in +-: robots' cameras are at knee to head
    height. [20]"""
    roll_degrees: float = 20.0
    """Largest roll of the camera [degrees], uniform in +-. [20]"""
    pitch_first: bool = False
    """Pitch the person before the yaw instead of the camera after it: a recorded motion leans about
    a fixed axis of its own. [True]"""
    tumble: float = 0.1
    """Share of samples with an arbitrary root rotation, because people also lie and turn over.
    [0]"""
    centre_view: bool = True
    """Turn the view to the centre of the person's box before the network sees it, so that the
    person's position in the image does not matter. [False]"""
    mirror: float = 0.5
    """Share of samples mirrored left to right. [0]"""
    exchange_halves: float = 0.3
    """Share of samples whose legs come from another frame, for variety of poses. [0]"""
    joint_noise: float = 0.08
    """Standard deviation of a random rotation of every body joint [rad]. [0]"""
    large_joint_noise: float = 0.35
    """The same for the share `large_joint_noise_share` of samples. [0]"""
    large_joint_noise_share: float = 1 / 3
    """Share of samples with `large_joint_noise`. [0]"""
    beta_deviation: float = 1.0
    """Standard deviation of random betas for clips without betas (all zero)."""
    jitter: tuple[float, float] = (0.003, 0.025)
    """Range of the standard deviation of keypoint noise, relative to the box's longest side; drawn
    log-uniformly per sample. [0: see pixel_jitter]"""
    jitter_varies: float = 0.6
    """Spread of the noise among the keypoints of a person: standard deviation of its logarithm,
    half of it shared by a limb. The noise then has heavy tails (Student's t). [0]"""
    offsets: float = 1.0
    """Scale of the displacement of keypoints on the body (`Keypoint.offset`): detectors place them
    elsewhere than body models. Drawn per sample. [0]"""
    confidences: bool = True
    """Whether keypoints get confidences that reflect their noise, as detectors report them; else 1.
    [False]"""
    pixel_jitter: float = 0.0
    """Standard deviation of further noise [px] of a camera with a focal length of 256 px, rounded
    to whole pixels and the same for all keypoints. [1]"""
    outliers: float = 0.01
    """Share of outlier keypoints, off by a tenth of the box or more. [0]"""
    swaps: float = 0.03
    """Share of samples with left and right arms, or legs, swapped. [0]"""
    drop: float = 0.2
    """Largest share of individually dropped keypoints; drawn per sample from 0 to this. [every
    sample 0.2]"""
    drop_varies: bool = True
    """Whether each sample draws its own drop rate. [False]"""
    drop_limbs: float = 0.15
    """Share of samples that lose a whole limb, both legs or the whole upper body. [0]"""
    drop_halves: float = 0.3
    """Share of samples of which only a half is seen (behind a desk, a close-up, the legs, one
    side), or that an edge of the image cuts. [0]"""
    hide_face: float = 0.5
    """Share of samples that lose the face keypoints that the head itself hides. [0]"""
    detector_keypoints: bool = True
    """Put neck and hips where COCO-trained detectors report them, not at SMPL's joints. [False]"""

    def __post_init__(self) -> None:
        near, far = self.distance
        if not 0.5 <= near <= far:
            raise TrainingError(f"distance must be 0.5 <= near <= far [m], got {self.distance}")
        shares = ("tumble", "mirror", "exchange_halves", "drop", "drop_limbs", "drop_halves")
        for name in (*shares, "hide_face"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} is a share in 0..1, got {getattr(self, name)}")


def as_recorded(synthesis: SynthesisConfig) -> SynthesisConfig:
    """The same cameras and the same detector, for poses as recorded."""
    return replace(
        synthesis,
        tumble=0.0,
        mirror=0.0,
        exchange_halves=0.0,
        joint_noise=0.0,
        large_joint_noise_share=0.0,
    )


def without_augmentation(synthesis: SynthesisConfig) -> SynthesisConfig:
    """The same cameras with exact keypoints, for poses as recorded."""
    return replace(
        as_recorded(synthesis),
        jitter=(0.0, 0.0),
        pixel_jitter=0.0,
        jitter_varies=0.0,
        offsets=0.0,
        confidences=False,
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
    pitch_first=True,
    pixel_jitter=1.0,
    drop=0.2,
    drop_varies=False,
    detector_keypoints=False,
)
"""Camera, noise and keypoints as in the authors' code."""
