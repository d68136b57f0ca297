# SPDX-License-Identifier: Apache-2.0
"""One cell of a table: a model adapted with some settings and one seed, measured and stored."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adaptation.config import REPORTED_ON, TUNED_ON, TablesConfig
from key2mesh_core.evaluation.aistpp import SequenceErrors, evaluate_aistpp
from key2mesh_core.io import atomic_write, write_text
from key2mesh_core.learning.adapt.config import ADAPT_RECIPES, AdaptConfig
from key2mesh_core.learning.adapt.job import adapt
from key2mesh_core.learning.runs import settings_text
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.targets import TargetKeypoints, load_targets


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: what the reader sees.
        recipe: whose defaults count.
        changes: what differs from them; None: the model as it is, not adapted.
        targets: specs, as of `key2mesh adapt --target`.
        share: of the target's frames.
        cameras: of each of the target's takes, counted from 0; all if there are none.
    """

    name: str
    recipe: str
    changes: Mapping[str, Any] | None
    targets: tuple[str, ...]
    share: float = 1.0
    cameras: tuple[int, ...] = ()


def run_row(config: TablesConfig, row: Row) -> list[dict[str, Any]]:
    """Measurements of every seed: PA-MPJPE [mm] by sequence, minutes."""
    if row.changes is None:
        return [{**measure(config, config.init), "minutes": 0.0, "frames": 0}]
    return [_run_cell(config, row, seed) for seed in config.seeds]


def measure(config: TablesConfig, model: str | Path) -> dict[str, dict[str, float]]:
    """PA-MPJPE [mm] of a bundle on each sequence that is tuned or reported on: `errors_mm` over
    all cameras, `in_step_mm` over those whose videos run in sync with the others."""
    sequences = (*TUNED_ON, *REPORTED_ON)
    errors = aistpp_errors(model, config.aistpp_keypoints, config.aistpp_truth, sequences)
    return {
        "errors_mm": {name: each.mean_mm for name, each in errors.items()},
        "in_step_mm": {name: each.in_step_mean_mm for name, each in errors.items()},
    }


def aistpp_errors(
    model: str | Path,
    keypoints: Path,
    truth: Path,
    sequences: tuple[str, ...],
    threads: int = 2,
) -> dict[str, SequenceErrors]:
    """Errors of a bundle on sequences of AIST++, by sequence."""
    estimator = Estimator(load_bundle(model), threads=threads)
    try:
        return evaluate_aistpp(
            lambda people, camera: estimator.estimate(people, camera, vertices=False).joints,
            keypoints,
            truth,
            sequences,
        )
    finally:
        estimator.close()


def adapt_config(config: TablesConfig, row: Row, seed: int) -> AdaptConfig:
    """The settings of a cell."""
    return replace(
        ADAPT_RECIPES[row.recipe][1],
        target=(_part_of(config, row),),
        init=config.init,
        seed=seed,
        precision=config.precision,
        threads=config.threads,
        # The label-free choice of an epoch is not measured here.
        always_adapt=True,
        **{"motions": config.motions if row.recipe == "paper" else ()} | dict(row.changes or {}),
    )


def _run_cell(config: TablesConfig, row: Row, seed: int) -> dict[str, Any]:
    settings, name = adapt_config(config, row, seed), f"{row.name}, seed {seed}"
    folder, facts = adapt_once(settings, config.output / "runs", name)
    result = folder / "result.json"
    if not result.exists():
        facts = {"row": row.name, "seed": seed} | facts
        _write(result, facts | measure(config, folder / "model"))
    return json.loads(result.read_text()) | {"folder": str(folder)}


def adapt_once(settings: AdaptConfig, runs: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Adapts with some settings, unless that is done.

    Args:
        settings: their `output` does not count.
        runs: folder of the runs.
        name: what to call the run while it runs.

    Returns:
        The run's folder, whose `model` is the bundle; its minutes and number of `frames`.
    """
    # Named by everything that determines the model, so that tables share common runs.
    plain = settings_text(replace(settings, output=Path("cell")))
    folder = runs / hashlib.sha256(plain.encode()).hexdigest()[:12]
    made = folder / "made.json"
    if not made.exists():
        print(f"{name}: {folder}", flush=True)
        settings = replace(settings, output=folder / "model")
        begin = time.monotonic()
        adapt(settings)
        shutil.copy(settings.work_folder / "history.jsonl", folder / "history.jsonl")
        minutes = (time.monotonic() - begin) / 60
        _write(made, {"minutes": minutes, "frames": len(load_targets(settings.target))})
    return folder, json.loads(made.read_text())


def _write(path: Path, values: dict[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1) + "\n")


def _part_of(config: TablesConfig, row: Row) -> str:
    return part_of_targets(
        config.output / "targets", row.targets, row.share * config.share, row.cameras
    )


def part_of_targets(
    folder: Path, specs: tuple[str, ...], share: float, cameras: tuple[int, ...] = ()
) -> str:
    """A recording with a share of the targets' frames, from the start of each sequence's tenths, so
    that a small share still covers everything, and neighbours stay neighbours; written once."""
    name = hashlib.sha256(repr((specs, share, cameras)).encode()).hexdigest()[:12]
    path = folder / f"{name}.npz"
    if not path.exists():
        targets = load_targets(specs)
        chosen = chosen_frames(targets, share)
        if cameras:
            chosen &= np.isin(cameras_of_takes(targets), cameras)
        _write_part(path, targets, chosen)
    return f"npz:{path}"


def _write_part(path: Path, targets: TargetKeypoints, chosen: np.ndarray) -> None:
    """Writes the rows of `chosen (N,)` as a recording, .npz."""
    kept = np.flatnonzero(chosen)
    with atomic_write(path) as unfinished:
        np.savez_compressed(
            unfinished,
            keypoints=targets.keypoints[kept],
            layout="openpose_coco_18",
            # Every track becomes a separate camera, in which one name is enough.
            sequence=np.zeros(len(kept), int),
            camera=targets.sequence[kept],
            take=np.where(targets.person < 0, -1 - targets.sequence, targets.person)[kept],
            frame=targets.frame[kept],
            width=targets.image_size[kept, 0].astype(int),
            height=targets.image_size[kept, 1].astype(int),
            intrinsics=np.where(targets.metric[:, None], targets.intrinsics, 0)[kept],
        )


def cameras_of_takes(targets: TargetKeypoints) -> np.ndarray:
    """(N,) which of its take's cameras saw each row, counted from 0; 0 for rows of no take."""
    first = {
        person: targets.camera[targets.person == person].min()
        for person in np.unique(targets.person)
    }
    number = targets.camera - np.array([first[person] for person in targets.person.tolist()])
    return np.where(targets.person < 0, 0, number)


def chosen_frames(targets: TargetKeypoints, share: float) -> np.ndarray:
    """(N,) which rows belong to the first `share` of a tenth of their sequence."""
    if not 0 < share <= 1:
        raise ValueError(f"share lies in 0..1, got {share}")
    chosen = np.zeros(len(targets), bool)
    for sequence in np.unique(targets.sequence):
        rows = np.flatnonzero(targets.sequence == sequence)
        for part in np.array_split(rows, min(10, len(rows))):
            chosen[part[: max(1, round(share * len(part)))]] = True
    return chosen
