# SPDX-License-Identifier: Apache-2.0
"""The benchmarks in short form: they run and compare like with like. No times are asserted."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_adapt import targets
from helpers_training import small_body
from PIL import Image

from benchmarks import machine, names, report
from benchmarks.adaptation import tables
from benchmarks.adaptation.cells import chosen_frames
from benchmarks.floors import (
    NETWORK_WEIGHTS,
    READ_SIZES,
    Limits,
    Stage,
    mesh_stage,
    network_stage,
)
from benchmarks.people import Contestant, camera, centred, largest_difference_mm, people
from benchmarks.timing import Timing, interleave
from key2mesh_core.body.data import BodyData
from key2mesh_core.body.files import load_body, save_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import project
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.keypoints.arrays import bounding_boxes, usable
from key2mesh_core.model.bundle import Bundle, load_bundle
from key2mesh_core.network.key2mesh import Key2Mesh

#: A machine that reads and writes 10 GB/s and does 100 billion operations per second.
LIMITS = Limits(
    reads=dict.fromkeys(READ_SIZES, 1e10),
    writes=1e10,
    operations=dict.fromkeys(("float32", "bfloat16", "int8"), 1e11),
)


# --- timing


def test_contestants_take_turns_in_changing_order() -> None:
    calls: list[str] = []
    timings = interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        budget_s=0.0,
        rounds=3,
        settle_s=0.0,
    )
    # Zero budget: an unmeasured call in the first turn only, and one measured call in each.
    assert "".join(calls) == "aabb" + "ba" + "ab"
    assert timings["a"].calls == timings["b"].calls == 3


def test_a_timing_is_in_milliseconds() -> None:
    assert Timing.of([0.001, 0.002, 0.009]) == Timing(2.0, 1.0, 9.0, 3)


def test_a_longer_budget_measures_more_calls() -> None:
    def calls_within(budget_s: float) -> int:
        return interleave({"a": lambda: sum(range(1000))}, budget_s=budget_s, rounds=2, settle_s=0)[
            "a"
        ].calls

    assert calls_within(0.1) > calls_within(0.0)


# --- floors


def test_the_published_network_has_as_many_weights_as_its_floor_says() -> None:
    linear = [m.weight.numel() for m in Key2Mesh().modules() if isinstance(m, torch.nn.Linear)]
    assert sum(linear) == NETWORK_WEIGHTS
    assert len(linear) == 8


def test_one_person_waits_for_memory_and_many_for_arithmetic() -> None:
    stage = network_stage()
    memory, arithmetic = 1e3 * 4 * NETWORK_WEIGHTS / 1e10, 1e3 * 2 * NETWORK_WEIGHTS / 1e11
    assert LIMITS.floor_ms([stage], 1) == pytest.approx(memory)
    assert LIMITS.floor_ms([stage], 512) == pytest.approx(512 * arithmetic)
    assert LIMITS.floor_ms([stage, stage], 1) == pytest.approx(2 * memory)


def test_bytes_that_fit_a_cache_are_read_at_its_speed() -> None:
    limits = Limits({1 << 20: 4e10, 1 << 26: 1e10}, 1e10, {"float32": 1e11})
    assert limits.reading_s(1 << 19) == pytest.approx((1 << 19) / 4e10)
    assert limits.reading_s(1 << 23) == pytest.approx((1 << 23) / 2.5e10)
    assert limits.reading_s(1 << 30) == pytest.approx((1 << 30) / 1e10)


def test_a_mesh_writes_its_vertices_and_pays_for_its_correctives() -> None:
    plain, corrected = (mesh_stage(small_body(correctives=each)) for each in (False, True))
    assert plain.written == corrected.written == 12 * 192
    assert corrected.operations - plain.operations == 192 * 2 * 3 * 207
    assert corrected.read - plain.read == 192 * 4 * 3 * 207


def test_limits_of_this_machine_are_finite_and_written_down() -> None:
    from benchmarks.floors import measure

    found = measure(threads=1, seconds=0.001)
    assert all(0 < speed < math.inf for speed in (*found.reads.values(), found.writes))
    assert set(found.operations) == {"float32", "bfloat16", "int8"}
    json.dumps(found.as_dict())
    assert 0 < found.floor_ms([Stage(1e6, 1e6)], 1) < math.inf


# --- the people


def test_everybody_can_be_estimated_and_nobody_changes_with_the_count() -> None:
    many = people(512)
    assert many.shape == (512, 18, 3)
    assert usable(many).all()
    np.testing.assert_array_equal(people(3), many[:3])
    assert len(np.unique(many[:, :, 0].round(3), axis=0)) > 500


def test_centred_people_stand_on_the_optical_axis() -> None:
    moved = centred(people(4))
    boxes = bounding_boxes(moved)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    np.testing.assert_allclose(middles, [[camera().cx, camera().cy]] * 4, atol=0.01)
    assert (moved[..., 2] == people(4)[..., 2]).all()


def test_a_contestant_that_gives_another_body_is_noticed() -> None:
    def bodies(keypoints: np.ndarray, mesh: bool) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(keypoints), 30, 3))

    def placed(keypoints: np.ndarray, mesh: bool) -> np.ndarray:
        return bodies(keypoints, mesh) + np.array([0.1, -0.2, 5.0])

    def larger(keypoints: np.ndarray, mesh: bool) -> np.ndarray:
        return 1.1 * bodies(keypoints, mesh)

    answers = {"reference": bodies, "elsewhere": placed, "other": larger}
    found = largest_difference_mm(
        [Contestant(name, answer) for name, answer in answers.items()], people(2), "reference"
    )
    assert found["reference"] == (0.0, 0.0)
    assert found["elsewhere"][0] < 1e-9
    assert found["other"][0] > 50


# --- the methods


@pytest.fixture(scope="module")
def small() -> BodyData:
    return small_body(correctives=True)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shipped bundle, because exporting another takes most of a minute."""
    return load_bundle()


