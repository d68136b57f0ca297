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
import torch
from helpers_training import small_body

from benchmarks import docs, machine, names, report
from benchmarks.__main__ import BenchmarkConfig, main
from benchmarks.floors import (
    NETWORK_WEIGHTS,
    READ_SIZES,
    Limits,
    Stage,
    mesh_stage,
    network_stage,
)
from benchmarks.goals import goals
from benchmarks.people import Contestant, camera, centred, largest_difference_mm, people
from benchmarks.timing import Timing, interleave
from key2mesh_core.body.data import BodyData
from key2mesh_core.body.files import save_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import project
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.keypoints.arrays import bounding_boxes, usable
from key2mesh_core.learning.export import write_bundle
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.network.key2mesh import Key2Mesh

#: A machine that reads and writes 10 GB a second and adds or multiplies 100 thousand million times.
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
    # No time at all: an unmeasured call in the first turn alone, one measured call in each.
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


# --- who is seen


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


# --- the contestants


@pytest.fixture(scope="module")
def small() -> BodyData:
    return small_body(correctives=True)


@pytest.fixture(scope="module")
def bundle(small: BodyData, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    network = Key2Mesh()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return write_bundle(
        tmp_path_factory.mktemp("bundle") / "bundle",
        name="small",
        network=network.eval(),
        data=small,
        body=BodyModel(small),
        centre=True,
        card={"centre_view": True, "detector_keypoints": True},
    )


@pytest.fixture(scope="module")
def table1_result(small: BodyData, bundle: Bundle) -> dict[str, Any]:
    from benchmarks import table1

    lines: list[str] = []
    found = table1.run(
        bundle,
        small,
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


def test_everybody_is_measured_at_the_ends_and_the_fast_ones_between(
    table1_result: dict[str, Any],
) -> None:
    with_mesh = [row for row in table1_result["rows"] if row["mesh"] and "(" not in row["name"]]
    everybody = {
        names.ENGINE, names.FLOAT32, names.PUBLISHED, names.WITH_SMPLX, names.TORCH,
        names.LEARNED_DESCENT, names.LEARNED_DESCENT_LEAN,
    }  # fmt: skip
    for size in (1, 3):
        assert {row["name"] for row in with_mesh if row["persons"] == size} == everybody
    between = {row["name"] for row in with_mesh if row["persons"] == 2}
    assert between == {names.ENGINE, names.FLOAT32, names.PUBLISHED, names.TORCH}
    assert any(row["name"] == names.OPTIMISATION for row in table1_result["rows"])


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


def test_those_with_the_same_network_give_the_same_bodies(table1_result: dict[str, Any]) -> None:
    apart = table1_result["difference_mm"]
    assert apart[names.TORCH] == {"largest": 0, "mean": 0}
    for name in (names.FLOAT32, names.PUBLISHED, names.WITH_SMPLX):
        assert 0 < apart[name]["largest"] < 0.1
    assert 0 < apart[names.ENGINE]["largest"] < 1


def test_a_body_that_is_not_the_bundles_is_refused(bundle: Bundle) -> None:
    from benchmarks import table1

    with pytest.raises(Key2MeshError, match=bundle.body_model):
        table1.run(bundle, small_body(seed=1))


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


# --- what was tried on the engine


def test_gathered_skinning_is_skinning(small: BodyData) -> None:
    from benchmarks.graph_variants import GatheredMesh
    from key2mesh_core.geometry.rotations import axis_angle_to_matrix
    from key2mesh_core.network.graphs import MeshGraph

    torch.manual_seed(0)
    posed = torch.randn(3, 10), axis_angle_to_matrix(torch.randn(3, 24, 3)), torch.randn(3, 3)
    body = BodyModel(small)
    torch.testing.assert_close(GatheredMesh(body)(*posed), MeshGraph(body)(*posed))


def test_what_was_tried_stands_beside_what_is_shipped(
    small: BodyData, bundle: Bundle, tmp_path: Path
) -> None:
    from benchmarks import engine_options

    save_body(tmp_path / "small.npz", small)
    config = engine_options.OptionsConfig(
        model=str(bundle.path),
        body=str(tmp_path / "small.npz"),
        persons=(1, 2),
        threads=1,
        seconds=0.0,
        rounds=1,
        settle_s=0.0,
        output=tmp_path,
    )
    rows = engine_options.main(config)["rows"]
    for size in (1, 2):
        here = [row for row in rows if row["persons"] == size]
        assert [row["part"] for row in here if row["name"] == "as shipped"] == [
            engine_options.POSE, engine_options.MESH, engine_options.BOTH,
        ]  # fmt: skip
        apart = {row["name"]: row["difference_mm"] for row in here if row["difference_mm"]}
        assert len(apart) == 6
        # The body has correctives of pose, so every way to skin it must have used them.
        for name in ("weights as 32-bit floats", "skinning by gathered joints"):
            assert apart[name]["largest"] < 0.1
        rounding = apart["inputs of products rounded to 8 bits"]
        assert rounding["mean"] > 10 * apart["weights as 32-bit floats"]["mean"]
    assert all(row["times_the_shipped"] > 0 for row in rows)
    written = json.loads((tmp_path / engine_options.FILE).read_text())
    assert engine_options.table(written) in (tmp_path / "engine_options.md").read_text()


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
    ratios, timings = training_result["times_the_bare_network"], training_result["timings"]
    assert ratios["network, forward and backward"] == 1
    assert len(ratios) == 5
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in ratios.values())
    for name, speed in training_result["samples_per_s"].items():
        assert speed == pytest.approx(8000 / timings[name]["median_ms"])
    assert training_result["busy"] is None
    table = report.training_table(training_result)
    assert "batch of 8, float32" in table
    assert "nan" not in table


def test_the_bare_networks_floor_grows_with_the_batch_but_for_adam() -> None:
    from benchmarks.training_step import bare_floor_ms

    one, two, four = (bare_floor_ms(LIMITS, size, "float32") for size in (1, 2, 4))
    assert two - one == pytest.approx((four - two) / 2)
    assert one - (two - one) == pytest.approx(1e3 * 7 * 4 * NETWORK_WEIGHTS / 1e10)


@pytest.fixture(scope="module", params=["default", "paper"])
def adaptation_result(
    request: pytest.FixtureRequest,
    small: BodyData,
    bundle: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    from benchmarks import adaptation_step

    folder = tmp_path_factory.mktemp("adaptation")
    save_body(folder / "small.npz", small)
    return adaptation_step.run(
        str(bundle.path),
        str(folder / "small.npz"),
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
    ratios = adaptation_result["times_the_bare_network"]
    assert ratios["networks alone, and Adam"] == 1
    assert ratios["adaptation step"] == adaptation_result["step_over_network_and_adam"]
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in ratios.values())
    assert "adaptation (" in report.training_table(adaptation_result)


# --- what is said of it

NODE = {
    "people": 1, "rate_hz": 30.0, "frames": 60, "meshes": 59, "latency_ms_p50": 2.5,
    "latency_ms_p99": 4.0, "engine_ms_p50": 1.0, "overhead_ms_p50": 1.5,
    "noop_node_ms_p50": 1.25, "growth_ms_per_s": 0.001,
    "back_to_back": {
        "node_ms_p50": 1.75, "engine_ms_p50": 0.75, "overhead_ms_p50": 1.0,
        "noop_node_ms_p50": 0.25,
    },
}  # fmt: skip


@pytest.fixture
def results(table1_result: dict[str, Any], training_result: dict[str, Any]) -> dict[str, Any]:
    adaptation = training_result | {"what": "adaptation (default)", "bare_floor_ms": None}
    return {
        "machine": machine.describe() | {"load_before": 3.0},
        "table1": table1_result,
        "node": [NODE],
        "training": [training_result],
        "adaptation": [adaptation],
        "left_out": {"view": "no browser"},
    }


def test_results_become_tables(results: dict[str, Any]) -> None:
    text = report.to_markdown(results)
    assert "| persons | engine" in text
    assert "Left out: view: no browser" in text
    assert "busy" in text
    line = text.split("growth ms/s |\n")[1].splitlines()[1]
    assert cells(line)[:6] == ["1", "30", "60", "59", "2.5", "4"]
    line = text.split("without pauses")[1].splitlines()[2]
    assert cells(line) == ["1", "1.75", "0.75", "1", "0.25"]
    for row in results["table1"]["rows"]:
        assert f"{row['timing']['median_ms']:.2f}" in text


def test_the_last_table_says_how_far_from_the_floor_everything_is(
    results: dict[str, Any],
) -> None:
    last = report.to_markdown(results).split("## How far from the floor")[1]
    rows = {cells(line)[0]: cells(line) for line in last.splitlines() if line.startswith("|")}
    assert rows["node, 1 at 30 Hz, p50"][1:4] == ["2.50", "1.00", "2.50x"]
    assert "pre-training, float32, step" in rows
    assert "pre-training, float32, the bare networks" in rows
    assert "adaptation (default), float32, step" in rows
    assert "engine, 1 person, mesh" in rows
    assert "engine, 3 persons, joints" in rows
    assert not any(name.startswith("engine, 2") for name in rows)


def test_a_goal_is_met_or_not_by_what_was_seen() -> None:
    def row(name: str, median: float) -> dict[str, Any]:
        return {
            "name": name,
            "persons": 1,
            "mesh": True,
            "timing": {"median_ms": median},
            "times_the_engine": median / 1.2,
        }

    apart = {names.ENGINE: {"largest": 0.9}, names.FLOAT32: {"largest": 0.11}}
    rows = [row(names.ENGINE, 1.2), row(names.PUBLISHED, 7.2), row(names.LEARNED_DESCENT, 60.0)]
    found = goals({"table1": {"rows": rows, "difference_mm": apart}, "node": [NODE]})
    assert [(goal.seen, goal.met) for goal in found] == [
        ("1.20 ms", False), ("6.0x", True), ("50.0x", False), ("0.900 mm", True),
        ("0.110 mm", False), ("1.00 ms", True), ("1.50 ms", False),
    ]  # fmt: skip


def test_the_page_takes_what_was_measured_and_keeps_the_rest(
    results: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "performance.md"
    parts = [*report.sections(results), "options"]
    blocks = [
        f"## {name}\n\n<!-- results: {name} -->\nold {name}\n<!-- end -->\n" for name in parts
    ]
    page.write_text("before\n\n" + "\n".join(blocks) + "\nafter\n")
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "persons.png").write_bytes(b"picture")
    docs.update(tmp_path, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert report.table1(results["table1"]) in text
    assert "old options" in text
    assert "old table1" not in text
    assert (tmp_path / "performance.png").read_bytes() == b"picture"
    assert "](performance.png)" in text
    docs.update(tmp_path, page)
    assert page.read_text() == text

    page.write_text("no places\n")
    with pytest.raises(Key2MeshError, match="table1"):
        docs.update(tmp_path, page)


def test_the_real_page_has_a_place_for_everything(results: dict[str, Any]) -> None:
    text = docs.PAGE.read_text()
    for name in (*report.sections(results), "options"):
        assert text.count(f"<!-- results: {name} -->\n") == 1
    assert text.count("<!-- end -->") == text.count("<!-- results: ")


def test_the_plot_shows_every_curve(table1_result: dict[str, Any]) -> None:
    from benchmarks import plot

    curves = plot.curves(table1_result["rows"])
    assert curves[-1].dashed
    assert len(curves[-1].points) == 3
    assert {len(each.points) for each in curves} == {2, 3}
    picture = np.asarray(plot.draw("title", curves))
    blank = np.asarray(plot.draw("title", curves[-1:]))
    assert (picture != blank).any(axis=2).sum() > 500


def test_what_cannot_run_is_left_out_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import benchmarks.__main__ as command

    def no_ros(*_: object) -> None:
        raise ImportError("librcl.so: cannot open shared object file")

    def no_body(*_: object) -> None:
        raise Key2MeshError("no such body")

    monkeypatch.setattr(command, "_node", no_ros)
    monkeypatch.setattr(command, "_table1", no_body)
    main(BenchmarkConfig(only=("table1", "node"), output=tmp_path / "out"))
    written = json.loads((tmp_path / "out/results.json").read_text())
    assert written["left_out"] == {
        "table1": "no such body",
        "node": "librcl.so: cannot open shared object file",
    }
    assert "librcl" in (tmp_path / "out/results.md").read_text()
    assert "librcl" in capsys.readouterr().out


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert found["cores"] >= 1
    assert "numpy" in found["packages"]
    json.dumps(found)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
