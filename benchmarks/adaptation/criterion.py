# SPDX-License-Identifier: Apache-2.0
"""Does what can be measured without labels tell good checkpoints from bad ones?

Looks at every epoch of every run that the other tables made: the criteria on held-out detections
beside the true error on the sequences that are tuned on, both relative to the model before
adaptation. Rank correlation (Spearman) says how well a criterion orders them; regret, how much
worse its pick in a run is than the run's best epoch, the epoch before adaptation included.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.adaptation.config import TUNED_ON, TablesConfig
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.tables import markdown_table
from key2mesh_core.learning.adapt.selection import choose, score

CHOSEN = "the choice of `key2mesh adapt`"


def run(config: TablesConfig) -> dict[str, Any]:
    """Correlation and regret of every criterion over the runs in the output folder."""
    histories = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted((config.output / "runs").glob("*/history.jsonl"))
    ]
    if not histories:
        raise EvaluationError(f"{config.output / 'runs'} has no runs: make other tables first")
    return {"title": "Choosing without labels", "runs": len(histories)} | study(histories)


def study(histories: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Criterion -> rank correlation with the true error, and mean regret [mm]."""
    names = [name for name in histories[0][0] if not name.startswith("true_") and name != "epoch"]
    true = [np.array([_true(each) for each in history]) for history in histories]
    changes = np.concatenate([errors / errors[0] for errors in true])
    rows = {}
    for name in (CHOSEN, *names):
        values = [np.array([_value(each, history[0], name) for each in history])
                  for history in histories]  # fmt: skip
        relative = np.concatenate([each - each[0] for each in values])
        picked = [int(np.argmin(each)) for each in values]
        if name == CHOSEN:  # which says, too, when not to adapt
            picked = [choose(history) for history in histories]
        rows[name] = {
            "rank_correlation": float(spearmanr(relative, changes).statistic),
            "regret_mm": float(
                np.mean([e[pick] - e.min() for e, pick in zip(true, picked, strict=True)])
            ),
            "worse_than_before": int(
                sum(e[pick] > e[0] for e, pick in zip(true, picked, strict=True))
            ),
        }
    return {
        "epochs": len(changes),
        "mean_true_change_mm": float(np.mean([errors.min() - errors[0] for errors in true])),
        "criteria": rows,
    }


def to_markdown(result: dict[str, Any]) -> str:
    """Criteria, the best ordered first."""
    rows = sorted(
        result["criteria"].items(), key=lambda item: -np.nan_to_num(item[1]["rank_correlation"])
    )
    lines = [
        (
            name,
            f"{row['rank_correlation']:+.2f}",
            f"{row['regret_mm']:.2f}",
            f"{row['worse_than_before']}",
        )
        for name, row in rows
    ]
    header = ("criterion", "rank correlation", "regret mm", "picks worse than no adaptation")
    return (
        f"## {result['title']}\n\n{markdown_table(header, lines)}\n\n"
        f"{result['epochs']} checkpoints of {result['runs']} runs; truth: PA-MPJPE on "
        f"{' and '.join(TUNED_ON)}.\n"
    )


def _true(measured: dict[str, float]) -> float:
    return float(np.mean([measured[f"true_{name}_mm"] for name in TUNED_ON]))


def _value(measured: dict[str, float], before: dict[str, float], name: str) -> float:
    return score(measured, before) if name == CHOSEN else measured[name]
