# SPDX-License-Identifier: Apache-2.0
"""Training runs: they learn, resume to the same result, survive being killed, refuse bad input."""

import os
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
from helpers_training import small_body, write_clip, write_data

from key2mesh_core.body.files import load_body, save_body
from key2mesh_core.errors import Key2MeshError, TrainingError
from key2mesh_core.interrupts import deferred_interrupts
from key2mesh_core.learning.pretrain.config import PRETRAIN_RECIPES, LossWeights, PretrainConfig
from key2mesh_core.learning.pretrain.job import (
    Run,
    pretrain,
)
from key2mesh_core.learning.runs import load_checkpoint, moving_average, save_checkpoint, scheduled
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.synthesis.config import SynthesisConfig

ROOT = Path(__file__).parents[2]


#: Narrower than the real network: the same code in a fraction of the time.
FEATURES = 128


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), clips=4)


def config(data: Path, output: Path, **changes) -> PretrainConfig:
    return PretrainConfig(
        motions=(str(data / "clips"),),
        output=output,
        held_out=("3_poses.npz",),
        body=str(data / "body.npz"),
        **{
            "epochs": 2,
            "steps_per_epoch": 6,
            "batch_size": 16,
            "evaluation_frames": 32,
            "average": 0.9,
            "features": FEATURES,
            "fitted": 4,
        }
        | changes,
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(path)
    return {f"{part}.{k}": v for part in ("network", "trained") for k, v in state[part].items()}


def assert_same(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def first(data, tmp_path_factory):
    """The best checkpoint of a run to start from."""
    output = tmp_path_factory.mktemp("first")
    pretrain(config(data, output, epochs=1))
    return output / "best.pt"


def test_a_run_may_start_from_another_ones_network(data, first, tmp_path):
    """And its own checkpoint is a start again."""
    settings, body = config(data, tmp_path, init=str(first), epochs=1), load_body(data / "body.npz")
    inputs = torch.rand(8, 18, 5)
    run = Run(settings)
    assert run.step == 0
    start = load_trained_model(first, body).network
    with torch.no_grad():
        for network in (run.network, run.evaluated()):
            assert torch.equal(network(inputs).rotations, start(inputs).rotations)
    pretrain(settings)
    state = load_checkpoint(tmp_path / "last.pt")
    run.restore(state)
    slopes = [name for name in state["trained"] if state["trained"][name].numel() == 1]
    assert slopes
    assert all(state["trained"][name] != Run(settings).state()["trained"][name] for name in slopes)
    again = load_trained_model(tmp_path / "last.pt", body).network
    with torch.no_grad():
        expected = run.evaluated().eval()(inputs).rotations
        torch.testing.assert_close(again(inputs).rotations, expected)
    assert not torch.equal(expected, start(inputs).rotations)


def test_a_run_may_start_from_a_bundle(data, tmp_path):
    source = load_trained_model("default", load_body("default"))
    sizes = {"network": source.network.name, "features": source.network.sizes["features"]}
    settings = replace(config(data, tmp_path, init="default", **sizes), body="default")
    run = Run(settings)
    inputs = torch.rand(8, 18, 5)
    with torch.no_grad():
        assert torch.equal(run.network(inputs).betas, source.network(inputs).betas)
    run.advance()
    with torch.no_grad():
        assert not torch.equal(run.network(inputs).betas, source.network(inputs).betas)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 64}, "has architecture"),
        ({"network": "key2mesh"}, "has architecture"),
        ({"synthesis": SynthesisConfig(centre_view=False)}, "has centre_view True, not False"),
        ({"init": "absent"}, "absent"),
    ],
)
def test_an_unsuitable_start_is_refused(data, first, tmp_path, changes, message):
    with pytest.raises(Key2MeshError, match=message):
        Run(config(data, tmp_path, **{"init": str(first)} | changes))


def test_the_network_of_another_body_is_no_start(data, first, tmp_path):
    save_body(tmp_path / "other.npz", small_body(seed=5))
    other = config(data, tmp_path / "second", init=str(first))
    with pytest.raises(TrainingError, match=" small@"):
        Run(replace(other, body=str(tmp_path / "other.npz")))


