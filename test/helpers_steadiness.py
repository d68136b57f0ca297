# SPDX-License-Identifier: Apache-2.0
"""Measures smoothing: jitter, lag and error.

A person moves before a camera; a detector that trembles (from frame to frame, and slowly too) and
errs sees them; the bodies found are compared with the true ones as they come and after smoothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.evaluation.clips import CAMERA
from key2mesh_core.evaluation.heldout import SCORED_JOINTS
from key2mesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies, joined
from key2mesh_core.people.smoothing import Smoother
from key2mesh_core.recordings.amass import BODY_JOINTS, WORLD_TO_UPRIGHT
from key2mesh_core.synthesis.config import SynthesisConfig, without_augmentation
from key2mesh_core.synthesis.detector import detect

FloatArray = NDArray[np.floating]

RATE_HZ = 30.0
_LONGEST_LAG = 4
"""Frames by which the smoothed may trail, or lead by half of it, and still be measured."""


@dataclass(frozen=True)
class Trembling:
    """A detector's noise over time, as shares of the person's box.

    Attributes:
        white: standard deviation of what is new in every frame.
        slow: of what stays for `memory_s`.
        memory_s: time constant of the slow part [s].
        outliers, swaps, drop: as in `SynthesisConfig`.
    """

    white: float = 0.01
    slow: float = 0.007
    memory_s: float = 0.3
    outliers: float = 0.002
    swaps: float = 0.002
    drop: float = 0.02


@dataclass(frozen=True, eq=False)
class Motion:
    """A person before the camera, 30 frames a second: `rotations (F, 24, 3, 3)`, root in the
    camera's frame; `translation (F, 3)` of the pelvis [m]; `betas (10,)`."""

    rotations: FloatArray
    translation: FloatArray
    betas: FloatArray


