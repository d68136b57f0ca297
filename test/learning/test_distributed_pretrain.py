# SPDX-License-Identifier: Apache-2.0
"""Pre-training by several processes: what one computes with a larger batch, killed or not."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers_training import write_data

from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.pretrain.config import PRETRAIN_RECIPES, PretrainConfig
from key2mesh_core.learning.pretrain.job import Run
from key2mesh_core.learning.runs import load_checkpoint

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
#: Both networks; each process draws dropout on its own (see distributed.py), all else is shared.
CASES: dict[str, dict] = {"robot": {}, "paper": {"dropout": 0.0, "precision": "bfloat16"}}
#: The largest relative difference that is rounding.
TOLERANCE = {"robot": 1e-3, "paper": 1e-2}
STEPS = 4

_WORKER = """
import sys
from pathlib import Path
import torch
sys.path[:0] = [{test!r}, {root!r}, {here!r}]
torch.set_num_threads(1)
from test_distributed_pretrain import CASES, some_steps
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.distributed import process_group
with process_group(torch.device("cpu")) as processes:
    for name in CASES:
        some_steps(name, Path({data!r}), Path({output!r}), 12, processes)
    processes.refuse_other_steps(7, Path("shared"), torch.device("cpu"))
    try:
        processes.refuse_other_steps(processes.rank, Path("own"), torch.device("cpu"))
    except TrainingError as error:
        (Path({output!r}) / f"refused-{{processes.rank}}").write_text(str(error))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), clips=3)


def config(recipe: str, data: Path, batch_size: int, **changes) -> PretrainConfig:
    return replace(
        PRETRAIN_RECIPES[recipe][1],
        motions=(str(data / "clips"),),
        body=str(data / "body.npz"),
        batch_size=batch_size,
        fitted=batch_size // 3,
        features=64,
        steps_per_epoch=STEPS,
        **CASES[recipe] | changes,
    )


def some_steps(
    recipe: str,
    data: Path,
    output: Path,
    batch_size: int,
    processes: ProcessGroup = ProcessGroup(),  # noqa: B008
) -> None:
    """Writes every step's loss, and the statistics of the BatchNorms after the first step, while
    their inputs are still those of the same weights."""
    run = Run(config(recipe, data, batch_size), processes)
    losses = [float(run.advance()["total"])]
    statistics = {
        name: value.tolist()
        for name, value in run.network.state_dict().items()
        if name.endswith(("running_mean", "running_var"))
    }
    losses += [float(run.advance()["total"]) for _ in range(STEPS - 1)]
    if processes.first:
        name = f"{recipe}-{processes.size}.json"
        (output / name).write_text(json.dumps({"losses": losses, "statistics": statistics}))


def test_two_processes_compute_what_one_does_with_the_double_batch(data, tmp_path):
    """Both networks, over gloo."""
    program = tmp_path / "worker.py"
    folders = {"test": ROOT / "test", "root": ROOT, "here": Path(__file__).parent}
    folders |= {"data": data, "output": tmp_path}
    program.write_text(_WORKER.format(**{name: str(path) for name, path in folders.items()}))
    subprocess.run([sys.executable, *TORCHRUN, str(program)], check=True, timeout=400)
    for recipe, tolerance in TOLERANCE.items():
        some_steps(recipe, data, tmp_path, 24)
        together, alone = (
            json.loads((tmp_path / f"{recipe}-{size}.json").read_text()) for size in (2, 1)
        )
        assert together["losses"] == pytest.approx(alone["losses"], rel=tolerance)
        assert together["statistics"].keys() == alone["statistics"].keys() != set()
        for name, values in alone["statistics"].items():
            largest = max(map(abs, values))
            found = together["statistics"][name]
            assert found == pytest.approx(values, rel=0, abs=tolerance * largest)
    for rank in range(2):
        text = (tmp_path / f"refused-{rank}").read_text()
        assert "different checkpoints in own (after steps 0, 1)" in text


def test_a_run_of_one_process_is_not_resumed_by_two(data, tmp_path):
    run = Run(config("robot", data, 8, output=tmp_path))
    state = run.state()
    with pytest.raises(TrainingError, match=r"a run of 1 processes.*nproc-per-node"):
        Run(config("robot", data, 8, output=tmp_path), ProcessGroup(0, 2)).restore(state)
    run.restore(state)


@pytest.mark.long
def test_a_killed_process_of_two_costs_nothing(data, tmp_path):
    """kill -9 of one process in the middle of a run, then the very same command again."""

    def command(output: Path) -> list[str]:
        words = f"""-m key2mesh_core pretrain robot --motions {data / "clips"} --output {output}
            --body {data / "body.npz"} --epochs 4 --steps-per-epoch 10 --batch-size 16
            --threads 1 --fitted 4 --features 64 --precision bfloat16""".split()
        return [sys.executable, *TORCHRUN, *words]

    output = tmp_path / "killed"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command(output), cwd=ROOT, stdout=log, stderr=log)
    deadline = time.monotonic() + 240
    while not (output / "last.pt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {
        int(re.search(rb"\0RANK=(\d+)\0", Path(f"/proc/{child}/environ").read_bytes())[1]): child
        for child in children
        if b"\0RANK=" in Path(f"/proc/{child}/environ").read_bytes()
    }
    os.kill(int(ranks[1]), signal.SIGKILL)
    assert process.wait(timeout=120) != 0
    again = subprocess.run(command(output), check=True, cwd=ROOT, capture_output=True, text=True)
    assert re.search(r"after [1-9]\d* of 40 steps", again.stdout)
    subprocess.run(command(tmp_path / "whole"), check=True, cwd=ROOT, capture_output=True)
    one, other = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "killed"))
    assert one["step"] == other["step"] == 40
    for part in ("network", "trained"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
