# SPDX-License-Identifier: Apache-2.0
"""Adaptation runs: what moves and what must not, resuming, processes side by side, bad input."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers_adapt import save_model, targets, write_aistpp
from helpers_training import write_clip

from key2mesh_core.body.files import load_body
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.adapt import job as adapt_module
from key2mesh_core.learning.adapt.config import ADAPT_RECIPES, AdaptConfig, AdaptWeights
from key2mesh_core.learning.adapt.job import adapt
from key2mesh_core.learning.adapt.run import AdaptRun
from key2mesh_core.learning.adapt.target_domain import split_in_time, target_domain
from key2mesh_core.learning.checkpoints import load_checkpoint, save_checkpoint
from key2mesh_core.learning.distributed import Crew
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.model.bundle import load_bundle

ROOT = Path(__file__).parents[2]
EVERY_TERM = AdaptWeights(reprojection=10.0, domain=0.1, features=20.0, rehearsal=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder)
    write_aistpp(folder / "detections" / "gBR_ch06.pkl", people=2, frames=80)
    write_clip(folder / "clips" / "one_poses.npz")
    return folder


def config(model: Path, output: Path, **changes) -> AdaptConfig:
    return AdaptConfig(
        target=(f"aistpp:{model / 'detections'}",),
        output=output,
        init=str(model / "start.pt"),
        body=str(model / "body.npz"),
        **{
            "batch_size": 16,
            "members": 1,
            "epochs": 2,
            "least_steps": 1,
            "weights": EVERY_TERM,
            "critic_updates": 2,
            "critic_dropout": 0.0,
        }
        | changes,
    )


def run_of(settings: AdaptConfig, workers: Crew = Crew()) -> AdaptRun:  # noqa: B008
    from key2mesh_core.body.torch_model import BodyModel

    data = load_body(settings.body)
    source = load_trained_model(settings.init, data)
    domain = target_domain(targets(2, 80), True, 60.0, torch.device("cpu"))
    training, held_out = split_in_time(domain, 0.1)
    return AdaptRun(settings, source, training, held_out, BodyModel(data), None, workers)


def parameters(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_only_the_extractor_learns(model, tmp_path, recipe):
    """The source extractor and the head do not change by one bit."""
    defaults = ADAPT_RECIPES[recipe][1]
    run = run_of(
        replace(
            config(model, tmp_path),
            recipe=recipe,
            weights=defaults.weights,
            synthesis=defaults.synthesis,
            reprojection_camera=defaults.reprojection_camera,
        )
    )
    head, extractor = parameters(run.head), parameters(run.source.extractor)
    for _ in range(3):
        run.advance()
    assert same(parameters(run.head), head)
    assert same(parameters(run.source.extractor), extractor)
    assert not same(parameters(run.extractor), extractor)


def test_with_all_weights_zero_nothing_moves(model, tmp_path):
    nothing = AdaptWeights(0.0, 0.0, 0.0, 0.0, 0.0)
    run = run_of(config(model, tmp_path, weights=nothing, members=3, epochs=1))
    before = parameters(run.extractor), parameters(run.critic), parameters(run.averaged)
    for _ in range(run.total_steps):
        assert run.advance().keys() == {"total"}
    after = parameters(run.extractor), parameters(run.critic), parameters(run.averaged)
    assert all(map(same, before, after))
    assert same(run.network_of(3).extractor.state_dict(), before[0])


def test_members_begin_alike_and_what_comes_out_is_their_mean(model, tmp_path):
    settings = config(model, tmp_path, members=3, learning_rate=1e-3)
    run, alone = run_of(settings), run_of(replace(settings, members=1))
    members = []
    for _ in range(3):
        for _ in range(run.steps_per_member):
            run.advance()
        members.append(parameters(run.averaged))
    assert run.step == run.total_steps == 3 * alone.total_steps
    for _ in range(alone.total_steps):
        alone.advance()
    assert same(parameters(alone.averaged), members[0])
    begun, found = parameters(run.source.extractor), run.network_of(6).extractor.state_dict()
    for name, value in found.items():
        steps = torch.stack([each[name] - begun[name] for each in members])
        torch.testing.assert_close(value, begun[name] + steps.mean(0), rtol=0, atol=1e-6)
        # They went as far as each other, and not to the same place.
        lengths = steps.flatten(1).norm(dim=1)
        assert lengths.max() < 1.5 * lengths.min()
        assert (steps[0] - steps[1]).norm() > 0.05 * lengths[0]


@pytest.mark.parametrize("term", ["reprojection", "domain", "features", "rehearsal"])
def test_every_term_works_alone(model, tmp_path, term):
    weights = replace(AdaptWeights(0.0, 0.0, 0.0, 0.0, 0.0), **{term: 1.0})
    run = run_of(config(model, tmp_path, weights=weights))
    critic = parameters(run.critic)
    first, second = run.advance(), run.advance()
    wanted = {"total", term} | ({"distance"} if term == "domain" else set())
    assert first.keys() == wanted
    assert same(critic, parameters(run.critic)) is (term != "domain")
    # Features start equal: their difference is zero until another term moves them.
    assert (float(second["total"]) == 0) is (term == "features")


@pytest.mark.parametrize("features_on", ["target", "source", "both"])
def test_features_are_held_back_on_the_chosen_input(model, tmp_path, features_on):
    weights = AdaptWeights(reprojection=1.0, domain=0.0, features=1.0, rehearsal=0.0)
    run = run_of(config(model, tmp_path, weights=weights, features_on=features_on))
    run.advance()
    assert float(run.advance()["features"]) > 0


def test_adaptation_lowers_its_losses(model, tmp_path):
    weights = AdaptWeights(reprojection=10.0, domain=0.0, features=0.0, rehearsal=1.0)
    run = run_of(config(model, tmp_path, weights=weights, learning_rate=1e-3, epochs=20))
    losses = [float(run.advance()["total"]) for _ in range(40)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_small_target_is_passed_over_more_often(model, tmp_path):
    run = run_of(config(model, tmp_path, epochs=2, least_steps=41))
    assert run.total_steps == 42
    rows = [run.draws.rows(step) for step in range(run.steps_per_epoch)]
    # 144 detections, 16 a step: two passes over all, then a third begins.
    counts = torch.bincount(torch.cat(rows), minlength=len(run.domain))
    assert len(run.domain) == 144
    assert counts.min() == 2
    assert counts.max() == 3
    assert all(len(torch.unique(each)) == 16 for each in rows[:9])


def test_a_run_leaves_a_bundle_a_history_and_logs(model, tmp_path, monkeypatch):
    result = adapt(config(model, tmp_path / "mine"))
    bundle = load_bundle(result.bundle)
    assert bundle.name == "key2mesh-adapted"
    facts = bundle.card["adaptation"]
    assert facts["epoch"] == result.epoch
    assert facts["detections"] == 160
    lines = (tmp_path / "mine.adaptation" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]
    assert list((tmp_path / "mine.adaptation" / "logs").iterdir())
    assert not list(tmp_path.rglob(".*.*"))
    # Once more: nothing is left to compute, and the same comes out.
    monkeypatch.setattr(AdaptRun, "advance", None)
    monkeypatch.setattr(adapt_module, "write_bundle", lambda *_a, **_k: bundle)
    assert adapt(config(model, tmp_path / "mine")).history == result.history


def test_motion_capture_can_be_the_source_domain(model, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    result = adapt(config(model, tmp_path / "mine", motions=(str(model / "clips"),), epochs=1))
    assert result.history[0]["source_mm"] > 0


def test_a_model_that_was_better_before_is_kept(model, tmp_path, monkeypatch, capsys):
    """Whatever the epochs brought, the old weights are exported when they are judged worse."""
    written = {}

    def write(output: Path, **what):
        written.update(what)
        return load_bundle("default")

    monkeypatch.setattr(adapt_module, "write_bundle", write)
    monkeypatch.setattr(adapt_module, "choose", lambda _history: 0)
    result = adapt(config(model, tmp_path / "mine", epochs=1))
    assert (result.adapted, result.epoch) == (False, 0)
    assert "do not adapt" in capsys.readouterr().out
    source = load_trained_model(str(model / "start.pt"), load_body(str(model / "body.npz")))
    assert same(parameters(written["network"]), parameters(source.network))
    adapt(config(model, tmp_path / "mine", epochs=1, always_adapt=True))
    assert not same(parameters(written["network"]), parameters(source.network))


def test_a_run_interrupted_three_times_equals_an_uninterrupted_one(model, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    adapt(config(model, tmp_path / "whole", members=2))
    # In the first member, between both, and in the second.
    advance, interrupt_at = AdaptRun.advance, [3, 18, 27]

    def advance_or_interrupt(run):
        if interrupt_at and run.step == interrupt_at[0]:
            interrupt_at.pop(0)
            raise KeyboardInterrupt
        return advance(run)

    monkeypatch.setattr(AdaptRun, "advance", advance_or_interrupt)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            adapt(config(model, tmp_path / "parts", members=2))
    adapt(config(model, tmp_path / "parts", members=2))
    assert not interrupt_at
    states = [load_checkpoint(tmp_path / f"{n}.adaptation" / "last.pt") for n in ("whole", "parts")]
    for part in ("extractor", "averaged", "mean", "critic", "best_extractor"):
        assert same(states[0][part], states[1][part])
    assert states[0]["history"] == states[1]["history"]


def test_a_killed_process_continues_to_the_same_bundle(model, tmp_path):
    """kill -9 at a random step of the real command, then the very same command again."""

    def command(output: Path) -> list[str]:
        words = f"""-m key2mesh_core adapt --target aistpp:{model / "detections"}
            --init {model / "start.pt"} --body {model / "body.npz"} --output {output} --threads 1
            --batch-size 16 --members 2 --epochs 2 --least-steps 1 --weights.domain 0.1
            --critic-updates 2 --seconds-between-checkpoints 0.2""".split()
        return [sys.executable, *words]

    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command(tmp_path / "whole"), check=True, env=environment, capture_output=True)
    process = subprocess.Popen(
        command(tmp_path / "killed"), env=environment, stderr=subprocess.DEVNULL
    )
    last = tmp_path / "killed.adaptation" / "last.pt"
    deadline = time.monotonic() + 120
    while not last.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    again = subprocess.run(
        command(tmp_path / "killed"), check=True, env=environment, capture_output=True, text=True
    )
    assert "continuing" in again.stdout
    for name in ("pose.onnx", "mesh.onnx", "topology.npz"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


_WORKER = """
import json, sys
import torch
sys.path[:0] = [{test!r}, {root!r}]
torch.set_num_threads(1)
from training.test_adapt import config, run_of, two_steps
from key2mesh_core.learning.distributed import crew
from pathlib import Path
with crew(torch.device("cpu")) as workers:
    terms = two_steps(run_of(config(Path({model!r}), Path({output!r}), batch_size=8), workers))
    if workers.first:
        Path({output!r}, "terms.json").write_text(json.dumps(terms))
