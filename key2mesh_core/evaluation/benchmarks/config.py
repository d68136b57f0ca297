# SPDX-License-Identifier: Apache-2.0
"""Settings of `key2mesh evaluate 3dpw`, `h36m` and `emdb`. Imports no torch, so `--help` is
instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from key2mesh_core.evaluation.benchmarks.protocols import Centre


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Settings that all benchmarks share."""

    root: Path
    """The data set's folder; of Human3.6M, the file with the truth."""
    body_folder: Path
    """Folder with your SMPL files: SMPL_NEUTRAL.pkl, SMPL_MALE.pkl, SMPL_FEMALE.pkl (or .npz), or
    named as in the releases."""
    model: str = "default"
    """Folder of a model bundle, or "default" for the shipped one. Predictions of a model that was
    trained with a body other than your neutral SMPL are converted to it; the report states the
    residual."""
    body: str = "default"
    """The body file that the model was trained with, if it is not your neutral SMPL."""
    sequences: tuple[str, ...] = ()
    """Only these sequences; by default, all."""
    output: Path = Path("runs/benchmark")
    """Folder for report.json, report.md and one file per sequence. The same command resumes an
    interrupted run from there."""
    threads: int = 2
    """CPU threads of the engine."""


@dataclass(frozen=True, kw_only=True)
class ThreeDPWConfig(BenchmarkConfig):
    """Measures a model on 3DPW: PA-MPJPE, MPJPE and PVE in millimetres, with the published rows.
    The defaults are the protocol of the Key2Mesh paper; most others use --truth gendered."""

    regressor: Path
    """Human3.6M's joint regressor, J_regressor_h36m.npy (17, 6890)."""
    split: Literal["train", "validation", "test"] = "test"
    """Split of 3DPW."""
    truth: Literal["neutral", "gendered"] = "neutral"
    """The body of the truth: the neutral SMPL for everyone, as in the paper's code, or that of each
    person's gender, as in most other publications. Their numbers are not comparable."""
    centre: Centre = "hips"
    """The point that MPJPE centres both bodies on: the midpoint of the hips (the paper, VIBE, WHAM)
    or the regressed pelvis (SPIN)."""


@dataclass(frozen=True, kw_only=True)
class Human36mConfig(BenchmarkConfig):
    """Measures a model on Human3.6M, Protocol 2 (S9 and S11, frontal camera): PA-MPJPE and MPJPE in
    millimetres, with the published rows. --root is SPIN's h36m_valid_protocol2.npz or VideoPose3D's
    data_3d_h36m.npz."""

    regressor: Path
    """Human3.6M's joint regressor, J_regressor_h36m.npy (17, 6890)."""
    detections: Path | None = None
    """Folder of OpenPose's --write_json for the images or videos of the frontal camera; not needed
    if the file contains an array `openpose`."""
    centre: Centre = "hips"
    """The point that MPJPE centres both bodies on."""


@dataclass(frozen=True, kw_only=True)
class EmdbConfig(BenchmarkConfig):
    """Measures a model on EMDB 1 as its authors do: SMPL's 24 joints, gendered truth,
    MPJPE centred on the hips."""

    detections: Path | None = None
    """Folder of OpenPose's --write_json, P*/<sequence>/<image>_keypoints.json. By default, the
    exact projections in the data set are the keypoints: a bound, not a result."""
