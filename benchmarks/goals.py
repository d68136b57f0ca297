# SPDX-License-Identifier: Apache-2.0
"""What was asked of the speed, and whether a run showed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.names import ENGINE, FLOAT32, LEARNED_DESCENT, PUBLISHED


@dataclass(frozen=True)
class Goal:
    """One demand, what was seen, and whether that will do."""

    asked: str
    seen: str
    met: bool


def goals(results: dict[str, Any]) -> list[Goal]:
    """Every goal that the parts of this run say something about."""
    return [
        *_engine(results.get("table1")),
        *_node(results.get("node", [])),
        *_training(results.get("training", [])),
        *_training(results.get("adaptation", [])),
    ]


def _engine(result: dict[str, Any] | None) -> Iterator[Goal]:
    if result is None:
        return
    one = {r["name"]: r for r in result["rows"] if r["persons"] == 1 and r["mesh"]}
    if ENGINE in one:
        median = one[ENGINE]["timing"]["median_ms"]
        yield _at_most("engine, 1 person with mesh, median", median, 1.0, "ms")
    for name, least in ((PUBLISHED, 5), (LEARNED_DESCENT, 60)):
        if name in one:
            times = one[name]["times_the_engine"]
            asked = f"{name} takes at least {least}x the engine's time for 1 person"
            yield Goal(asked, f"{times:.1f}x", times >= least)
    for name, most in ((ENGINE, 1.0), (FLOAT32, 0.1)):
        if name in result["difference_mm"]:
            apart = result["difference_mm"][name]["largest"]
            yield _at_most(f"{name}: vertices from PyTorch's", apart, most, "mm", 3)


def _node(rows: list[dict[str, Any]]) -> Iterator[Goal]:
    for row in rows:
        if row["people"] == 1:
            asked = "node over the engine, 1 person, median"
            over, at_once = row["overhead_ms_p50"], row["back_to_back"]["overhead_ms_p50"]
            yield _at_most(f"{asked}, without pauses", at_once, 1.0, "ms")
            yield _at_most(f"{asked}, at {row['rate_hz']:g} Hz", over, 1.0, "ms")


def _training(results: list[dict[str, Any]]) -> Iterator[Goal]:
    for result in results:
        what = f"{result['what']}, {result['precision']}, {result['device']}: step"
        yield _at_most(f"{what} / bare", result["step_over_network_and_adam"], 1.3, "x")


def _at_most(what: str, found: float, most: float, unit: str, places: int = 2) -> Goal:
    space = "" if unit == "x" else " "
    seen = f"{found:.{places}f}{space}{unit}"
    return Goal(f"{what}: at most {most}{space}{unit}", seen, found <= most)
