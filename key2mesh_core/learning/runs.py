# SPDX-License-Identifier: Apache-2.0
"""Shared by all training runs: the run's folder, device, loop, logs and checkpoints, which survive
a killed process: written atomically, read without unpickling."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import pickle
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from key2mesh_core.errors import TrainingError
from key2mesh_core.interrupts import deferred_interrupts
from key2mesh_core.io import atomic_write, write_text

LAST = "last.pt"
FORMAT = 1  # of checkpoints
#: Settings that may change when a run is resumed: where and how fast it runs, not what it computes.
FREE_SETTINGS = ("output", "device", "threads")


class WatchedRun(Protocol):
    """A run that `train_watched` can advance: `advance` returns the loss as "total", and its terms;
    `finish_epoch` is called after every `steps_per_epoch` steps and at the end; `learning_rate` is
    the next step's; `state` is everything needed to resume the run."""

    step: int
    total_steps: int
    steps_per_epoch: int
    seconds: float

    def advance(self) -> dict[str, Tensor]: ...
    def finish_epoch(self, log: Any, progress: tqdm) -> None: ...
    def learning_rate(self) -> float: ...
    def state(self) -> dict[str, Any]: ...


def train_watched(
    run: WatchedRun,
    folder: Path,
    *,
    seconds_between_checkpoints: float,
    steps_between_reports: int,
    writes: bool = True,
) -> None:
    """Runs to the last step, with TensorBoard logs, checkpoints, and a progress bar on terminals.

    Ctrl-C saves the state after the step and raises the exception again; a second Ctrl-C stops at
    once without saving.

    Args:
        writes: False for processes of a distributed run that only compute.

    Raises:
        TrainingError: the loss or a weight is not finite, or the disk is full. The last checkpoint
            is then still valid.
    """
    from torch.utils.tensorboard import SummaryWriter

    def save(terms: dict[str, Tensor]) -> None:
        _refuse_divergence(run, terms, folder)
        if writes:
            save_checkpoint(folder / LAST, run.state())

    started, saved = time.monotonic() - run.seconds, time.monotonic()
    progress = tqdm(
        total=run.total_steps,
        initial=run.step,
        unit="step",
        mininterval=1,
        disable=None if writes else True,  # None: shown on terminals only
    )
    logs = SummaryWriter(folder / "logs", purge_step=run.step) if writes else nullcontext()
    with logs as log, progress, deferred_interrupts() as check_interrupt:
        while run.step < run.total_steps:
            terms = run.advance()
            run.seconds = time.monotonic() - started
            try:
                check_interrupt()
            except KeyboardInterrupt:
                save(terms)
                if writes:
                    progress.write(
                        f"interrupted after step {run.step}: saved {folder / LAST}; give the same "
                        "command again to resume"
                    )
                raise
            progress.update()
            if run.step % steps_between_reports == 0:
                _report(run, terms, log, progress, folder)
            if run.step % run.steps_per_epoch == 0 or run.step == run.total_steps:
                # Before the epoch is evaluated: a diverged network must not become the best one.
                _refuse_divergence(run, terms, folder)
                run.finish_epoch(log, progress)
            elif time.monotonic() - saved <= seconds_between_checkpoints:
                continue
            save(terms)
            saved = time.monotonic()


def digest_of(*arrays: Any) -> str:
    """A fingerprint of data: 16 hex digits of a hash of arrays' contents."""
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        content = np.ascontiguousarray(array)
        digest.update(f"{content.dtype} {content.shape} ".encode())
        digest.update(content.data)
    return digest.hexdigest()


def _refuse_divergence(run: WatchedRun, terms: dict[str, Tensor], folder: Path) -> None:
    total = float(terms["total"])
    if math.isfinite(total) and _is_finite(run.state()):
        return
    what = "a weight is not finite" if math.isfinite(total) else f"the loss is {total}"
    last = folder / LAST
    kept = (
        f"{last} is from before and still valid" if last.exists() else "nothing has been saved yet"
    )
    raise TrainingError(
        f"training diverged: {what} after step {run.step}; {kept}. Lower --learning-rate (now "
        f"{run.learning_rate():g}) and give another --output"
    )


def _is_finite(state: Any) -> bool:
    """Whether every tensor in nested dicts and lists is finite."""
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, dict):
        return all(map(_is_finite, state.values()))
    return not isinstance(state, list | tuple) or all(map(_is_finite, state))


