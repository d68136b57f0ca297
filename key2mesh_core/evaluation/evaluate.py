# SPDX-License-Identifier: Apache-2.0
"""`key2mesh evaluate`: a model bundle against motion capture and real detections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.aistpp import evaluate_aistpp
from key2mesh_core.evaluation.config import EvaluateConfig
from key2mesh_core.evaluation.report import Report
from key2mesh_core.evaluation.samples import aistpp_samples, clip_samples
from key2mesh_core.evaluation.visibility import VisibilityErrors, evaluate_views
from key2mesh_core.io import atomic_write, write_text
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.aistpp import read_truth

if TYPE_CHECKING:
    from key2mesh_core.body.torch_model import BodyModel
    from key2mesh_core.evaluation.clips import ClipErrors
    from key2mesh_core.synthesis.motions import MotionBank

# torch and matplotlib are imported where they are used: measuring a bundle on real detections needs
# neither.


def evaluate(config: EvaluateConfig) -> Report:
    """Measures, prints the tables and writes report.json, report.md and report.png."""
    bundle = load_bundle(config.model)
    estimator = Estimator(bundle, threads=config.threads)
    clips = tuple(_clip_rows(config, estimator)) if config.clips else ()
    aistpp = {}
    if config.aistpp_keypoints is not None and config.aistpp_truth is not None:
        aistpp = evaluate_aistpp(
            lambda keypoints, camera: estimator.estimate(keypoints, camera, vertices=False).joints,
            config.aistpp_keypoints,
            config.aistpp_truth,
            config.aistpp_sequences,
        )
    views = tuple(_view_rows(config, estimator)) if config.by_visibility else ()
    report = Report(bundle.name, bundle.body_model, clips, aistpp, views)
    write_report(report, config.output)
    print(report.to_markdown())
    print(f"written to {config.output}")
    return report


def write_report(report: Report, folder: Path) -> None:
    """report.json, report.md and, where matplotlib is installed, report.png."""
    write_text(folder / "report.json", report.to_json())
    write_text(folder / "report.md", report.to_markdown())
    try:
        from key2mesh_core.evaluation.figure import draw_report
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        print("no report.png: it needs matplotlib (pip install matplotlib)")
    else:
        with atomic_write(folder / "report.png") as unfinished:
            draw_report(report).savefig(unfinished, dpi=120)


def _view_rows(config: EvaluateConfig, estimator: Estimator) -> Iterator[VisibilityErrors]:
    def predict(keypoints: NDArray[np.float32], camera: Intrinsics) -> NDArray[np.floating]:
        return estimator.estimate(keypoints, camera, vertices=False).joints

    if config.clips:
        from key2mesh_core.synthesis.config import SynthesisConfig, without_augmentation

        body, banks = _clips(config, estimator)
        seen = SynthesisConfig(detector_keypoints=_detector_keypoints(estimator))
        for name, bank in banks:
            samples = clip_samples(
                bank, body, without_augmentation(seen), config.frames, seed=config.seed
            )
            yield from evaluate_views(name, predict, samples)
    if config.aistpp_keypoints is not None and config.aistpp_truth is not None:
        truth = read_truth(config.aistpp_truth)
        for channel in config.aistpp_sequences:
            samples = aistpp_samples(config.aistpp_keypoints, truth, channel)
            yield from evaluate_views(channel, predict, samples)


def _clip_rows(config: EvaluateConfig, estimator: Estimator) -> Iterator[ClipErrors]:
    from key2mesh_core.evaluation.clips import conditions, evaluate_clips

    body, banks = _clips(config, estimator)
    for name, bank in banks:
        for condition, synthesis in conditions(_detector_keypoints(estimator)).items():
            yield evaluate_clips(
                estimator,
                body,
                bank,
                synthesis,
                config.frames,
                name=name,
                condition=condition,
                seed=config.seed,
            )


def _detector_keypoints(estimator: Estimator) -> bool:
    return bool(estimator.bundle.card.get("detector_keypoints", True))


def _clips(
    config: EvaluateConfig, estimator: Estimator
) -> tuple[BodyModel, Iterator[tuple[str, MotionBank]]]:
    """The body that the clips are posed with, and each folder's frames by its name."""
    from key2mesh_core.body.files import load_body
    from key2mesh_core.body.torch_model import BodyModel
    from key2mesh_core.learning.pretrain.sources import held_out_patterns
    from key2mesh_core.recordings.amass import find_clips, load_clips, split_clips
    from key2mesh_core.synthesis.motions import MotionBank

    def banks() -> Iterator[tuple[str, MotionBank]]:
        for folder in map(Path, config.clips):
            paths = find_clips(folder)
            if config.held_out:
                paths = split_clips(paths, held_out_patterns(config.held_out))[1]
            if not paths:
                raise EvaluationError(f"no clip of {folder} matches --held-out {config.held_out}")
            yield "/".join(folder.parts[-2:]), MotionBank([(load_clips(paths), 1.0)])

    return BodyModel(load_body(config.body), _detector_keypoints(estimator)), banks()