def made_up_motion(seconds: float = 6.0, seed: int = 0, distance: float = 3.5) -> Motion:
    """Somebody who walks to and fro, turns, and swings every joint; needs no data."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ))[:, None, None] / RATE_HZ
    cycles = rng.uniform(0.2, 0.9, (1, BODY_JOINTS, 3))
    phases = rng.uniform(0, 2 * math.pi, cycles.shape)
    size = np.full((BODY_JOINTS, 1), 0.12)
    size[[1, 2, 4, 5, 16, 17, 18, 19]] = 0.4
    poses = size * np.sin(2 * math.pi * cycles * times + phases)
    poses[:, 0] = [math.pi / 2, 0, 0]
    turning = np.zeros((len(times), 3))
    turning[:, 1] = 0.8 * np.sin(2 * math.pi * 0.15 * times[:, 0, 0] + phases[0, 0, 0])
    view = axis_angle_to_matrix(turning.astype(np.float32)) @ WORLD_TO_UPRIGHT
    sway = np.sin(2 * math.pi * np.array([0.2, 0.5, 0.13]) * times[:, 0] + phases[0, 1])
    place = np.array([0.7, 0.03, 0.5]) * sway + [0, 0, distance + 0.5]
    betas = rng.normal(size=10).astype(np.float32)
    rotations = _with_hands(poses.astype(np.float32), view)
    return Motion(rotations, place.astype(np.float32), betas)


def _with_hands(poses: FloatArray, view: FloatArray) -> FloatArray:
    rotations = axis_angle_to_matrix(poses)
    hands = np.broadcast_to(np.eye(3, dtype=np.float32), (len(poses), 2, 3, 3))
    root = (view @ rotations[:, 0])[:, None]
    return np.concatenate([root, rotations[:, 1:], hands], axis=1)


def watch(
    motion: Motion, body: BodyModel, trembling: Trembling, seed: int = 0
) -> tuple[NDArray[np.float32], FloatArray]:
    """Keypoints (F, K, 3) px, px, confidence in `CAMERA`, and the true joints (F, 24, 3) [m]."""
    count = len(motion.rotations)
    betas = torch.as_tensor(motion.betas).expand(count, -1)
    joints, keypoints = body.keypoints(betas, torch.as_tensor(motion.rotations))
    placed = keypoints + torch.as_tensor(motion.translation)[:, None]
    points = placed[..., :2] / placed[..., 2:]
    side = (points.amax(1) - points.amin(1)).amax(1)[:, None, None].numpy()
    slow = _remembering(count, trembling.memory_s, np.random.default_rng(seed))
    points = points + torch.as_tensor(trembling.slow * side * slow, dtype=torch.float32)
    detector = replace(
        without_augmentation(SynthesisConfig()),
        jitter=(trembling.white, trembling.white),
        outliers=trembling.outliers,
        swaps=trembling.swaps,
        drop=trembling.drop,
    )
    points, confidence = detect(points, placed, detector, torch.Generator().manual_seed(seed))
    pixels = points.numpy() * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]
    confidence = 0.9 * confidence.numpy()[..., None]
    shown = np.concatenate([np.where(confidence > 0, pixels, 0.0), confidence], axis=2)
    return shown.astype(np.float32), joints.numpy() + motion.translation[:, None]


def _remembering(count: int, memory_s: float, rng: np.random.Generator) -> FloatArray:
    """(count, K, 2) noise of standard deviation 1 that fades over `memory_s`."""
    kept = math.exp(-1 / (memory_s * RATE_HZ))
    noise = rng.normal(size=(count, len(KEYPOINTS), 2))
    for frame in range(1, count):
        noise[frame] = kept * noise[frame - 1] + math.sqrt(1 - kept * kept) * noise[frame]
    return noise


def smoothed(estimator: Estimator, bodies: Bodies, stamps_ns: NDArray[np.int64]) -> Bodies:
    """One person's bodies, one a frame, as the node's smoother gives them."""
    smoother = Smoother(estimator.bundle.parents)
    frames = [
        smoother.smooth(("person",), bodies.select([frame]), int(stamp))
        for frame, stamp in enumerate(stamps_ns)
    ]
    return joined(frames)


def jitter(points: FloatArray, rate_hz: float = RATE_HZ) -> float:
    """Mean length of the acceleration of points (F, ..., 3) [m/s^2], by second differences."""
    return float(np.linalg.norm(np.diff(points, 2, axis=0), axis=-1).mean() * rate_hz**2)


def lag_ms(points: FloatArray, truth: FloatArray, rate_hz: float = RATE_HZ) -> float:
    """By how much points (F, ...) trail the truth: the shift of the truth with the least square
    error, to a tenth of a frame; negative where they lead."""
    edge = _LONGEST_LAG
    frames = np.arange(edge, len(points) - edge)
    shifts = np.arange(-edge / 2, edge + 0.01, 0.1)
    errors = []
    for shift in shifts:
        places = frames - shift
        before = np.floor(places).astype(int)
        share = (places - before).reshape(-1, *[1] * (points.ndim - 1))
        moved = truth[before] * (1 - share) + truth[np.minimum(before + 1, len(truth) - 1)] * share
        errors.append(np.square(points[frames] - moved).mean())
    return float(1000 * shifts[int(np.argmin(errors))] / rate_hz)


@dataclass(frozen=True)
class Steadiness:
    """One person's bodies before and after smoothing.

    Attributes:
        name: what was measured; frames: how many.
        jitter_raw, jitter_smooth: of all joints in the camera's frame [m/s^2].
        pose_jitter_raw, pose_jitter_smooth: of the joints about the pelvis.
        lag_ms: how much later the smoothed pose (joints about the pelvis) is than the unsmoothed.
        place_lag_ms: the same of the pelvis on the image plane.
        pa_mpjpe_raw, pa_mpjpe_smooth, mpjpe_raw, mpjpe_smooth: errors [mm] of 14 joints, the last
            two in the camera's frame; NaN without a truth.
    """

    name: str
    frames: int
    jitter_raw: float
    jitter_smooth: float
    pose_jitter_raw: float
    pose_jitter_smooth: float
    lag_ms: float
    place_lag_ms: float
    pa_mpjpe_raw: float = math.nan
    pa_mpjpe_smooth: float = math.nan
    mpjpe_raw: float = math.nan
    mpjpe_smooth: float = math.nan

    @property
    def calmer(self) -> float:
        """How many times less the joints accelerate."""
        return self.jitter_raw / self.jitter_smooth


def steadiness(
    name: str,
    estimator: Estimator,
    keypoints: NDArray[np.float32],
    camera: Intrinsics = CAMERA,
    stamps_ns: NDArray[np.int64] | None = None,
    joints: FloatArray | None = None,
) -> Steadiness:
    """Measures one person's track.

    Args:
        keypoints: (F, K, 3) usable, one a frame.
        stamps_ns: theirs; 30 a second when not given.
        joints: (F, 24, 3) the truth in the camera's frame [m], or None: lag is then relative to
            the unsmoothed bodies, whose noise lets it look smaller than it is.
    """
    count = len(keypoints)
    if stamps_ns is None:
        stamps_ns = 1 + np.round(np.arange(count) * 1e9 / RATE_HZ).astype(np.int64)
    raw = estimator.estimate_poses(keypoints, camera)
    smooth = smoothed(estimator, raw, stamps_ns)
    poses = [each.joints - each.joints[:, :1] for each in (raw, smooth)]
    places = [each.translation[:, :2] / each.translation[:, 2:] for each in (raw, smooth)]
    true_pose, true_place = poses[0], places[0]
    if joints is not None:
        true_pose, true_place = joints - joints[:, :1], joints[:, 0, :2] / joints[:, 0, 2:]
    errors = {}
    if joints is not None:
        scored = list(SCORED_JOINTS)
        for kind, each in (("raw", raw), ("smooth", smooth)):
            found, true = each.joints[:, scored], joints[:, scored]
            errors[f"pa_mpjpe_{kind}"] = float(pa_mpjpe(found, true).mean())
            errors[f"mpjpe_{kind}"] = float(mpjpe(found, true).mean())
    return Steadiness(
        name,
        count,
        jitter(raw.joints),
        jitter(smooth.joints),
        jitter(poses[0]),
        jitter(poses[1]),
        lag_ms(poses[1], true_pose) - lag_ms(poses[0], true_pose),
        lag_ms(places[1], true_place) - lag_ms(places[0], true_place),
        **errors,
    )
