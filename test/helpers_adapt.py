# SPDX-License-Identifier: Apache-2.0
"""A small model, and made-up detections of people to adapt it to."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from helpers_training import small_body
from torch import nn

from key2mesh_core.body.files import save_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.learning.runs import save_checkpoint
from key2mesh_core.network.key2mesh import Key2Mesh
from key2mesh_core.recordings.targets import TargetKeypoints

#: OpenPose's order -> COCO-17's, for writing AIST++ files.
_COCO_OF_NETWORK = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)

#: Narrower than the real network: the same code in a fraction of the time.
FEATURES = 128


def save_model(
    folder: Path, features: int = FEATURES, correctives: bool = False
) -> tuple[Path, Path]:
    """A checkpoint of an untrained network with lively BatchNorms, and its body's file."""
    torch.manual_seed(0)
    network = Key2Mesh(features=features)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0.1, 0.4)
    with torch.no_grad():  # rotations that are far from degenerate, as trained ones are
        network.head.output.bias[10:] = torch.eye(3)[:, :2].flatten().repeat(24)
    body = small_body(correctives=correctives)
    save_body(folder / "body.npz", body)
    state = {"network": network.state_dict(), "architecture": network.architecture()}
    state |= {"step": 7, "body": body.identifier}
    save_checkpoint(folder / "start.pt", state | {"centre_view": True, "detector_keypoints": True})
    return folder / "start.pt", folder / "body.npz"


def moving_person(frames: int, seed: int = 0) -> np.ndarray:
    """(F, 18, 3) px, px, confidence of somebody who moves smoothly in a 1920 x 1080 image."""
    rng = np.random.default_rng(seed)
    ends = 0.4 * rng.normal(size=(2, 24, 3))
    ends[:, 0] = [0, 0.5 * seed, 0]
    poses = np.linspace(ends[0], ends[1], frames).astype(np.float32)
    rotations = torch.as_tensor(axis_angle_to_matrix(poses)).float()
    rotations = torch.diag(torch.tensor([1.0, -1, -1])) @ rotations[:, :1] * 1.0, rotations[:, 1:]
    body = BodyModel(small_body())
    _, points = body.keypoints(torch.zeros(frames, 10), torch.cat(rotations, 1))
    placed = points.numpy() + np.float32([0.3, 0.0, 4.0])
    pixels = placed[..., :2] / placed[..., 2:] * 1663 + [960, 540]
    pixels += rng.normal(0, 2, pixels.shape)
    confidence = rng.uniform(0.5, 1, (frames, 18, 1))
    return np.concatenate([pixels, confidence], 2).astype(np.float32)


def targets(people: int = 2, frames: int = 60) -> TargetKeypoints:
    """Several such people, one sequence each."""
    focal = 960 / np.tan(np.radians(30))
    return TargetKeypoints(
        keypoints=np.concatenate([moving_person(frames, seed) for seed in range(people)]),
        image_size=np.tile(np.float32([1920, 1080]), (people * frames, 1)),
        intrinsics=np.tile(np.float32([focal, focal, 960, 540]), (people * frames, 1)),
        metric=np.zeros(people * frames, bool),
        source="made up",
        frame=np.tile(np.arange(frames, dtype=np.int64), people),
        sequence=np.repeat(np.arange(people, dtype=np.int32), frames),
        camera=np.zeros(people * frames, np.int32),
        person=np.full(people * frames, -1, np.int32),
        left_out={},
    )


def write_aistpp(path: Path, people: int = 2, frames: int = 60) -> Path:
    """The same as a pickle of AIST++, one camera for each person."""
    keypoints = np.stack([moving_person(frames, seed) for seed in range(people)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        pickle.dump({"keypoints2d": keypoints[:, :, _COCO_OF_NETWORK]}, file)
    return path
