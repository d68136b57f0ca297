# SPDX-License-Identifier: Apache-2.0
"""`key2mesh evaluate`: measures a model bundle on motion capture and real detections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.aistpp import evaluate_aistpp
from key2mesh_core.evaluation.config import EvaluateConfig
from key2mesh_core.evaluation.report import Report
from key2mesh_core.io import atomic_write, write_text
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator

if TYPE_CHECKING:
    from key2mesh_core.evaluation.clips import ClipErrors

# torch and matplotlib are imported where they are used: measuring on real detections needs neither.


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
    """Write report.json, report.md and, if matplotlib is installed, report.png."""
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


def _clip_rows(config: EvaluateConfig, estimator: Estimator) -> Iterator[ClipErrors]:
    """A row for each folder of clips and each view."""
    from key2mesh_core.body.files import load_body
    from key2mesh_core.body.torch_model import BodyModel
    from key2mesh_core.evaluation.clips import conditions, evaluate_clips
    from key2mesh_core.recordings import amass
    from key2mesh_core.synthesis.motions import MotionBank

    detector_keypoints = bool(estimator.bundle.card.get("detector_keypoints", True))
    body = BodyModel(load_body(config.body), detector_keypoints)
    for folder in map(Path, config.clips):
        paths = amass.find_clips(folder)
        if config.held_out:
            paths = amass.split_clips(paths, amass.held_out_patterns(config.held_out))[1]
        if not paths:
            raise EvaluationError(f"no clip in {folder} matches --held-out {config.held_out}")
        bank = MotionBank([(amass.load_clips(paths), 1.0)])
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
