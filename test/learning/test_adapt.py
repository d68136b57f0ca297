# SPDX-License-Identifier: Apache-2.0
"""Adaptation runs: what is trained and what is not, resuming, distributed processes, bad input."""

import inspect
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers_adapt import targets, write_aistpp
from helpers_bundle import make_bundle, rewrite_manifest

from key2mesh_core.body.files import load_body
from key2mesh_core.cli.main import main
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.adapt import job as adapt_module
from key2mesh_core.learning.adapt.config import ADAPT_RECIPES, AdaptConfig, AdaptWeights
from key2mesh_core.learning.adapt.job import adapt
from key2mesh_core.learning.adapt.run import AdaptRun
from key2mesh_core.learning.detections.target_domain import split_in_time, target_domain
from key2mesh_core.learning.distributed import ProcessGroup, local_device
from key2mesh_core.learning.export import write_bundle
from key2mesh_core.learning.runs import device_named, load_checkpoint, save_checkpoint
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.model.bundle import load_bundle

ROOT = Path(__file__).parents[2]
#: Every term but the agreement of several cameras, which test_multi_view.py has: it is slow to fit.
EVERY_TERM = AdaptWeights(
    reprojection=10.0, domain=0.1, features=20.0, agreement=0.0, rehearsal=1.0
)


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


def run_of(settings: AdaptConfig, processes: ProcessGroup = ProcessGroup()) -> AdaptRun:  # noqa: B008
    from key2mesh_core.body.torch_model import BodyModel

    data = load_body(settings.body)
    source = load_trained_model(settings.init, data)
    domain = target_domain(targets(2, 80), True, torch.device("cpu"))
    training, held_out = split_in_time(domain, 0.1)
    return AdaptRun(settings, source, training, held_out, BodyModel(data), None, processes)


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
        assert (steps[0] - steps[1]).norm() > 0.02 * lengths[0]


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


def test_features_are_held_back(model, tmp_path):
    weights = AdaptWeights(reprojection=1.0, domain=0.0, features=1.0, rehearsal=0.0)
    run = run_of(config(model, tmp_path, weights=weights))
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
    rows = [run.sampler.rows(step) for step in range(run.steps_per_epoch)]
    # 144 detections, 16 a step: two passes over all, then a third begins.
    counts = torch.bincount(torch.cat(rows), minlength=len(run.sampler.domain))
    assert len(run.sampler.domain) == 144
    assert counts.min() == 2
    assert counts.max() == 3
    assert all(len(torch.unique(each)) == 16 for each in rows[:9])


def write_small_bundle(output: Path, **what):
    """In place of `write_bundle`, which takes half a minute: other graphs, the same words."""
    inspect.signature(write_bundle).bind(output, **what)
    make_bundle(output)
    rewrite_manifest(output, lambda m: m.update(name=what["name"], card=what["card"]))
    return load_bundle(output)


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.long)])
def finished(model, tmp_path_factory, request):
    """A run to its end, bundle and all, and its result; the parameter exports for real."""
    output = tmp_path_factory.mktemp("finished") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        if not request.param:
            patch.setattr(adapt_module, "write_bundle", write_small_bundle)
        return adapt(config(model, output))


@pytest.fixture
def again(model, finished, tmp_path, monkeypatch):
    """The settings of a finished run of one's own, whose folder may be altered; exports nothing."""
    shutil.copytree(work_folder(finished), tmp_path / "mine.adaptation")
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    return config(model, tmp_path / "mine")


def work_folder(result) -> Path:
    return result.bundle.with_name(result.bundle.name + ".adaptation")


def test_a_run_leaves_a_bundle_a_history_and_logs(finished):
    bundle = load_bundle(finished.bundle)
    assert bundle.name == ("key2mesh-adapted" if finished.adapted else "key2mesh")
    facts = bundle.card["adaptation"]
    assert (facts["epoch"], facts["adapted"]) == (finished.epoch, finished.adapted)
    assert facts["detections"] == 160
    lines = (work_folder(finished) / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]
    assert list((work_folder(finished) / "logs").iterdir())
    assert sorted(path.name for path in finished.bundle.parent.iterdir()) == [
        "mine",
        "mine.adaptation",
    ]


def test_a_finished_run_is_not_computed_again(again, finished, monkeypatch):
    monkeypatch.setattr(AdaptRun, "advance", None)
    assert adapt(again).history == finished.history


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
    assert "not adapted: " in capsys.readouterr().out
    assert written["name"] == "key2mesh"
    assert not written["card"]["adaptation"]["adapted"]
    source = load_trained_model(str(model / "start.pt"), load_body(str(model / "body.npz")))
    assert same(parameters(written["network"]), parameters(source.network))
    adapt(config(model, tmp_path / "mine", epochs=1, always_adapt=True))
    assert not same(parameters(written["network"]), parameters(source.network))


