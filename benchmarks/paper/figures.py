# SPDX-License-Identifier: Apache-2.0
"""Figures 5 (bodies over their images), 7 (features) and 8 (the worst cases)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.paper.config import PaperConfig
from benchmarks.paper.data import Case, cases
from benchmarks.paper.runs import Row, bundle_of, pretrained, run_row
from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.io import atomic_write
from key2mesh_core.keypoints.arrays import bounding_boxes
from key2mesh_core.learning.detections.target_domain import target_domain
from key2mesh_core.learning.pretrain.sources import load_bank
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.targets import load_targets
from key2mesh_core.synthesis.batches import synthesise
from key2mesh_core.synthesis.config import PAPER_SYNTHESIS, as_recorded
from key2mesh_core.view.render import draw_keypoints, render_mesh

_TILE, _CAPTION = 320, 34
_BACKGROUND = (236, 238, 241)
_APART = 30
"""Of one person, the worst cases are at least this many images apart."""
_SAMPLES = 700


def overlays(config: PaperConfig) -> dict[str, Any]:
    """Figure 5: evenly spread images with their bodies, placed by least squares."""
    everything, model = _measured(config)
    rows = np.linspace(0, len(everything) - 1, min(config.pictures, len(everything))).round()
    return _sheet(config, "figure5", [everything[int(row)] for row in rows], model)


def worst_cases(config: PaperConfig) -> dict[str, Any]:
    """Figure 8: the images with the largest errors, at most one of each moment."""
    everything, model = _measured(config)
    chosen: list[Case] = []
    for case in sorted(everything, key=lambda case: -case.error_mm):
        near = (c.name == case.name and abs(c.number - case.number) < _APART for c in chosen)
        if not any(near):
            chosen.append(case)
        if len(chosen) == config.pictures:
            break
    return _sheet(config, "figure8", chosen, model)


def _measured(config: PaperConfig) -> tuple[list[Case], str]:
    """All measured images of the adapted model, or of the one that --init names."""
    if config.init:
        model = bundle_of(config, config.init)
        folder = config.output / "evaluated" / Path(model).name
    else:
        row = Row("adapted", {}, next(iter(config.named_targets.values())))
        cell = run_row(config, row)[0]
        model, folder = cell["model"], Path(cell["folder"])
    return list(cases(config, model, folder)), model


def _sheet(config: PaperConfig, name: str, chosen: Sequence[Case], model: str) -> dict[str, Any]:
    estimator = Estimator(load_bundle(model), threads=config.threads or 2)
    columns = min(4, max(1, len(chosen)))
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (columns * _TILE, rows * (_TILE + _CAPTION)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for place, case in enumerate(chosen):
        x, y = place % columns * _TILE, place // columns * (_TILE + _CAPTION)
        sheet.paste(picture(case, estimator), (x, y))
        text = f"{case.name}, image {case.number}\n{case.error_mm:.0f} mm"
        draw.text((x + 6, y + _TILE + 4), text, fill=(40, 44, 50))
    estimator.close()
    with atomic_write(config.output / f"{name}.png") as unfinished:
        sheet.save(unfinished)
    listed = [{"name": c.name, "image": c.number, "pa_mpjpe_mm": c.error_mm} for c in chosen]
    return {"title": name, "model": model, "pictures": listed}


def picture(case: Case, estimator: Estimator, size: int = _TILE) -> Image.Image:
    """A square crop around a person: the image if there is one, the body, the keypoints."""
    box = bounding_boxes(case.keypoints[None])[0]
    side = 1.5 * max(box[2] - box[0], box[3] - box[1], 16.0)
    left, top = (box[:2] + box[2:]) / 2 - side / 2
    scale = size / side
    intrinsics = case.intrinsics
    crop = Intrinsics(
        scale * intrinsics.fx,
        scale * intrinsics.fy,
        scale * (intrinsics.cx - left),
        scale * (intrinsics.cy - top),
    )
    base = Image.new("RGB", (size, size), _BACKGROUND)
    if case.image is not None:
        with Image.open(case.image) as photograph:
            whole = photograph.convert("RGB")
            base = whole.transform(
                (size, size), Image.Transform.EXTENT, (left, top, left + side, top + side)
            )
    body = estimator.estimate(case.keypoints[None], intrinsics)
    mesh = render_mesh(body.vertices[0], estimator.bundle.triangles, crop, (size, size))
    base.paste(mesh, (0, 0), mesh)
    keypoints = case.keypoints.copy()
    keypoints[:, :2] = (keypoints[:, :2] - [left, top]) * scale
    return draw_keypoints(base, keypoints)


def features(config: PaperConfig) -> dict[str, Any]:
    """Figure 7: features of motion capture and of detections, before and after adaptation."""
    for package in ("sklearn", "matplotlib"):  # known before anything is trained
        if find_spec(package) is None:
            raise EvaluationError(f"figure7 needs {package}: pip install scikit-learn matplotlib")
    from benchmarks.adaptation.features import compare

    if not config.motions:
        raise EvaluationError("figure7 needs the motion capture of the source domain: --motions")
    target = next(iter(config.named_targets.values()))
    start = pretrained(config)
    adapted = run_row(config, Row("adapted", {}, target))[0]["model"]
    data = load_body(config.body)
    source = load_trained_model(start, data)
    body = BodyModel(data, source.detector_keypoints, source.network.sizes["keypoints"])
    bank, _ = load_bank(config.motions, config.held_out, body, 0.0)
    generator = torch.Generator().manual_seed(0)
    captured = synthesise(bank, body, as_recorded(PAPER_SYNTHESIS), _SAMPLES, generator).inputs
    count = source.network.sizes["keypoints"]
    domain = target_domain(load_targets([target]), source.centre_view, torch.device("cpu"), count)
    seen = domain.batch.inputs[torch.linspace(0, len(domain) - 1, _SAMPLES).long()]
    with torch.no_grad():
        kept = source.network.extractor(captured).numpy()
        found = {
            name: load_trained_model(model, data).network.extractor(seen).numpy()
            for name, model in (("pre-trained", start), ("adapted", adapted))
        }
    mixing = compare(kept, found, config.output / "figure7.png")
    return {"title": "figure7", "neighbours_of_the_other": mixing}
