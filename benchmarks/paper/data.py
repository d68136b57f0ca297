# SPDX-License-Identifier: Apache-2.0
"""Measures a model on a data set, and shows its images: the same for licensed and open data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.adaptation.cells import aistpp_errors
from benchmarks.adaptation.config import REPORTED_ON
from benchmarks.paper.config import PaperConfig
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.evaluation.aistpp import SequenceErrors
from key2mesh_core.evaluation.benchmarks.config import Human36mConfig, ThreeDPWConfig
from key2mesh_core.evaluation.benchmarks.report import METRICS, BenchmarkReport
from key2mesh_core.evaluation.benchmarks.run import evaluate_3dpw, evaluate_h36m
from key2mesh_core.recordings import aistpp, human36m, threedpw


@dataclass(frozen=True, eq=False)
class Case:
    """One measured image of one person: `keypoints (K, 3)` sanitised, of a pinhole camera with
    `intrinsics`, PA-MPJPE `error_mm`, and the `image`'s file if it is known and exists."""

    name: str
    number: int
    keypoints: NDArray[np.float32]
    intrinsics: Intrinsics
    error_mm: float
    image: Path | None = None


def measure(config: PaperConfig, model: Path | str, folder: Path) -> dict[str, float]:
    """Mean errors [mm] of a bundle; reports go to `folder`, from where the run resumes."""
    if config.data == "aistpp":
        errors = _aistpp_errors(config, model)
        return {METRICS[0]: float(np.mean([each.mean_mm for each in errors.values()]))}
    report = _report(config, model, folder)
    return {metric: report.mean(metric) for metric in METRICS}


def cases(config: PaperConfig, model: Path | str, folder: Path) -> Iterator[Case]:
    """Every measured image."""
    if config.data == "aistpp":
        yield from _aistpp_cases(config, _aistpp_errors(config, model))
        return
    report = _report(config, model, folder)
    if config.data == "3dpw":
        sequences = threedpw.sequences(config.root, config.split)
    else:
        sequences = human36m.sequences(config.root, config.detections)
    for scores in report.sequences:
        people = {person.name: person for person in sequences[scores.name]()}
        for who, images, errors in zip(
            scores.people, scores.images, scores.pa_mpjpe_mm, strict=True
        ):
            person = people[who].undistorted()
            row = {int(image): number for number, image in enumerate(person.images)}
            for image, error in zip(images, errors, strict=True):
                file = config.root / "imageFiles" / scores.name / f"image_{image:05}.jpg"
                found = file if config.data == "3dpw" and file.exists() else None
                name = f"{scores.name} {who}".rstrip()
                keypoints = person.keypoints[row[image]]
                intrinsics = person.camera.intrinsics
                yield Case(name, image, keypoints, intrinsics, float(error), found)


def _report(config: PaperConfig, model: Path | str, folder: Path) -> BenchmarkReport:
    common = {
        "root": config.root,
        "body_folder": config.body_folder,
        "regressor": config.regressor,
        "model": str(model),
        "body": config.body,
        "output": folder,
        "threads": config.threads or 2,
    }
    if config.data == "3dpw":
        return evaluate_3dpw(ThreeDPWConfig(split=config.split, **common))
    return evaluate_h36m(Human36mConfig(detections=config.detections, **common))


def _aistpp_errors(config: PaperConfig, model: Path | str) -> dict[str, SequenceErrors]:
    return aistpp_errors(model, config.root, config.aistpp_truth, REPORTED_ON, config.threads or 2)


def _aistpp_cases(config: PaperConfig, errors: dict[str, SequenceErrors]) -> Iterator[Case]:
    truth = aistpp.read_truth(config.aistpp_truth)
    for channel, found in errors.items():
        detections = aistpp.read_keypoints(aistpp.find_keypoints(config.root, channel))
        for number, intrinsics in enumerate(truth.intrinsics):
            keypoints = truth.undistorted(detections[number], number)
            for frame in np.flatnonzero(np.isfinite(found.frames_mm[number])):
                error = float(found.frames_mm[number, frame])
                name = f"{channel} camera {number + 1}"
                yield Case(name, int(frame), keypoints[frame], intrinsics, error)
