# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a killed process: written atomically, read without unpickling."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from key2mesh_core.errors import TrainingError
from key2mesh_core.io import atomic_write

FORMAT = 1


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