@pytest.fixture(scope="module")
def table1_result(bundle: Bundle) -> dict[str, Any]:
    from benchmarks import table1

    lines: list[str] = []
    found = table1.run(
        bundle,
        load_body("default"),
        sizes=(1, 3),
        between=(2,),
        threads=1,
        budget_s=0.1,
        rounds=1,
        settle_s=0.0,
        limit_s=0.001,
        say=lines.append,
    )
    assert len(lines) == 5
    return found


@pytest.mark.long  # it exports a bundle with 32-bit weights
def test_everybody_is_measured_at_the_ends_and_the_fast_ones_between(
    table1_result: dict[str, Any],
) -> None:
    with_mesh = [row for row in table1_result["rows"] if row["mesh"] and "(" not in row["name"]]
    everybody = {
        names.ENGINE, names.ENGINE_PUBLISHED, names.FLOAT32, names.PUBLISHED, names.TORCH,
        names.LEARNED_DESCENT, names.LEARNED_DESCENT_LEAN,
    }  # fmt: skip
    for size in (1, 3):
        assert {row["name"] for row in with_mesh if row["persons"] == size} == everybody
    between = {row["name"] for row in with_mesh if row["persons"] == 2}
    assert between == {
        names.ENGINE, names.ENGINE_PUBLISHED, names.FLOAT32, names.PUBLISHED, names.TORCH,
    }  # fmt: skip
    assert any(row["name"] == names.OPTIMISATION for row in table1_result["rows"])


@pytest.mark.long  # it exports a bundle with 32-bit weights
def test_times_are_compared_with_the_engine_and_with_the_floor(
    table1_result: dict[str, Any],
) -> None:
    for row in table1_result["rows"]:
        if row["name"] == names.ENGINE:
            assert row["times_the_engine"] == 1
        assert 0 < row["times_the_engine"] < math.inf
        if row["name"] == names.OPTIMISATION:
            assert row["floor_ms"] is None
        else:
            median = row["timing"]["median_ms"]
            assert row["times_the_floor"] == pytest.approx(median / row["floor_ms"])


@pytest.mark.long  # it exports a bundle with 32-bit weights
def test_those_with_the_same_network_give_the_same_bodies(table1_result: dict[str, Any]) -> None:
    apart = table1_result["difference_mm"]
    assert apart[names.TORCH] == {"largest": 0, "mean": 0}
    assert 0 < apart[names.FLOAT32]["largest"] < 0.1
    assert names.PUBLISHED not in apart  # it has weights of its own
    assert 0 < apart[names.ENGINE]["largest"] < 1


