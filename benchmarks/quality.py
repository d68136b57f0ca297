# SPDX-License-Identifier: Apache-2.0
"""What a body's quality is worth: the error measured for each tenth of the bodies, best first.

    python -m benchmarks.quality --clips path/to/held_out_clips
    python -m benchmarks.quality --fit --clips path/to/training_clips

Motion capture is seen by the synthetic detector at its worst: noise, exchanged limbs, keypoints,
limbs and halves unseen. With AIST++ the same is asked of real detections and their confidences.
`--fit` prints the constants of key2mesh_core/people/quality.py; take other clips for it than for
the table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.evaluation.calibration import (
    error_by_quality,
    fit,
    hard_to_see,
    judge,
    quality_table,
)
from key2mesh_core.evaluation.samples import aistpp_samples, clip_samples
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.aistpp import read_truth
from key2mesh_core.recordings.amass import find_clips, load_clips
from key2mesh_core.synthesis.motions import MotionBank


@dataclass(frozen=True)
class QualityConfig:
    """Measures errors by quality, or fits quality's constants."""

    clips: tuple[Path, ...]
    """Folders of motion capture in AMASS layout."""
    model: str = "default"
    """The bundle."""
    body: str = "default"
    """The body file it was trained with."""
    frames: int = 20480
    """Frames drawn from the clips."""
    fit: bool = False
    """Fit the constants to these clips and print them."""
    aistpp_keypoints: Path | None = None
    """AIST++'s folder keypoints2d; for real detections."""
    aistpp_truth: Path | None = None
    """File of cameras and triangulated joints, .npz (docs/accuracy.md)."""
    aistpp_sequences: tuple[str, ...] = ("ch03", "ch04")
    """Sequences to report."""
    seed: int = 20240
    """Which frames, shapes, cameras and noise are drawn."""
    output: Path = Path(__file__).parent / "out" / "quality.json"
    """Where the numbers go."""


def main(config: QualityConfig) -> dict[str, Any]:
    """Prints the constants or the table, writes the numbers and returns them."""
    estimator = Estimator(load_bundle(config.model))
    detector_keypoints = bool(estimator.bundle.card.get("detector_keypoints", True))
    body = BodyModel(load_body(config.body), detector_keypoints)
    bank = MotionBank([(load_clips(find_clips(folder)), 1.0) for folder in config.clips])
    worst = hard_to_see(detector_keypoints)
    samples = clip_samples(bank, body, worst, config.frames, seed=config.seed, unsure=True)
    judged = judge(estimator, samples)
    if config.fit:
        result: dict[str, Any] = fit(judged)
        print("\n".join(f"{name} = {value}" for name, value in result.items()))
    else:
        columns = {
            "MPJPE": (judged.quality, judged.mpjpe_mm),
            "PA-MPJPE": (judged.quality, judged.pa_mpjpe_mm),
        }
        if config.aistpp_keypoints and config.aistpp_truth:
            truth = read_truth(config.aistpp_truth)
            real = [
                judge(estimator, aistpp_samples(config.aistpp_keypoints, truth, channel), False)
                for channel in config.aistpp_sequences
            ]
            columns["AIST++ PA-MPJPE"] = (
                np.concatenate([each.quality for each in real]),
                np.concatenate([each.pa_mpjpe_mm for each in real]),
            )
        result = {name: error_by_quality(*each) for name, each in columns.items()}
        print(quality_table(columns))
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    import tyro

    main(tyro.cli(QualityConfig))