def test_a_run_interrupted_three_times_equals_an_uninterrupted_one(model, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    adapt(config(model, tmp_path / "whole", members=2))
    # In the first member, between both, and in the second.
    advance, interrupt_at = AdaptRun.advance, [3, 18, 27]

    def advance_and_interrupt(run):
        if interrupt_at and run.step == interrupt_at[0]:
            signal.raise_signal(signal.SIGINT)
            interrupt_at.pop(0)
        return advance(run)

    monkeypatch.setattr(AdaptRun, "advance", advance_and_interrupt)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            adapt(config(model, tmp_path / "parts", members=2))
    adapt(config(model, tmp_path / "parts", members=2))
    assert not interrupt_at
    states = [load_checkpoint(tmp_path / f"{n}.adaptation" / "last.pt") for n in ("whole", "parts")]
    for part in ("extractor", "averaged", "mean", "critic", "best_extractor"):
        assert same(states[0][part], states[1][part])
    assert states[0]["history"] == states[1]["history"]


_COMMAND = """
import sys
from key2mesh_core.cli.main import main
from key2mesh_core.learning.adapt import job
job._export = lambda *_: None  # what comes out is compared before it becomes a bundle
sys.exit(main(sys.argv[1:]))
"""


def words_of(model: Path, output: Path) -> list[str]:
    """A command line."""
    return f"""adapt --target aistpp:{model / "detections"} --init {model / "start.pt"}
        --body {model / "body.npz"} --output {output} --threads 1 --batch-size 16 --members 2
        --epochs 2 --least-steps 1 --weights.domain 0.1 --weights.agreement 0 --critic-updates 2
        --seconds-between-checkpoints 0.2""".split()


def test_the_command_adapts(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    threads = torch.get_num_threads()
    assert main(words_of(model, tmp_path / "mine")) == 0
    torch.set_num_threads(threads)
    assert "160 detections in 2 sequences" in capsys.readouterr().out
    assert (tmp_path / "mine.adaptation" / "last.pt").exists()


@pytest.mark.long  # the same loop's pre-training is killed in test_pretrain.py
def test_a_killed_process_continues_to_the_same_result(model, tmp_path, monkeypatch):
    """kill -9 at a random moment of the command, then the very same command again."""
    output = tmp_path / "killed"
    command = [sys.executable, "-c", _COMMAND, *words_of(model, output)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    last = tmp_path / "killed.adaptation" / "last.pt"
    deadline = time.monotonic() + 240
    while not last.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1))
    process.kill()
    process.wait()
    again = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert re.search(r"[1-9]\d* of \d+ steps", again.stdout)
    monkeypatch.setattr(adapt_module, "_export", lambda *_: None)
    weights = AdaptWeights(domain=0.1, agreement=0.0)
    threads = torch.get_num_threads()
    whole = config(model, tmp_path / "whole", members=2, weights=weights, critic_dropout=0.2)
    adapt(replace(whole, threads=1))
    torch.set_num_threads(threads)
    states = [
        load_checkpoint(tmp_path / f"{n}.adaptation" / "last.pt") for n in ("whole", "killed")
    ]
    for part in ("extractor", "averaged", "mean", "critic", "best_extractor"):
        assert same(states[0][part], states[1][part])
    assert states[0]["history"] == states[1]["history"]


_WORKER = """
import json, sys
from pathlib import Path
import torch
sys.path[:0] = [{test!r}, {root!r}, {here!r}]
torch.set_num_threads(1)
from test_adapt import RECIPES_WITHOUT_DROPOUT, config, run_of, two_steps
from key2mesh_core.learning.distributed import process_group
output = Path({output!r})
with process_group(torch.device("cpu")) as processes:
    for name, changes in RECIPES_WITHOUT_DROPOUT.items():
        settings = config(Path({model!r}), output, **{{**changes, "batch_size": 8}})
        terms = two_steps(run_of(settings, processes))
        if processes.first:
            (output / f"{{name}}.json").write_text(json.dumps(terms))
"""

#: Each process draws the critic's dropout on its own (see distributed.py); all else is shared.
RECIPES_WITHOUT_DROPOUT = {
    name: {
        "weights": recipe.weights,
        "synthesis": recipe.synthesis,
        "reprojection_camera": recipe.reprojection_camera,
        "trust_confidence": recipe.trust_confidence,
        "detector_noise": recipe.detector_noise,
        "schedule": recipe.schedule,
        "average": recipe.average,
    }
    for name, (_, recipe) in ADAPT_RECIPES.items()
}


def two_steps(run: AdaptRun) -> list[dict[str, float]]:
    return [{name: float(term) for name, term in run.advance().items()} for _ in range(2)]


@pytest.mark.long
def test_two_processes_compute_what_one_does_with_the_double_batch(model, tmp_path):
    """Every recipe, over gloo."""
    program = tmp_path / "worker.py"
    folders = {"test": ROOT / "test", "root": ROOT, "here": Path(__file__).parent}
    folders |= {"model": model, "output": tmp_path}
    program.write_text(_WORKER.format(**{name: str(path) for name, path in folders.items()}))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([sys.executable, *command, str(program)], check=True, timeout=400)
    for name, changes in RECIPES_WITHOUT_DROPOUT.items():
        together = json.loads((tmp_path / f"{name}.json").read_text())
        alone = two_steps(run_of(config(model, tmp_path, **{**changes, "batch_size": 16})))
        for one, other in zip(alone, together, strict=True):
            assert one.keys() == other.keys()
            assert other == pytest.approx(one, rel=2e-3, abs=1e-5)


def test_several_processes_do_not_share_a_gpu(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="one GPU for 2 processes"):
        local_device(torch.device("cuda", 1))
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(TrainingError, match="process 99 of this machine has no GPU"):
        local_device(torch.device("cuda"))
    assert local_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(TrainingError, match=f"--device .?{name}"):
        device_named(name)


def poisoned(advance, at: int, interrupt: bool = False):
    """`AdaptRun.advance` whose loss is NaN after step `at`."""

    def advance_to_nan(run):
        terms = advance(run)
        if run.step == at:
            if interrupt:
                signal.raise_signal(signal.SIGINT)
            return terms | {"total": torch.tensor(float("nan"))}
        return terms

    return advance_to_nan


@pytest.mark.parametrize("interrupt", [False, True])
@pytest.mark.parametrize("at", [5, 9])  # within an epoch, and at the end of the first
def test_a_loss_that_is_not_finite_overwrites_nothing(model, tmp_path, monkeypatch, at, interrupt):
    settings = config(model, tmp_path / "mine", seconds_between_checkpoints=0.0)
    monkeypatch.setattr(AdaptRun, "advance", poisoned(AdaptRun.advance, at, interrupt))
    with pytest.raises(TrainingError, match=r"the loss is nan.*last\.pt.*--learning-rate"):
        adapt(settings)
    state = load_checkpoint(tmp_path / "mine.adaptation" / "last.pt")
    assert state["step"] == at - 1
    assert not (tmp_path / "mine").exists()


def test_a_weight_that_is_not_finite_overwrites_nothing(model, tmp_path, monkeypatch):
    """The loss is computed before the step that ruins the weights."""
    advance = AdaptRun.advance

    def ruin(run):
        terms = advance(run)
        if run.step == 5:
            with torch.no_grad():
                next(run.extractor.parameters())[0, 0] = float("inf")
        return terms

    monkeypatch.setattr(AdaptRun, "advance", ruin)
    with pytest.raises(TrainingError, match="a weight is not finite"):
        adapt(config(model, tmp_path / "mine", seconds_between_checkpoints=0.0))
    assert load_checkpoint(tmp_path / "mine.adaptation" / "last.pt")["step"] == 4


def test_a_folder_of_another_run_is_refused(again):
    with pytest.raises(TrainingError, match=r"other settings \(seed\)"):
        adapt(replace(again, seed=1))


def test_a_start_that_changed_behind_its_name_is_refused(again):
    state = load_checkpoint(again.work_folder / "last.pt")
    del state["format"]
    save_checkpoint(again.work_folder / "last.pt", state | {"origin": "another"})
    with pytest.raises(TrainingError, match="another model to start from"):
        adapt(again)


def test_a_target_of_the_same_size_that_changed_is_refused(again, model, tmp_path):
    """One keypoint of 160 detections, by one pixel."""
    folder = tmp_path / "detections"
    shutil.copytree(model / "detections", folder)
    settings = replace(again, target=(f"aistpp:{folder}",))
    (path,) = folder.iterdir()
    recording = pickle.loads(path.read_bytes())
    recording["keypoints2d"][0, 0, 0, 0] += 1
    path.write_bytes(pickle.dumps(recording))
    # The settings name the folder; they are the same again once it is written there.
    written = json.loads((again.work_folder / "settings.json").read_text())
    written["target"] = list(settings.target)
    (again.work_folder / "settings.json").write_text(json.dumps(written))
    with pytest.raises(TrainingError, match="another target"):
        adapt(settings)


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
    with pytest.raises(TrainingError, match="--target is missing"):
        adapt(replace(settings, target=()))


def test_what_is_no_bundle_is_not_overwritten(model, tmp_path):
    settings = config(model, tmp_path / "mine")
    for occupied in (tmp_path / "mine", tmp_path / "papers" / "thesis.tex"):
        occupied.parent.mkdir(exist_ok=True)
        occupied.write_text("mine")
        output = tmp_path / occupied.relative_to(tmp_path).parts[0]
        with pytest.raises(TrainingError, match=str(output)):
            adapt(replace(settings, output=output))
        assert occupied.read_text() == "mine"
    assert not settings.work_folder.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"members": 0}, "members must be at least 1, got 0"),
        ({"least_steps": 0}, "least_steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"horizontal_fov": 180.0}, "between 0 and 180 degrees, got 180"),
        ({"hold_out": 1.0}, "hold_out must be within 0 and 1, got 1.0"),
        ({"average": 1.0}, "average must be within 0 and 1, got 1.0"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        AdaptConfig(**changes)
