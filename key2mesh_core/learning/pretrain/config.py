# SPDX-License-Identifier: Apache-2.0
"""Every setting of `key2mesh pretrain`, with its reason. Imports no torch: `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from key2mesh_core.errors import TrainingError
from key2mesh_core.synthesis.config import PAPER_SYNTHESIS, SynthesisConfig


@dataclass(frozen=True)
class LossWeights:
    """Weights of Eq. 1. All terms are L1, averaged."""

    pose: float = 1.0
    """Rotation matrices."""
    betas: float = 0.1
    """Shape. Random betas can hardly be read from noisy keypoints: the paper's weight of 1 spends
    the network on them. [1.0]"""
    keypoints_2d: float = 0.3
    """Projected keypoints, in units of the input's box."""
    keypoints_3d: float = 3.0
    """Root-relative keypoints [m]. [0.3]"""


@dataclass(frozen=True)
class PretrainConfig:
    """Trains the network on motion capture alone: no image, no detector."""

    motions: tuple[str, ...] = ()
    """Folders of clips in AMASS layout, each as FOLDER or FOLDER=SHARE: the share of training
    samples drawn from it (equal shares when not given)."""
    output: Path = Path("runs/pretrain")
    """Folder of the run: checkpoints, TensorBoard logs, settings. An interrupted run continues
    from it when the same command is given again."""
    held_out: tuple[str, ...] = ()
    """Clips that are not trained on: globs that match the end of a path (test/*.npz), FOLDER/ for
    a folder of its own, or @FILE with one such line each. The best checkpoint is chosen on them."""
    init: Path | None = None
    """A checkpoint whose network to start from instead of random weights, to train it further."""
    body: str = "default"
    """SMPL-format body file, or the open body that comes with the project."""
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    """From motion capture to keypoints."""
    loss: LossWeights = field(default_factory=LossWeights)
    """Eq. 1."""
    epochs: int = 36
    """Number of epochs. [10]"""
    steps_per_epoch: int = 1000
    """Optimiser steps per epoch: frames are sampled, not enumerated."""
    batch_size: int = 256
    """Samples per step."""
    learning_rate: float = 1e-3
    """Adam's step size at the start."""
    schedule: Literal["cosine", "exponential"] = "cosine"
    """cosine: down to zero over the run; exponential: times 0.8 every epoch. [exponential]"""
    dropout: float = 0.0
    """Dropout of the network. Endless varied samples need none: without it a run of 4,000 steps
    ended 6 % better on real detections than with 0.1. [0.2]"""
    average: float = 0.999
    """Exponential moving average of the weights, which is what gets evaluated and exported;
    0 turns it off. [0]"""
    balance: float = 0.5
    """Draw frames by (number of frames with a like pose) ** -balance, within their source: long
    recordings of standing and walking drown the rest. [0]"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the linear layers. bfloat16 doubles the speed on processors that have it."""
    seed: int = 0
    """Everything random follows from it; a resumed run equals an uninterrupted one."""
    device: str = "auto"
    """cpu, cuda, or auto: a GPU if there is one."""
    threads: int = 0
    """CPU threads; 0: all."""
    evaluation_frames: int = 4096
    """Frames drawn from the held-out clips for an evaluation."""

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "evaluation_frames"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise TrainingError(f"batch_size must be at least 2 (BatchNorm), got {self.batch_size}")


#: `key2mesh pretrain robot` and `key2mesh pretrain paper`.
PRETRAIN_RECIPES: dict[str, tuple[str, PretrainConfig]] = {
    "robot": ("what the shipped weights were trained with", PretrainConfig()),
    "paper": (
        "the published recipe",
        PretrainConfig(
            synthesis=PAPER_SYNTHESIS,
            loss=LossWeights(betas=1.0, keypoints_3d=0.3),
            epochs=10,
            schedule="exponential",
            dropout=0.2,
            average=0.0,
            balance=0.0,
        ),
    ),
}