def test_a_body_that_is_not_the_bundles_is_refused(bundle: Bundle) -> None:
    from benchmarks import table1

    with pytest.raises(Key2MeshError, match=bundle.body_model):
        table1.run(bundle, small_body(seed=1))


@pytest.mark.long
def test_optimisation_finds_a_body_that_looks_like_the_keypoints(small: BodyData) -> None:
    from benchmarks.smplify import STEPS, TORSO_STEPS, fit
    from key2mesh_core.geometry.rotations import axis_angle_to_matrix

    body = BodyModel(small)
    torch.manual_seed(0)
    turns = 0.2 * torch.randn(4, 24, 3)
    turns[:, 0] = torch.tensor([torch.pi, 0.2, 0.1])  # upright, facing the camera
    _, points = body.keypoints(torch.zeros(4, 10), axis_angle_to_matrix(turns))
    place = torch.tensor([0.2, 0.1, 4.0])
    pixels = project((points + place).numpy(), camera())
    size = (pixels.max(1) - pixels.min(1)).max(1)
    keypoints = torch.from_numpy(np.concatenate([pixels, np.ones_like(pixels[..., :1])], 2))
    keypoints = keypoints.float()

    def missed(steps: tuple[int, int]) -> np.ndarray:
        intrinsics = torch.from_numpy(camera().as_array())
        betas, rotations, translation = fit(body, keypoints, intrinsics, steps)
        found = body.keypoints(betas, rotations)[1] + translation[:, None]
        square = (project(found.detach().numpy(), camera()) - pixels) ** 2
        return np.sqrt(square.sum(2).mean(1)) / size

    assert missed((TORSO_STEPS, STEPS)).max() < 0.03
    assert missed((TORSO_STEPS, STEPS)).max() < missed((1, 1)).min() / 2


def test_learned_descent_goes_its_four_stages_with_either_gradient(small: BodyData) -> None:
    from benchmarks.learned_descent import STAGES, LearnedDescent
    from benchmarks.smplx_body import SmplxBody

    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        posed = []
        body = SmplxBody(small).model.requires_grad_(False)
        body.register_forward_hook(lambda *_, seen=posed: seen.append(1))
        module = LearnedDescent(body, lean).eval()
        vertices, _ = module(torch.from_numpy(people(2)))
        assert len(posed) == STAGES == 4
        grads = [each.grad is not None for each in module.first_pose.parameters()]
        # The published code differentiates by everything; a first step by its own weights.
        assert any(grads) is not lean
        found.append(vertices.detach())
    # In the first gradient both are the same; later ones pass through earlier poses or not.
    assert torch.allclose(*found, atol=0.05)
    assert found[0].isfinite().all()


# --- training


@pytest.fixture(scope="module")
def training_result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from benchmarks import training_step

    folder = tmp_path_factory.mktemp("training")
    save_body(folder / "small.npz", small_body())
    return training_step.run(
        str(folder / "small.npz"),
        batch_size=8,
        threads=1,
        limits=LIMITS,
        budget_s=0.1,
        rounds=1,
        settle_s=0.0,
    )


def test_a_training_step_is_compared_with_its_bare_network(
    training_result: dict[str, Any],
) -> None:
    timings = training_result["timings"]
    assert len(timings) == 5
    assert all(0 < timing["median_ms"] < math.inf for timing in timings.values())
    bare = timings[training_result["bare"]]["median_ms"]
    step = timings["training step"]["median_ms"]
    assert f"{step / bare:.2f}x" in report.training_table(training_result)


def test_the_bare_networks_floor_grows_with_the_batch_but_for_adam() -> None:
    from benchmarks.training_step import bare_floor_ms

    one, two, four = (bare_floor_ms(LIMITS, size, "float32") for size in (1, 2, 4))
    assert two - one == pytest.approx((four - two) / 2)
    assert one - (two - one) == pytest.approx(1e3 * 7 * 4 * NETWORK_WEIGHTS / 1e10)


@pytest.fixture(scope="module", params=["default", "paper"])
def adaptation_result(
    request: pytest.FixtureRequest,
) -> dict[str, Any]:
    from benchmarks import adaptation_step

    return adaptation_step.run(
        recipe=request.param,
        batch_size=8,
        threads=1,
        detections=128,
        budget_s=0.0,
        rounds=1,
        settle_s=0.0,
    )


