# SPDX-License-Identifier: Apache-2.0
"""The rows of each table, and how they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.adaptation.cells import Row, run_row
from benchmarks.adaptation.config import (
    ADAPTED_ON,
    REPORTED_ON,
    TUNED_ON,
    TablesConfig,
    aistpp_spec,
)
from benchmarks.report import spread
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.report import markdown_table
from key2mesh_core.learning.adapt.config import ADAPT_RECIPES

TITLES = {
    "recipes": "Adapted by the default and by the published recipe",
    "terms": "The published method term by term",
    "targets": "Which detections",
    "amounts": "How many detections",
    "cameras": "How many cameras saw it at once",
    "detectors": "Two detectors on one video",
}


#: Some of AIST++'s cameras, counted from 0, a quarter of a turn apart.
_SOME = {"two": (1, 3), "four": (1, 3, 5, 7)}


def rows_of(config: TablesConfig) -> list[Row]:
    """The rows of the requested table, the initial model first."""
    everything = (aistpp_spec(config.aistpp_keypoints, ADAPTED_ON),)
    as_it_is = Row("not adapted", "default", None, ())
    # Most robots have one camera, so only rows about several use what the cameras agree on.
    alone = {"weights": replace(ADAPT_RECIPES["default"][1].weights, agreement=0.0)}
    match config.table:
        case "recipes":
            return [
                as_it_is,
                Row("default recipe", "default", {}, everything),
                Row("each camera by itself", "default", alone, everything),
                Row("the same, one member", "default", alone | {"members": 1}, everything),
                Row("paper recipe", "paper", {}, everything),
            ]
        case "terms":
            terms = published_terms().items()
            return [as_it_is, *(Row(name, "paper", changes, everything) for name, changes in terms)]
        case "targets":
            folder = config.aistpp_keypoints
            each = [
                Row(name, "default", alone, (aistpp_spec(folder, (name,)),)) for name in ADAPTED_ON
            ]
            # The sequences of the evaluation itself, without labels.
            theirs = (aistpp_spec(folder, REPORTED_ON),)
            same = Row("the reported sequences", "default", alone, theirs)
            return [as_it_is, *each, Row("all four", "default", alone, everything), same]
        case "amounts":
            return [
                as_it_is,
                *(
                    Row(f"{100 * share:g} %", "default", alone, everything, share)
                    for share in (0.01, 0.1, 1.0)
                ),
            ]
        case "cameras":
            return [
                as_it_is,
                *(
                    Row(f"{name} cameras, {how}", "default", changes, everything, 1.0, cameras)
                    for name, cameras in _SOME.items()
                    for how, changes in (("each by itself", alone), ("at once", {}))
                ),
            ]
        case "detectors":
            if len(config.detections) < 2:
                raise EvaluationError("--detections: give the same video as two detectors saw it")
            return [as_it_is, *(Row(spec, "default", {}, (spec,)) for spec in config.detections)]
        case other:
            raise EvaluationError(f"{other} is no table of rows")


def published_terms() -> dict[str, dict[str, Any]]:
    """The published method term by term: the changes to its recipe."""
    weights = ADAPT_RECIPES["paper"][1].weights
    return {
        "+ re-projection": {"weights": replace(weights, domain=0.0, features=0.0)},
        "+ critic": {"weights": replace(weights, features=0.0)},
        "+ feature regularisation": {},
    }


def run(config: TablesConfig) -> dict[str, Any]:
    """Runs every row; returns the table's numbers."""
    rows = []
    for row in rows_of(config):
        cells = run_row(config, row)
        rows.append({"name": row.name, "cells": cells})
    return {"title": TITLES[config.table], "init": config.init, "rows": rows}


def to_markdown(table: dict[str, Any]) -> str:
    """Means over the seeds, and the range of the seeds."""
    sequences = (*REPORTED_ON, *TUNED_ON)
    header = ("", "frames", *sequences, "reported on", "change", "in sync", "change", "minutes")
    before = {kind: _reported(table["rows"][0]["cells"], kind) for kind in _KINDS}
    lines = []
    for row in table["rows"]:
        cells = row["cells"]
        means = []
        for kind in _KINDS:
            reported = _reported(cells, kind)
            change = np.mean(reported) / np.mean(before[kind]) - 1
            means += [spread(reported), f"{100 * change:+.1f}%"]
        lines.append(
            (
                row["name"],
                f"{cells[0]['frames']}",
                *(spread([cell["errors_mm"][name] for cell in cells]) for name in sequences),
                *means,
                f"{np.mean([cell['minutes'] for cell in cells]):.1f}",
            )
        )
    seeds = max(len(row["cells"]) for row in table["rows"])
    return (
        f"## {table['title']}\n\n{markdown_table(header, lines)}\n\n"
        f"PA-MPJPE [mm], mean of {seeds} seeds ± half of the distance between the extremes. "
        f"Adapted to {', '.join(ADAPTED_ON)} unless the row says otherwise; nothing was tuned on "
        f"{' and '.join(REPORTED_ON)}. In sync: without the cameras whose videos are out of sync "
        "with the others, where even a perfect answer is wrong.\n"
    )


#: Over all cameras, and over those in sync.
_KINDS = ("errors_mm", "in_step_mm")


def _reported(cells: list[dict[str, Any]], kind: str) -> list[float]:
    """The mean of the reported sequences for each seed."""
    return [float(np.mean([cell[kind][name] for name in REPORTED_ON])) for cell in cells]
