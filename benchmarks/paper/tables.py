# SPDX-License-Identifier: Apache-2.0
"""Tables 1 to 6: their rows, and how they are written, with the published rows beside."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.adaptation.tables import published_terms
from benchmarks.paper.config import PaperConfig
from benchmarks.paper.runs import Row, run_row
from benchmarks.report import spread
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.benchmarks import protocols
from key2mesh_core.evaluation.benchmarks.report import METRICS
from key2mesh_core.evaluation.report import markdown_table

TITLES = {
    "table1": "Pre-trained and adapted",
    "table2": "Pre-trained and adapted",
    "table3": "Adaptation term by term",
    "table4": "Which target",
    "table5": "How much of the target",
    "table6": "Which detector",
}

_METHODS = {
    ("h36m", "pre-trained"): "Key2Mesh, pre-trained",
    ("h36m", "adapted"): "Key2Mesh, adapted to the training subjects",
    ("h36m", "+ re-projection"): "+ re-projection",
    ("h36m", "+ critic"): "+ critic",
    ("h36m", "+ feature regularisation"): "Key2Mesh, adapted to the training subjects",
    ("3dpw test", "test"): "Key2Mesh, adapted to the test split",
    ("3dpw test", "InstaVariety"): "Key2Mesh, adapted to InstaVariety",
    ("3dpw validation", "pre-trained"): "Key2Mesh, pre-trained",
    ("3dpw validation", "adapted"): "Key2Mesh, adapted",
}
"""The method in `protocols` whose numbers stand beside a row, by data set, split and row."""


def published(config: PaperConfig, row: Row) -> tuple[float | None, ...] | None:
    """The paper's numbers for a row. Table 2 has two targets: 3DPW's test split and InstaVariety; a
    model that is adapted to anything else has no published number there."""
    data, name = _data(config), row.name
    if data == "3dpw test" and row.changes == {} and row.share >= 1:
        if "split=test" in row.target:
            name = "test"
        elif "instavariety" in row.target.lower():
            name = "InstaVariety"
    method = _METHODS.get((data, name))
    if method is None:
        return None
    if config.data == "h36m":
        protocol = protocols.human36m("hips")
    else:
        protocol = protocols.threedpw(config.split, "neutral", "hips", 0)
    return {each.method: each.errors_mm for each in protocol.published}[method]


def _data(config: PaperConfig) -> str:
    """The data set that is measured, with its split."""
    return f"3dpw {config.split}" if config.data == "3dpw" else config.data


def rows_of(config: PaperConfig) -> list[Row]:
    """The rows of a table, the model before adaptation first.

    Raises:
        EvaluationError: the table needs other recordings than the given ones.
    """
    before = Row("pre-trained")
    targets = config.named_targets
    first = next(iter(targets.values()))
    match config.what:
        case "table1" | "table2":
            return [before, Row("adapted", {}, first)]
        case "table3":
            return [before, *(Row(n, each, first) for n, each in published_terms().items())]
        case "table4" | "table6":
            if len(targets) < 2:
                raise EvaluationError(
                    f"{config.what} compares recordings: give two or more --targets NAME=SPEC"
                )
            return [before, *(Row(name, {}, spec) for name, spec in targets.items())]
        case "table5":
            shares = config.shares
            return [before, *(Row(f"{100 * share:g} %", {}, first, share) for share in shares)]
    raise EvaluationError(f"{config.what} is no table")


def run(config: PaperConfig) -> dict[str, Any]:
    """Every row, measured; the table's numbers."""
    rows = [
        {
            "name": row.name,
            "cells": run_row(config, row),
            "published": published(config, row),
        }
        for row in rows_of(config)
    ]
    return {
        "title": TITLES[config.what],
        "data": _data(config),
        "targets": config.named_targets,
        "rows": rows,
    }


def to_markdown(table: dict[str, Any]) -> str:
    """Means over the seeds with half of their range, beside the published numbers."""
    header = ("[mm]", "PA-MPJPE", "MPJPE", "PVE", "published", "detections", "minutes")
    lines = []
    for row in table["rows"]:
        cells, numbers = row["cells"], row["published"] or ()
        means = (spread([cell.get(metric, np.nan) for cell in cells]) for metric in METRICS)
        lines.append(
            (
                row["name"],
                *means,
                " / ".join(f"{value:.1f}" for value in numbers if value is not None) or "-",
                str(cells[0]["detections"]),
                f"{np.mean([cell['minutes'] for cell in cells]):.1f}",
            )
        )
    seeds = max(len(row["cells"]) for row in table["rows"])
    return (
        f"## {table['title']}\n\n{markdown_table(header, lines)}\n\nMeasured on {table['data']}; "
        f"adapted to {', '.join(table['targets'])}. {seeds} seeds: mean ± half of the range. "
        f"Published: {protocols.PAPER}, its own rows only; those of Tables 1 and 2 are checked, "
        "the others are second-hand. minutes: of one adaptation.\n"
    )
