# SPDX-License-Identifier: Apache-2.0
"""A step of pre-training against the bare network's forward and backward pass.

Synthesis of the batch, the body and the loss all run on top of the bare network: the ratio says
what they cost. The motion capture is made up: its content costs nothing.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.timing import SETTLE_S, interleave
from key2mesh_core.training.config import PretrainConfig
from key2mesh_core.training.pretrain import BATCHES_AT_ONCE, Run


def run(
    body: str = "default",
    batch_size: int = 256,
    threads: int = 2,
    precision: Literal["float32", "bfloat16"] = "float32",
    budget_s: float = 30.0,
    rounds: int = 5,
    settle_s: float = SETTLE_S,
) -> dict[str, Any]:
    """Times [ms] of a step's parts and their ratio to the bare forward and backward pass."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        write_motions(Path(folder) / "motions")
        config = PretrainConfig(
            motions=(f"{folder}/motions",),
            output=Path(folder) / "run",
            body=body,
            batch_size=batch_size,
            precision=precision,
            balance=0.0,
            device="cpu",
            threads=threads,
        )
        training = Run(config)
    keypoints = torch.rand(batch_size, 18, 2, generator=torch.Generator().manual_seed(0))
    timings = interleave(
        {
            # Samples are made for several steps together: a call is as many steps for everyone.
            name: _repeated(step)
            for name, step in {
                "network, forward and backward": lambda: _bare(training, keypoints, False),
                "the same and Adam": lambda: _bare(training, keypoints, True),
                "training step without Adam": lambda: _step_without_optimiser(training),
                "training step": training.advance,
            }.items()
        },
        budget_s=budget_s,
        rounds=rounds,
        settle_s=settle_s,
    )
    timings = {name: timing.divided_by(BATCHES_AT_ONCE) for name, timing in timings.items()}
    bare = timings["network, forward and backward"].median_ms
    bare_with_adam = timings["the same and Adam"].median_ms
    return {
        "batch_size": batch_size,
        "precision": precision,
        "timings": {name: asdict(timing) for name, timing in timings.items()},
        "times_the_bare_network": {name: t.median_ms / bare for name, t in timings.items()},
        "step_over_network_and_adam": timings["training step"].median_ms / bare_with_adam,
    }


def write_motions(folder: Path, clips: int = 4, frames: int = 300) -> None:
    """Clips in AMASS layout of slow random motion."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(clips):
        start, end = 0.4 * random.normal(size=(2, 66))
        poses = np.zeros((frames, 156), np.float32)
        poses[:, :66] = np.linspace(start, end, frames)
        np.savez(
            folder / f"clip{number}_poses.npz",
            poses=poses,
            trans=np.zeros((frames, 3), np.float32),
            betas=np.zeros(16, np.float32),
            gender="neutral",
            mocap_framerate=30.0,
        )


def _autocast(training: Run) -> torch.autocast:
    enabled = training.config.precision == "bfloat16"
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def _bare(training: Run, keypoints: torch.Tensor, optimise: bool) -> None:
    training.network.train()
    with _autocast(training):
        prediction = training.network(keypoints)
    training.optimiser.zero_grad(set_to_none=True)
    (prediction.betas.mean() + prediction.rotations.mean()).backward()
    if optimise:
        training.optimiser.step()


def _step_without_optimiser(training: Run) -> None:
    training.backward()
    training.step += 1


def _repeated(step: Callable[[], object]) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(BATCHES_AT_ONCE):
            step()

    return steps
