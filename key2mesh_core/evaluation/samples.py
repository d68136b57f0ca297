# SPDX-License-Identifier: Apache-2.0
"""Persons with their keypoints and their truth, wherever they come from: what reports measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.lens import undistort
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.evaluation.aistpp import (
    COCO_LIMB_JOINTS,
    LIMB_JOINT_NAMES,
    MINIMUM_VALID_JOINTS,
    SMPL_LIMB_JOINTS,
)
from key2mesh_core.keypoints.arrays import sanitise, usable_sanitised
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.recordings.aistpp import (
    AistppTruth,
    find_keypoints,
    read_keypoints,
)

if TYPE_CHECKING:
    from key2mesh_core.body.torch_model import BodyModel
    from key2mesh_core.synthesis.batches import Batch
    from key2mesh_core.synthesis.config import SynthesisConfig
    from key2mesh_core.synthesis.motions import MotionBank

Predict = Callable[[NDArray[np.float32], Intrinsics], NDArray[np.floating]]
"""keypoints (N, K,3) px, sanitised and usable, and their camera -> SMPL joints (N,24,3) m."""

BATCH = 512


@dataclass(frozen=True, eq=False)
class Samples:
    """N persons seen by one camera.

    Attributes:
        keypoints: (N, K, 3) px, px, confidence; sanitised and usable.
        camera: theirs.
        joints: (N, J, 3) true joints [m].
        joint_numbers: J numbers of the SMPL joints to compare with these.
        keypoint_names: J names of the network's keypoints that show them.
        valid: (N, J) which of the joints are known.
    """

    keypoints: NDArray[np.float32]
    camera: Intrinsics
    joints: NDArray[np.floating]
    joint_numbers: tuple[int, ...]
    keypoint_names: tuple[str, ...]
    valid: NDArray[np.bool_]

    @property
    def keypoint_numbers(self) -> list[int]:
        """J numbers of `keypoint_names`."""
        return [NETWORK_KEYPOINTS.index(name) for name in self.keypoint_names]


#: Which keypoints show the joints of `heldout.SCORED_JOINTS`.
_SCORED_KEYPOINTS = (
    *("left_ankle", "right_ankle", "left_knee", "right_knee", "left_hip", "right_hip"),
    *("left_wrist", "right_wrist", "left_elbow", "right_elbow"),
    *("left_shoulder", "right_shoulder", "neck", "nose"),
)


def clip_samples(
    bank: MotionBank,
    body: BodyModel,
    synthesis: SynthesisConfig,
    frames: int,
    *,
    seed: int = 20240,
    unsure: bool = False,
) -> Iterator[Samples]:
    """Random frames of motion capture, seen as `synthesis` says; the same ones for a seed.

    Args:
        unsure: draw confidences that fall with how far a keypoint was displaced, as those of
            detectors do, instead of ones.
    """
    import torch

    from key2mesh_core.evaluation.clips import CAMERA, pixels
    from key2mesh_core.evaluation.heldout import SCORED_JOINTS
    from key2mesh_core.synthesis.batches import synthesise

    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    for start in range(0, frames, BATCH):
        batch = synthesise(bank, body, synthesis, min(BATCH, frames - start), generator)
        keypoints = pixels(batch)
        if unsure:
            keypoints[..., 2] *= likely_confidence(displacement(batch), rng)
            keypoints = sanitise(keypoints)
        good = usable_sanitised(keypoints)
        joints = batch.joints.numpy()[good][:, list(SCORED_JOINTS)]
        valid = np.ones(joints.shape[:2], dtype=bool)
        yield Samples(keypoints[good], CAMERA, joints, SCORED_JOINTS, _SCORED_KEYPOINTS, valid)


def displacement(batch: Batch) -> NDArray[np.float32]:
    """(N, K) how far each keypoint of a batch lies from the truth, in sides of the box."""
    placed = (batch.keypoints_3d + batch.translation[:, None]).numpy()
    shown = (batch.keypoints - 0.5) * batch.side[:, None] + batch.centre[:, None]
    apart = shown.numpy() - placed[..., :2] / placed[..., 2:]
    return np.linalg.norm(apart, axis=-1) / batch.side.numpy()


def likely_confidence(
    displaced: NDArray[np.floating], rng: np.random.Generator
) -> NDArray[np.float32]:
    """(N, K) confidences of a detector that half knows how wrong it is.

    A bell of the displacement (0.6 where it is 5 % of the person), times what detectors scatter
    by. Invented, after the shape of COCO's keypoint similarity: real detections are measured too.
    """
    bell = np.exp(-0.5 * (displaced / 0.05) ** 2)
    scattered = bell * rng.uniform(0.75, 1.0, displaced.shape) + rng.uniform(0, 0.2, bell.shape)
    return np.clip(scattered, 0.11, 1.0).astype(np.float32)


def aistpp_samples(
    keypoints_folder: str | Path, truth: AistppTruth, channel: str, frame_step: int = 1
) -> Iterator[Samples]:
    """One sequence of AIST++, camera by camera, the lens taken out (rules: `evaluation.aistpp`)."""
    detections = read_keypoints(find_keypoints(keypoints_folder, channel))[:, ::frame_step]
    joints = truth.joints[channel][::frame_step, COCO_LIMB_JOINTS]
    valid = truth.valid[channel][::frame_step, COCO_LIMB_JOINTS]
    for number, camera in enumerate(truth.intrinsics):
        straight = undistort(detections[number], camera, truth.lenses[number])
        keypoints = sanitise(to_network("coco_17", straight))
        good = usable_sanitised(keypoints) & (valid.sum(axis=1) >= MINIMUM_VALID_JOINTS)
        if good.any():
            yield Samples(
                keypoints[good],
                camera,
                joints[good],
                SMPL_LIMB_JOINTS,
                LIMB_JOINT_NAMES,
                valid[good],
            )
