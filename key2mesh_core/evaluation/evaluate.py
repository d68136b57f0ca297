# SPDX-License-Identifier: Apache-2.0
"""`key2mesh evaluate`: a model bundle against motion capture and real detections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from key2mesh_core.bundle import load_bundle
from key2mesh_core.errors import EvaluationError
from key2mesh_core.estimator import Estimator
from key2mesh_core.evaluation.aistpp import evaluate_aistpp
from key2mesh_core.evaluation.config import EvaluateConfig
from key2mesh_core.evaluation.report import Report

# What needs torch or Pillow is imported where it is used: measuring a bundle on real detections
# needs neither.


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
    report = Report(bundle.name, bundle.body_model, clips, aistpp)
    write_report(report, config.output)
    print(report.to_markdown())
    print(f"written to {config.output}")
    return report


def write_report(report: Report, folder: Path) -> None:
    """report.json, report.md and, where Pillow is installed, report.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(report.to_json())
    (folder / "report.md").write_text(report.to_markdown())
    try:
        from key2mesh_core.evaluation.figure import draw_report
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        print("no report.png: it needs Pillow (pip install pillow)")
    else:
        draw_report(report).save(folder / "report.png")


def _clip_rows(config: EvaluateConfig, estimator: Estimator) -> Iterator:
    from key2mesh_core.body.files import load_body
    from key2mesh_core.body.torch_model import BodyModel
    from key2mesh_core.data.amass import find_clips, load_clips, split_clips
    from key2mesh_core.evaluation.clips import conditions, evaluate_clips
    from key2mesh_core.synthesis.motions import MotionBank
    from key2mesh_core.training.sources import held_out_patterns

    detector_keypoints = bool(estimator.bundle.card.get("detector_keypoints", True))
    body = BodyModel(load_body(config.body), detector_keypoints)
    for folder in map(Path, config.clips):
        paths = find_clips(folder)
        if config.held_out:
            paths = split_clips(paths, held_out_patterns(config.held_out))[1]
        if not paths:
            raise EvaluationError(f"no clip of {folder} matches --held-out {config.held_out}")
        bank = MotionBank([(load_clips(paths), 1.0)])
        for condition, synthesis in conditions(detector_keypoints).items():
            yield evaluate_clips(
                estimator,
                body,
                bank,
                synthesis,
                config.frames,
                name="/".join(folder.parts[-2:]),
                condition=condition,
                seed=config.seed,
            )
