# SPDX-License-Identifier: Apache-2.0
"""The benchmarks in a short form: they run, compare like with like and say what they found.

No time is asserted: a busy machine must not fail the tests.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_training import small_body

from benchmarks import machine, report
from benchmarks.__main__ import BenchmarkConfig, main
from benchmarks.timing import Timing, interleave
from key2mesh_core.body.files import save_body
from key2mesh_core.errors import Key2MeshError


def test_contestants_take_turns_in_changing_order() -> None:
    calls: list[str] = []
    timings = interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        budget_s=0.0,
        rounds=3,
        settle_s=0.0,
    )
    # Each turn: one unmeasured call and two measured ones.
    assert "".join(calls) == "aaabbb" + "bbbaaa" + "aaabbb"
    assert timings["a"].calls == timings["b"].calls == 6


def test_a_timing_is_in_milliseconds() -> None:
    assert Timing.of([0.001, 0.002, 0.009]) == Timing(2.0, 1.0, 9.0, 3)


def test_a_longer_budget_measures_more_calls() -> None:
    def calls_within(budget_s: float) -> int:
        return interleave({"a": lambda: sum(range(1000))}, budget_s=budget_s, rounds=2, settle_s=0)[
            "a"
        ].calls

    assert calls_within(0.1) > calls_within(0.0)


@pytest.fixture(scope="module")
def engine_rows() -> list[dict[str, Any]]:
    from benchmarks import engine

    body = small_body(correctives=True)
    return engine.run(body, batches=(1, 3), budget_s=0.1, rounds=1, settle_s=0.0)


def test_the_engine_is_compared_with_the_same_bodies(engine_rows) -> None:
    assert [(row["batch"], row["mesh"]) for row in engine_rows] == [
        (1, True), (1, False), (3, True), (3, False),
    ]  # fmt: skip
    for row in engine_rows:
        assert row["timings"].keys() == {"engine", "torch", "torch + smplx"}
        assert row["times_the_engine"]["engine"] == 1
        assert all(math.isfinite(ratio) and ratio > 0 for ratio in row["times_the_engine"].values())
        assert 0 < row["largest_difference_mm"] < 0.1


def test_a_contestant_that_gives_another_body_is_noticed() -> None:
    from benchmarks.engine import largest_difference_mm, people

    def same(keypoints: np.ndarray, mesh: bool) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(keypoints), 30, 3))

    def other(keypoints: np.ndarray, mesh: bool) -> np.ndarray:
        return same(keypoints, mesh) * (1.1 if mesh else 1.0)

    assert largest_difference_mm({"engine": same, "torch": same}, people(2)) == 0
    assert largest_difference_mm({"engine": same, "torch": other}, people(2)) > 50


def test_everybody_in_the_engine_benchmark_can_be_estimated() -> None:
    from benchmarks.engine import people
    from key2mesh_core.keypoints import usable

    assert usable(people(512)).all()


def test_a_training_step_is_compared_with_its_bare_network(tmp_path: Path) -> None:
    from benchmarks import training_step

    save_body(tmp_path / "small.npz", small_body())
    result = training_step.run(
        str(tmp_path / "small.npz"), batch_size=8, budget_s=0.1, rounds=1, settle_s=0.0
    )
    ratios = result["times_the_bare_network"]
    assert ratios["network, forward and backward"] == 1
    assert len(ratios) == 4
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in ratios.values())
    table = report.training_table(result)
    assert "batch of 8, float32" in table
    assert "nan" not in table


def test_results_become_tables(engine_rows) -> None:
    node = {
        "people": 1, "rate_hz": 30.0, "frames": 60, "meshes": 59, "latency_ms_p50": 2.5,
        "latency_ms_p99": 4.0, "engine_ms_p50": 1.5, "overhead_ms_p50": 1.0,
        "growth_ms_per_s": 0.001,
    }  # fmt: skip
    text = report.to_markdown(
        {
            "machine": machine.describe() | {"load_before": 3.0},
            "engine": engine_rows,
            "node": [node],
            "left_out": {"training": "no torch"},
        }
    )
    assert "| persons | mesh" in text
    assert "Left out: training: no torch" in text
    assert "busy" in text
    line = next(x for x in text.splitlines() if "0.001" in x)
    assert [cell.strip() for cell in line.strip("|").split("|")][:6] == [
        "1", "30", "60", "59", "2.5", "4",
    ]  # fmt: skip


def test_what_cannot_run_is_left_out_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import benchmarks.__main__ as command

    def no_ros(_: BenchmarkConfig) -> None:
        raise ImportError("librcl.so: cannot open shared object file")

    def no_body(_: BenchmarkConfig) -> None:
        raise Key2MeshError("no such body")

    monkeypatch.setattr(command, "_node", no_ros)
    monkeypatch.setattr(command, "_engine", no_body)
    main(BenchmarkConfig(only=("engine", "node"), output=tmp_path / "out"))
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["left_out"] == {
        "engine": "no such body",
        "node": "librcl.so: cannot open shared object file",
    }
    assert "librcl" in (tmp_path / "out/results.md").read_text()
    assert "librcl" in capsys.readouterr().out


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert found["cores"] >= 1
    assert "numpy" in found["packages"]
    json.dumps(found)