"""


def two_steps(run: AdaptRun) -> list[dict[str, float]]:
    return [{name: float(term) for name, term in run.advance().items()} for _ in range(2)]


def test_two_processes_compute_what_one_does_with_the_double_batch(model, tmp_path):
    program = tmp_path / "worker.py"
    program.write_text(
        _WORKER.format(
            test=str(ROOT / "test"), root=str(ROOT), model=str(model), output=str(tmp_path)
        )
    )
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(program)],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    together = json.loads((tmp_path / "terms.json").read_text())
    alone = two_steps(run_of(config(model, tmp_path, batch_size=16)))
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        assert other == pytest.approx(one, rel=2e-3, abs=1e-5)


def test_a_folder_of_another_run_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    adapt(config(model, tmp_path / "mine", epochs=1))
    with pytest.raises(TrainingError, match=r"other settings \(seed\)"):
        adapt(config(model, tmp_path / "mine", epochs=1, seed=1))


def test_a_start_that_changed_behind_its_name_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    adapt(config(model, tmp_path / "mine", epochs=1))
    state = load_checkpoint(tmp_path / "mine.adaptation" / "last.pt")
    del state["format"]
    save_checkpoint(tmp_path / "mine.adaptation" / "last.pt", state | {"origin": "another"})
    with pytest.raises(TrainingError, match="other files behind the same names"):
        adapt(config(model, tmp_path / "mine", epochs=1))


def test_a_full_disk_loses_nothing(model, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TrainingError, match="No space left"):
            adapt(config(model, tmp_path / "mine", epochs=1))
    assert not (tmp_path / "mine").exists()
    assert not list(tmp_path.rglob(".*.*"))
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    adapt(config(model, tmp_path / "mine", epochs=1))


def test_too_few_detections_are_refused(model, tmp_path):
    write_aistpp(tmp_path / "few" / "gBR_ch06.pkl", people=1, frames=20)
    settings = replace(config(model, tmp_path / "mine"), target=(f"aistpp:{tmp_path / 'few'}",))
    with pytest.raises(TrainingError, match="18 detections to adapt to; at least 64"):
        adapt(settings)
    with pytest.raises(TrainingError, match="--target names no detections"):
        adapt(replace(settings, target=()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"members": 0}, "members must be at least 1, got 0"),
        ({"least_steps": 0}, "least_steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"horizontal_fov": 180.0}, "between 0 and 180 degrees, got 180"),
        ({"keep": 0.0}, "keep one above 0, got 0.1 and 0.0"),
        ({"average": 1.0}, "got 3.0 and 1.0"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        AdaptConfig(**changes)
