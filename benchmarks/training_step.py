# SPDX-License-Identifier: Apache-2.0
"""A step of pre-training against the bare network's forward and backward pass and Adam.

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

from benchmarks.floors import NETWORK_WEIGHTS, Limits, Stage
from benchmarks.timing import SETTLE_S, interleave
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.learning.pretrain.config import PretrainConfig
from key2mesh_core.learning.pretrain.job import Run
from key2mesh_core.learning.pretrain.sampler import BATCHES_AT_ONCE
from key2mesh_core.network.crop import CHANNELS

BARE, BARE_ADAM = "network, forward and backward", "the same and Adam"
SYNTHESIS, STEP = "synthesis alone", "training step"

Precision = Literal["float32", "bfloat16"]


def run(
    body: str = "default",
    batch_size: int = 256,
    threads: int = 2,
    precision: Precision = "float32",
    device: str = "cpu",
    limits: Limits | None = None,
    budget_s: float = 30.0,
    rounds: int = 5,
    settle_s: float = SETTLE_S,
) -> dict[str, Any]:
    """Times [ms] of a step's parts and, on a GPU, the share of the step in which it is busy."""
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
            device=device,
            threads=threads,
        )
        training = Run(config)
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(batch_size, len(KEYPOINTS), CHANNELS, generator=generator)
    keypoints = keypoints.to(training.device)
    steps = {
        BARE: lambda: _bare(training, keypoints, False),
        BARE_ADAM: lambda: _bare(training, keypoints, True),
        "training step without Adam": lambda: _step_without_optimiser(training),
        STEP: training.advance,
    }
    # Samples are made for several steps together: a call is as many steps for everyone.
    calls = {name: repeated(step, BATCHES_AT_ONCE, device) for name, step in steps.items()}
    calls[SYNTHESIS] = repeated(lambda: _synthesis(training), 1, device)
    timings = interleave(calls, budget_s=budget_s, rounds=rounds, settle_s=settle_s)
    timings = {name: timing.divided_by(BATCHES_AT_ONCE) for name, timing in timings.items()}
    return {
        "what": "pre-training",
        "batch_size": batch_size,
        "precision": precision,
        "device": device,
        "bare": BARE_ADAM,
        "timings": {name: asdict(timing) for name, timing in timings.items()},
        "bare_floor_ms": None if limits is None else bare_floor_ms(limits, batch_size, precision),
        "busy": busy_share(calls[STEP]) if device != "cpu" else None,
    }


def bare_floor_ms(limits: Limits, batch_size: int, precision: Precision) -> float:
    """What the bare network's step needs [ms]: three products a weight (forward, and backward to
    inputs and weights) at the speed of a large one, then Adam, which reads a weight, its gradient
    and two moments and writes all but the gradient."""
    products = Stage(0.0, 3 * 2 * NETWORK_WEIGHTS, arithmetic=precision)
    adam = Stage(4 * 4 * NETWORK_WEIGHTS, 0.0)
    written = 1e3 * 3 * 4 * NETWORK_WEIGHTS / limits.writes
    return limits.floor_ms([products], batch_size) + limits.floor_ms([adam], 0) + written


def busy_share(call: Callable[[], object], calls: int = 20) -> float:
    """The share of a call's time in which the GPU computes; both in the same run."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
    # Only what runs on the device; its launches from the CPU would count twice.
    busy_us = sum(
        event.time_range.elapsed_us()
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA
    )
    return float(busy_us / 1e3 / start.elapsed_time(end))


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


def repeated(step: Callable[[], object], times: int, device: str) -> Callable[[], None]:
    """A call that does a step so many times and waits for the device."""

    def steps() -> None:
        for _ in range(times):
            step()
        if device != "cpu":
            torch.cuda.synchronize()

    return steps


def _autocast(training: Run) -> torch.autocast:
    enabled = training.config.precision == "bfloat16"
    return torch.autocast(training.device.type, torch.bfloat16, enabled=enabled)


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


def _synthesis(training: Run) -> None:
    training.sampler.make()
