# SPDX-License-Identifier: Apache-2.0
"""A dancer in a made-up studio, written as AIST++ files: detections and truth that agree."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.evaluation.aistpp import (
    COCO_LIMB_JOINTS,
    SMPL_LIMB_JOINTS,
    SequenceErrors,
    evaluate_aistpp,
)

CAMERAS, FRAMES = 4, 30
RADIAL = np.array([-0.15, 0.0, 0.12, -0.04])


class Studio:
    """A dancer of 17 random joints in a ring of cameras, written as AIST++ files."""

    def __init__(self, folder: Path) -> None:
        generator = np.random.default_rng(5)
        wander = 0.02 * generator.normal(size=(FRAMES, 17, 3)).cumsum(axis=0)
        self.joints = 0.4 * generator.normal(size=(1, 17, 3)) + wander
        self.valid = np.ones((FRAMES, 17), dtype=bool)
        self.matrix = np.array([[1400.0, 0, 960], [0, 1400.0, 540], [0, 0, 1]])
        angles = np.arange(CAMERAS) * 2 * np.pi / CAMERAS
        self.rotations = np.array(
            [[[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]] for a in angles]
        )
        self.translations = np.tile([0.0, 0.1, 5.0], (CAMERAS, 1))
        self.folder, self.truth_file = folder / "keypoints2d", folder / "truth.npz"
        self.folder.mkdir()
        self.keypoints = np.ones((CAMERAS, FRAMES, 17, 3), dtype=np.float32)
        for camera in range(CAMERAS):
            plane = self.in_camera(camera)[..., :2] / self.in_camera(camera)[..., 2:]
            plane = plane * (1 + RADIAL[camera] * (plane**2).sum(-1, keepdims=True))
            self.keypoints[camera, ..., :2] = plane * 1400.0 + [960, 540]

    def in_camera(self, camera: int) -> np.ndarray:
        return self.joints @ self.rotations[camera].T + self.translations[camera]

    def write(self) -> None:
        np.savez(
            self.truth_file,
            K=np.tile(self.matrix, (CAMERAS, 1, 1)),
            k1=RADIAL,
            R=self.rotations,
            t=self.translations,
            ch03=self.joints.astype(np.float32),
            valid_ch03=self.valid,
        )
        content = {"keypoints2d": self.keypoints, "timestamps": np.arange(FRAMES)}
        with open(self.folder / "gBR_sBM_cAll_d04_mBR0_ch03.pkl", "wb") as file:
            pickle.dump(content, file)

    def measure(self, predict) -> SequenceErrors:
        self.write()
        return evaluate_aistpp(predict, self.folder, self.truth_file, ["ch03"])["ch03"]


class Oracle:
    """Predicts the truth in each camera's frame: the cameras are asked in turn."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.calls = studio, 0
        self.seen: list[np.ndarray] = []

    def __call__(self, keypoints: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        assert intrinsics == Intrinsics(1400.0, 1400.0, 960.0, 540.0)
        true = self.studio.in_camera(self.calls)
        joints = np.full((len(true), 24, 3), 7.0)  # the other joints must not count
        joints[:, SMPL_LIMB_JOINTS] = true[:, COCO_LIMB_JOINTS]
        self.calls += 1
        self.seen.append(keypoints)
        return joints