def test_an_adaptation_step_is_compared_with_its_networks(
    adaptation_result: dict[str, Any],
) -> None:
    timings = adaptation_result["timings"]
    assert set(timings) == {"networks alone, and Adam", "synthesis alone", "adaptation step"}
    assert all(0 < timing["median_ms"] < math.inf for timing in timings.values())


# --- the report

NODE = {
    "people": 1, "rate_hz": 30.0, "frames": 60, "meshes": 59, "latency_ms_p50": 2.5,
    "latency_ms_p99": 4.0, "engine_ms_p50": 1.0, "overhead_ms_p50": 1.5,
    "back_to_back_ms_p50": 1.75, "back_to_back_engine_ms_p50": 0.75,
}  # fmt: skip


def table1_row(name: str, persons: int, mesh: bool, median_ms: float) -> dict[str, Any]:
    floor = {"floor_ms": 0.04, "times_the_floor": median_ms / 0.04}
    timing = asdict(Timing(median_ms, median_ms, median_ms, 1))
    row = {"name": name, "persons": persons, "mesh": mesh, "timing": timing, **floor}
    return row | {"times_the_engine": median_ms / 0.5}


def test_results_become_tables_and_a_chart(training_result: dict[str, Any], tmp_path: Path) -> None:
    rows = [
        table1_row(name, persons, mesh, 0.5 * persons + mesh)
        for name in (names.ENGINE, names.PUBLISHED)
        for persons in (1, 8)
        for mesh in (True, False)
    ]
    table1_result = {"rows": rows, "difference_mm": {names.ENGINE: {"mean": 0.1, "largest": 0.2}}}
    text = report.to_markdown(
        {
            "machine": machine.describe(),
            "table1": table1_result,
            "node": [NODE],
            "training": [training_result],
            "left_out": {"adaptation": "no torch"},
        }
    )
    for row in table1_result["rows"]:
        assert f"{row['timing']['median_ms']:.2f}" in text
    node = ["1", "30", "60", "59", "2.5", "4", "1", "1.5", "1.75", "0.75"]
    assert node in [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert "no torch" in text
    report.draw_chart(table1_result["rows"], "title", tmp_path / "chart.png")
    picture = np.asarray(Image.open(tmp_path / "chart.png").convert("RGB"))
    assert picture.std() > 5


def test_a_part_that_cannot_run_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import benchmarks.__main__ as command

    def no_ros(*_: object) -> None:
        raise ImportError("librcl.so: cannot open shared object file")

    monkeypatch.setattr(command, "_node", no_ros)
    command.main(command.BenchmarkConfig(only=("node",), output=tmp_path / "out"))
    written = json.loads((tmp_path / "out/results.json").read_text())
    assert written["left_out"] == {"node": "librcl.so: cannot open shared object file"}


# --- the paper's tables


def test_a_share_of_frames_is_spread_over_each_sequence_in_stretches() -> None:
    everything = targets(2, 100)
    chosen = chosen_frames(everything, 0.3)
    assert chosen.sum() == 60
    for number in range(2):
        frames = everything.frame[chosen & (everything.sequence == number)]
        assert (np.diff(frames) == 1).sum() == 20  # three neighbours of every ten
        assert np.ptp(frames) > 90
    assert chosen_frames(everything, 1.0).all()
    with pytest.raises(ValueError, match=r"got 0"):
        chosen_frames(everything, 0)


def test_a_table_tells_the_change_on_the_reported_sequences() -> None:
    def cell(ch03: float, ch04: float) -> dict[str, Any]:
        errors = {"ch01": 70.0, "ch02": 80.0, "ch03": ch03, "ch04": ch04}
        return {"errors_mm": errors, "in_step_mm": errors, "frames": 1000, "minutes": 1.5}

    rows = [
        {"name": "not adapted", "cells": [cell(70, 90)]},
        {"name": "adapted", "cells": [cell(66, 86), cell(68, 84)]},
    ]
    text = tables.to_markdown({"title": "Table", "rows": rows})
    (line,) = [each for each in text.splitlines() if each.startswith("| adapted")]
    assert [each.strip() for each in line.split("|")][2:-1] == [
        "1000",
        *("67.0 ± 1.0", "85.0 ± 1.0", "70.0 ± 0.0", "80.0 ± 0.0"),
        *("76.0 ± 0.0", "-5.0%", "76.0 ± 0.0", "-5.0%", "1.5"),
    ]