def test_no_step_is_longer_than_the_norm_allows(data, tmp_path):
    """Adam does not see the length of a single gradient, but its moments do."""
    runs = [Run(config(data, tmp_path, max_norm=norm)) for norm in (0.0, 1e-3)]
    for run in runs:
        run.advance()
    norms = [
        torch.nn.utils.get_total_norm([p.grad for p in run.network.parameters()]) for run in runs
    ]
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("recipe", ["robot", "paper"])
def test_training_lowers_the_loss(data, tmp_path, recipe):
    settings = replace(
        PRETRAIN_RECIPES[recipe][1],
        motions=(str(data / "clips"),),
        output=tmp_path,
        body=str(data / "body.npz"),
        batch_size=32,
        steps_per_epoch=40,
        epochs=1,
        dropout=0.0,
        loss=LossWeights(betas=0.0),
    )
    run = Run(settings)
    losses = [float(run.advance()["total"]) for _ in range(35)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_another_seed_draws_other_samples(data, tmp_path):
    batches = [Run(config(data, tmp_path, seed=seed)).sampler.batch(0).inputs for seed in (0, 0, 1)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_a_run_leaves_checkpoints_settings_and_logs(data, tmp_path):
    pretrain(config(data, tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"best.pt", "last.pt", "settings.json", "logs"} <= names
    assert not list(tmp_path.glob(".*"))
    assert list((tmp_path / "logs").iterdir())
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 12


def test_a_run_interrupted_twice_equals_an_uninterrupted_one(data, tmp_path, monkeypatch):
    pretrain(config(data, tmp_path / "whole"))
    advance, interrupt_at = Run.advance, [4, 9]

    def advance_and_interrupt(run):
        if interrupt_at and run.step == interrupt_at[0]:
            signal.raise_signal(signal.SIGINT)
            interrupt_at.pop(0)
        return advance(run)

    monkeypatch.setattr(Run, "advance", advance_and_interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrain(config(data, tmp_path / "parts"))
    pretrain(config(data, tmp_path / "parts"))
    assert not interrupt_at
    assert_same(tmp_path / "whole" / "last.pt", tmp_path / "parts" / "last.pt")
    assert_same(tmp_path / "whole" / "best.pt", tmp_path / "parts" / "best.pt")


def test_a_killed_process_continues_to_the_same_result(data, tmp_path):
    """kill -9 in the middle of the command, then the very same command again."""
    output = tmp_path / "killed"
    words = f"""pretrain robot --motions {data / "clips"} --output {output} --held-out 3_poses.npz
        --body {data / "body.npz"} --epochs 3 --steps-per-epoch 5 --batch-size 16
        --evaluation-frames 16 --threads 1 --fitted 4 --features 128""".split()
    command = [sys.executable, "-m", "key2mesh_core", *words]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (output / "last.pt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    again = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert re.search(r"[1-9]\d* of \d+ steps", again.stdout)
    assert "key2mesh export" in again.stdout  # what comes next
    changes = {"epochs": 3, "steps_per_epoch": 5, "evaluation_frames": 16, "average": 0.999}
    threads = torch.get_num_threads()
    pretrain(config(data, tmp_path / "whole", threads=1, **changes))
    torch.set_num_threads(threads)
    assert_same(tmp_path / "whole" / "last.pt", output / "last.pt")


def test_a_folder_of_another_run_is_refused(data, tmp_path):
    with pytest.raises(TrainingError, match="absent"):  # what never began is no run
        pretrain(replace(config(data, tmp_path, epochs=1), motions=(str(tmp_path / "absent"),)))
    pretrain(config(data, tmp_path, epochs=1))
    with pytest.raises(TrainingError, match=r"other settings \(seed\)"):
        pretrain(config(data, tmp_path, epochs=1, seed=1))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match=r"last\.pt.*No space left"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_damaged_and_hostile_checkpoints_are_refused_by_name(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    save_checkpoint(tmp_path / "good.pt", {"step": 1})
    (tmp_path / "cut.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:200])
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save(Bomb(), tmp_path / "bomb.pt")
    (tmp_path / "executed").unlink(missing_ok=True)
    torch.save({"format": 99}, tmp_path / "future.pt")
    for name in ("cut", "empty", "bomb", "future", "missing"):
        with pytest.raises(TrainingError, match=rf"{name}\.pt"):
            load_checkpoint(tmp_path / f"{name}.pt")
    assert not (tmp_path / "executed").exists()


def test_a_diverged_loss_stops_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr("key2mesh_core.learning.pretrain.job._STEPS_BETWEEN_REPORTS", 3)
    with pytest.raises(TrainingError, match="--learning-rate"):
        pretrain(config(data, tmp_path, learning_rate=1e38))
    assert not list(tmp_path.glob("*.pt"))


def test_a_loss_that_is_not_finite_at_the_end_of_an_epoch_is_never_the_best(
    data, tmp_path, monkeypatch
):
    """Without held-out clips the best checkpoint is the latest."""
    advance = Run.advance

    def advance_to_nan(run):
        terms = advance(run)
        return terms | {"total": torch.tensor(float("nan"))} if run.step == 12 else terms

    monkeypatch.setattr(Run, "advance", advance_to_nan)
    with pytest.raises(TrainingError, match="diverged"):
        pretrain(replace(config(data, tmp_path), held_out=()))
    for name in ("best.pt", "last.pt"):
        assert load_checkpoint(tmp_path / name)["step"] == 6


def test_motion_capture_that_changed_behind_its_name_is_refused(data, tmp_path):
    clips = tmp_path / "clips"
    shutil.copytree(data / "clips", clips)
    settings = replace(config(data, tmp_path / "run", epochs=1), motions=(str(clips),))
    pretrain(settings)
    write_clip(clips / "0_poses.npz", seed=9)
    with pytest.raises(TrainingError, match="other motion capture"):
        pretrain(settings)


@pytest.mark.parametrize("part", ["data", "optimiser"])
def test_a_run_of_an_older_version_is_refused_by_name(data, tmp_path, part):
    settings = config(data, tmp_path, epochs=1)
    pretrain(settings)
    state = load_checkpoint(tmp_path / "last.pt")
    del state[part], state["format"]
    save_checkpoint(tmp_path / "last.pt", state)
    with pytest.raises(TrainingError, match=rf"last\.pt .* '{part}'"):
        pretrain(settings)


def test_without_motions_the_usage_is_said(tmp_path):
    with pytest.raises(TrainingError, match="--motions is missing: key2mesh pretrain"):
        pretrain(PretrainConfig(output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_schedules():
    robot, paper = (PRETRAIN_RECIPES[name][1] for name in ("robot", "paper"))
    epoch, total = robot.steps_per_epoch, robot.epochs * robot.steps_per_epoch

    def share(recipe: PretrainConfig, step: int) -> float:
        return scheduled(recipe.schedule, step, total, epoch, warm_up=500)

    assert share(robot, 0) < 1e-2
    assert share(robot, 500) == pytest.approx(1, rel=0.01)
    assert share(robot, total - 1) < 1e-3
    assert share(paper, 0) == 1
    assert share(paper, 9 * epoch) == pytest.approx(0.8**9)


def test_the_moving_average_forgets_its_start_and_then_remembers():
    update, average = moving_average(0.99), [torch.full((3,), 1000.0)]
    for step in range(2000):
        update(average, [torch.full((3,), float(step % 2))], torch.tensor(step))
    torch.testing.assert_close(average[0], torch.full((3,), 0.5), atol=0.01, rtol=0)
    counter = [torch.tensor(3)]
    update(counter, [torch.tensor(9)], torch.tensor(5))
    assert counter[0] == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        PretrainConfig(**{"motions": ("a",), "output": Path("b")} | changes)


def test_everything_held_out_is_refused(data, tmp_path):
    with pytest.raises(TrainingError, match="held out"):
        Run(replace(config(data, tmp_path), held_out=("*.npz",)))


def test_ctrl_c_waits_for_the_end_of_a_step():
    with deferred_interrupts() as check:
        check()
        signal.raise_signal(signal.SIGINT)  # nothing happens yet
        with pytest.raises(KeyboardInterrupt):
            check()
    with pytest.raises(KeyboardInterrupt):  # Python's own handler is back
        signal.raise_signal(signal.SIGINT)


def test_a_second_ctrl_c_does_not_wait():
    with deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
