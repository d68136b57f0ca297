# SPDX-License-Identifier: Apache-2.0
"""Settings of `key2mesh evaluate`. Imports no torch: `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from key2mesh_core.errors import EvaluationError


@dataclass(frozen=True)
class EvaluateConfig:
    """Measures a model bundle, as a robot runs it, in millimetres: on motion capture that was not
    trained on (--clips) and on real detections (--aistpp-keypoints with --aistpp-truth)."""

    model: str = "default"
    """Folder of a model bundle, or the one that comes with the project."""
    clips: tuple[str, ...] = ()
    """Folders of motion capture in AMASS layout; each gets its own rows."""
    held_out: tuple[str, ...] = ()
    """Measure only those clips that match: globs as of `key2mesh pretrain --held-out`, or @FILE
    with one such line each. Everything in the folders when not given."""
    body: str = "default"
    """The body file that the model was trained with; the truth of the clips is made with it."""
    frames: int = 4096
    """Frames drawn from each folder of clips, with random shapes and cameras."""
    aistpp_keypoints: Path | None = None
    """AIST++'s folder keypoints2d with the official pickles of one dancer."""
    aistpp_truth: Path | None = None
    """File of cameras and triangulated joints, .npz (docs/measurements/accuracy.md)."""
    aistpp_sequences: tuple[str, ...] = ("ch03", "ch04")
    """Sequences to report."""
    output: Path = Path("runs/evaluation")
    """Folder for report.json, report.md and report.png."""
    threads: int = 2
    """CPU threads of the engine."""
    seed: int = 20240
    """Which frames, shapes, cameras and noise are drawn."""

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