def _report(
    run: WatchedRun, terms: dict[str, Tensor], log: Any, progress: tqdm, folder: Path
) -> None:
    values = {name: float(term) for name, term in terms.items()}
    if not math.isfinite(values["total"]):
        _refuse_divergence(run, terms, folder)
    if log is None:  # in a process that writes nothing
        return
    for name, value in values.items():
        log.add_scalar(f"loss/{name}", value, run.step)
    log.add_scalar("learning_rate", run.learning_rate(), run.step)
    progress.set_postfix({name: f"{value:.3f}" for name, value in values.items()})


def scheduled(
    schedule: str, step: int, total_steps: int, steps_per_epoch: int, warm_up: int
) -> float:
    """Factor of the learning rate at a step: times 0.8 every epoch, as in the authors' code, or
    down to zero by a cosine, after a linear warm-up of `warm_up` steps."""
    if schedule == "exponential":
        return 0.8 ** (step // steps_per_epoch)
    begun = min(1.0, (step + 1) / min(warm_up, total_steps))
    return begun * 0.5 * (1 + math.cos(math.pi * step / total_steps))


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Any], None]:
    """Exponential moving average whose memory grows with the run, so that it forgets the random
    start at once and not after 1 / (1 - decay) steps."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Any) -> None:
        if not averages[0].is_floating_point():  # BatchNorm's counters
            torch._foreach_copy_(averages, values)
            return
        steps = int(count)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + steps) / (10 + steps)))

    return update


def seed_of(seed: int, *numbers: int) -> int:
    """A seed for one purpose of a run. It is hashed because generators use only 32 bits of a
    seed."""
    return int(np.random.SeedSequence([seed, *numbers]).generate_state(1)[0])


def settings_text(config: Any) -> str:
    """A config as JSON, as stored in the run's folder and in every checkpoint."""
    return json.dumps(dataclasses.asdict(config), indent=1, default=str, sort_keys=True)


def claim_folder(folder: Path, config: Any, free: Collection[str] = FREE_SETTINGS) -> None:
    """Claims `folder` for the run of `config` and writes its settings there, once. Replaces a run
    that has saved no checkpoint, because there is nothing to resume.

    Raises TrainingError if the folder belongs to a run with other settings, or cannot be written.
    """
    path = folder / "settings.json"
    mine = json.loads(settings_text(config))
    try:
        if not path.exists() or not (folder / LAST).exists():
            write_text(path, settings_text(config) + "\n")
            return
        theirs = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be used ({error}); give another --output") from error
    different = [key for key in mine if key not in free and mine[key] != theirs.get(key, mine[key])]
    if different:
        raise TrainingError(
            f"{folder} contains a run with other settings ({', '.join(different)}); "
            "give the same ones to resume it, or another --output"
        )


def device_named(name: str) -> torch.device:
    """cpu, cuda, cuda:1, or auto: a GPU if there is one.

    Raises TrainingError for any other name, and for a GPU that torch does not find.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"--device {name!r}: give cpu, cuda, cuda:1 or auto") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(
            f"--device {name}: torch finds {torch.cuda.device_count()} GPUs here; give cpu or auto"
        )
    return device


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values) next to `path`, then moves it into place.

    Raises TrainingError if the disk is full or not writable; the old file is then untouched.
    """
    try:
        with atomic_write(path) as unfinished:
            torch.save({"format": FORMAT, **state}, unfinished)
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"{path}: cannot write the checkpoint ({error}); free some space, then give the same "
            "command again: the run resumes from the last checkpoint"
        ) from error


def load_checkpoint(path: Path, *parts: str) -> dict[str, Any]:
    """Reads a checkpoint with certain parts on the CPU, executing no code from it (weights only).

    Raises TrainingError, naming the file, if it is missing, truncated, foreign, in another format,
    or lacks one of the parts.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: there is no such checkpoint") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"{path}: not a readable checkpoint ({reason}); delete it to start over, or give "
            "another one"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise TrainingError(f"{path}: checkpoint format {found!r}, expected {FORMAT}")
    missing = [name for name in parts if name not in state]
    if missing:
        raise TrainingError(
            f"{path} has no {missing[0]!r}: it is from another command or an older version of "
            "key2mesh; resume it with that version, or give another path"
        )
    return state
