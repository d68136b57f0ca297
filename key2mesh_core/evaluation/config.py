# SPDX-License-Identifier: Apache-2.0
"""Settings of `key2mesh evaluate`. Imports no torch: `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from key2mesh_core.errors import EvaluationError


@dataclass(frozen=True)
class EvaluateConfig:
    """Measures a model bundle in millimetres, running it as a robot does: on held-out motion
    capture (--clips) and on real detections (--aistpp-keypoints with --aistpp-truth)."""

    model: str = "default"
    """Folder of a model bundle, or "default" for the shipped one."""
    clips: tuple[str, ...] = ()
    """Folders of motion capture in AMASS layout; each gets its own rows in the report."""
    held_out: tuple[str, ...] = ()
    """Measure only clips that match: globs as in `key2mesh pretrain --held-out`, or @FILE with one
    per line. By default, everything in the folders."""
    body: str = "default"
    """The body file that the model was trained with."""
    frames: int = 4096
    """Number of frames drawn from each folder of clips, with random shapes and cameras."""
    aistpp_keypoints: Path | None = None
    """AIST++'s folder keypoints2d with one dancer's official pickles."""
    aistpp_truth: Path | None = None
    """File of cameras and triangulated joints, .npz (docs/measurements/accuracy.md)."""
    aistpp_sequences: tuple[str, ...] = ("ch03", "ch04")
    """Sequences to report."""
    output: Path = Path("runs/evaluation")
    """Folder for report.json, report.md and report.png."""
    threads: int = 2
    """CPU threads of the engine."""
    seed: int = 20240
    """Seed for frames, shapes, cameras and noise."""

    def __post_init__(self) -> None:
        if (self.aistpp_keypoints is None) != (self.aistpp_truth is None):
            raise EvaluationError(
                "--aistpp-keypoints and --aistpp-truth belong together; got only "
                f"{self.aistpp_keypoints or self.aistpp_truth}"
            )
        if not self.clips and self.aistpp_keypoints is None:
            raise EvaluationError(
                "nothing to measure: give --clips FOLDER..., or --aistpp-keypoints FOLDER with "
                "--aistpp-truth FILE"
            )
        if self.frames < 1:
            raise EvaluationError(f"--frames must be at least 1, got {self.frames}")
