# SPDX-License-Identifier: Apache-2.0
"""The models of the tables: pre-trained, exported and adapted once, and kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.adaptation.cells import adapt_once, part_of_targets
from benchmarks.paper.config import PaperConfig
from benchmarks.paper.data import measure
from key2mesh_core.errors import EvaluationError
from key2mesh_core.io import write_text
from key2mesh_core.learning.adapt.config import ADAPT_RECIPES, AdaptConfig
from key2mesh_core.learning.export import export
from key2mesh_core.learning.export_config import ExportConfig
from key2mesh_core.learning.pretrain.config import PRETRAIN_RECIPES
from key2mesh_core.learning.pretrain.job import BEST, pretrain


@dataclass(frozen=True)
class Row:
    """A row of a table: the changes to the published adaptation (None: not adapted), the recording
    to adapt to, and the share of it."""

    name: str
    changes: Mapping[str, Any] | None = None
    target: str = ""
    share: float = 1.0


def pretrained(config: PaperConfig) -> str:
    """The model to start from: a checkpoint, a bundle's folder or "default"; trained if there is
    none yet."""
    if config.init:
        return config.init
    if not config.motions:
        raise EvaluationError("give --motions to pre-train on, or a trained model with --init")
    run = config.output / "pretrained"
    settings = replace(
        PRETRAIN_RECIPES["paper"][1],
        motions=config.motions,
        held_out=config.held_out,
        output=run,
        body=config.body,
        epochs=config.epochs,
        steps_per_epoch=config.steps_per_epoch,
        features=config.features,
        batch_size=config.batch_size,
        device=config.device,
        threads=config.threads,
    )
    done = run / "done.json"
    if not done.exists():
        begin = time.monotonic()
        pretrain(settings)
        write_text(done, json.dumps({"minutes": (time.monotonic() - begin) / 60}) + "\n")
    return str(run / BEST)


def bundle_of(config: PaperConfig, model: str) -> str:
    """The bundle of a model: itself, or a checkpoint exported to --output."""
    if not Path(model).is_file():
        return model
    digest = hashlib.sha256(Path(model).read_bytes()).hexdigest()[:12]
    folder = config.output / "bundles" / digest
    if not folder.exists():
        export(ExportConfig(Path(model), folder, name="key2mesh-paper", body=config.body))
    return str(folder)


def run_row(config: PaperConfig, row: Row) -> list[dict[str, Any]]:
    """Errors [mm], minutes and number of detections for each seed, and the model's folder."""
    start = pretrained(config)
    if row.changes is None:
        model = bundle_of(config, start)
        folder = config.output / "evaluated" / hashlib.sha256(model.encode()).hexdigest()[:12]
        errors = measure(config, model, folder)
        return [errors | {"minutes": 0.0, "detections": 0, "model": model, "folder": str(folder)}]
    return [_adapted(config, row, start, seed) for seed in config.seeds]


def adapt_settings(config: PaperConfig, row: Row, start: str, seed: int) -> AdaptConfig:
    """The settings of one adaptation: the published recipe with the row's changes."""
    select = {}
    if config.select:
        select = {
            "select_on": "3dpw-validation",
            "select_root": config.root,
            "select_body_folder": config.body_folder,
            "select_regressor": config.regressor,
        }
    return replace(
        ADAPT_RECIPES["paper"][1],
        target=(_part_of(config, row),),
        motions=config.motions,
        held_out=config.held_out,
        init=start,
        body=config.body,
        epochs=config.adaptation_epochs,
        batch_size=config.batch_size,
        seed=seed,
        device=config.device,
        threads=config.threads,
        # Without labels, the last epoch counts: the criterion is not part of the paper.
        always_adapt=not config.select,
        **select | dict(row.changes or {}),
    )


def _adapted(config: PaperConfig, row: Row, start: str, seed: int) -> dict[str, Any]:
    settings, name = adapt_settings(config, row, start, seed), f"{row.name}, seed {seed}"
    folder, facts = adapt_once(settings, config.output / "adapted", name)
    model, evaluation = folder / "model", folder / "evaluation"
    return measure(config, model, evaluation) | {
        "minutes": facts["minutes"],
        "detections": facts["frames"],
        "model": str(model),
        "folder": str(evaluation),
    }


def _part_of(config: PaperConfig, row: Row) -> str:
    """The row's recording, or a file with a share of its frames."""
    if row.share >= 1:
        return row.target
    return part_of_targets(config.output / "targets", (row.target,), row.share)
