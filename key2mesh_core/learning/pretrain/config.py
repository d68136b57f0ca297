# SPDX-License-Identifier: Apache-2.0
"""Every setting of `key2mesh pretrain`, with its reason. Imports no torch, so `--help` is
instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from key2mesh_core.errors import TrainingError
from key2mesh_core.synthesis.config import PAPER_SYNTHESIS, SynthesisConfig


@dataclass(frozen=True)
class LossWeights:
    """Weights of the supervised loss. All terms are mean L1 distances."""

    pose: float = 1.0
    """Rotation matrices."""
    betas: float = 0.1
    """Shape. Noisy keypoints hardly reveal random betas, so the paper's weight of 1 wastes capacity
    on them. [1.0]"""
    keypoints_2d: float = 0.3
    """Projected keypoints, in units of the input's box."""
    keypoints_3d: float = 3.0
    """Root-relative keypoints [m]. [0.3]"""
    joints: float = 0.0
    """Root-relative joints [m]: those that no keypoint shows, too."""


@dataclass(frozen=True)
class PretrainConfig:
    """Trains the network on motion capture alone, without images or a detector."""

    motions: tuple[str, ...] = ()
    """Folders of clips in AMASS layout, each as FOLDER or FOLDER=SHARE, its share of the training
    samples (by default equal)."""
    output: Path = Path("runs/pretrain")
    """Folder of the run: checkpoints, TensorBoard logs, settings. The same command resumes an
    interrupted run from there."""
    held_out: tuple[str, ...] = ()
    """Held-out clips: globs that match the end of a path (test/*.npz), FOLDER/ for a whole folder,
    @FILE with one of these per line, amass:vald or amass:test for an official split of AMASS. They
    select the best checkpoint."""
    init: str = ""
    """A model whose network to train further, instead of random weights: "default" for the shipped
    one, a bundle's folder, or a checkpoint of `key2mesh pretrain`. Its BatchNorm is folded into its
    linear layers."""
    taught: tuple[str, ...] = ()
    """Detections of the same people by several cameras (aistpp:PATH, bag:PATH, npz:FILE...), which
    need no labels: the poses that the cameras agree on, starting from the guesses of --init, are
    the labels of a share of the samples."""
    taught_share: float = 0.125
    """Share of the samples of each step that --taught gives."""
    body: str = "default"
    """SMPL-format body file, or "default" for the shipped open body."""
    network: Literal["key2mesh-refined", "key2mesh"] = "key2mesh-refined"
    """key2mesh: the published network. key2mesh-refined: it also sees confidences, states its own
    uncertainty, and its bodies are fitted to the keypoints. [key2mesh]"""
    features: int = 1024
    """Width of the network's hidden layers."""
    fitted: int = 96
    """Samples per step and process whose fits are trained too; a fit costs much more than a
    prediction."""
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    """Synthesis of keypoints from motion capture."""
    loss: LossWeights = field(default_factory=lambda: LossWeights(joints=6.0))
    """Weights of the supervised loss."""
    epochs: int = 36
    """Number of epochs. [10]"""
    steps_per_epoch: int = 1000
    """Optimiser steps per epoch; frames are sampled at random. 0: one pass over all frames in
    random order, whatever their source's share. [0]"""
    batch_size: int = 256
    """Samples per step and process."""
    learning_rate: float = 1e-3
    """Adam's initial learning rate."""
    schedule: Literal["cosine", "exponential"] = "cosine"
    """Learning rate schedule. cosine: down to zero over the run; exponential: times 0.8 every
    epoch. [exponential]"""
    max_norm: float = 1.0
    """Longer gradients are shortened to this norm, because single fits have gradients 30 times as
    long as others; 0: none are. [0]"""
    dropout: float = 0.0
    """Dropout of the network. Unlimited varied samples need none: without it, a run of 4,000 steps
    was 6 % better on real detections than with 0.1. [0.2]"""
    average: float = 0.999
    """Decay of the moving average of the weights, which is evaluated and exported; 0 turns it off.
    [0]"""
    balance: float = 0.5
    """Sample frames in proportion to (number of frames with a similar pose) ** -balance, within
    their source, because long recordings of standing and walking outnumber the rest. [0]"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the linear layers. bfloat16 doubles the speed on processors that support it."""
    seed: int = 0
    """Seed of all random numbers; a resumed run equals an uninterrupted one."""
    device: str = "auto"
    """cpu, cuda, or auto: a GPU if there is one. Several: torchrun --nproc-per-node N."""
    threads: int = 0
    """CPU threads; 0: all."""
    evaluation_frames: int = 4096
    """Number of frames drawn from the held-out clips for an evaluation."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("steps_per_epoch", 0), ("evaluation_frames", 1)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise TrainingError(f"batch_size must be at least 2 (BatchNorm), got {self.batch_size}")
        if self.max_norm < 0:
            raise TrainingError(f"max_norm must be at least 0, got {self.max_norm}")
        if self.taught and not self.init:
            raise TrainingError(
                "--taught needs --init: the poses that cameras agree on are found from a model's "
                "guesses; give --init default, or another model"
            )
        if self.taught and not 0 < self.taught_rows(self.batch_size) < self.batch_size:
            raise TrainingError(
                f"taught_share {self.taught_share} of {self.batch_size} samples must be at least "
                "one of them, and not all"
            )

    def taught_rows(self, count: int) -> int:
        """How many of `count` samples are detections of `taught`."""
        return round(self.taught_share * count) if self.taught else 0


#: `key2mesh pretrain robot` and `key2mesh pretrain paper`.
PRETRAIN_RECIPES: dict[str, tuple[str, PretrainConfig]] = {
    "robot": ("the recipe of the shipped weights", PretrainConfig()),
    "paper": (
        "the published recipe",
        PretrainConfig(
            network="key2mesh",
            synthesis=PAPER_SYNTHESIS,
            loss=LossWeights(betas=1.0, keypoints_3d=0.3),
            epochs=10,
            steps_per_epoch=0,
            schedule="exponential",
            max_norm=0.0,
            dropout=0.2,
            average=0.0,
            balance=0.0,
        ),
    ),
}
