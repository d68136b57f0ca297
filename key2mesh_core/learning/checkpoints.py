# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive being killed: written whole or not at all, read without unpickling."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from key2mesh_core.errors import TrainingError
from key2mesh_core.io import atomic_write

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values) beside `path`, then moves it into place.

    Raises TrainingError when the disk is full or not writable; the old file is then untouched.
    """
    try:
        with atomic_write(path) as unfinished:
            torch.save({"format": FORMAT, **state}, unfinished)
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"{path}: cannot write the checkpoint ({error}); free some space, then give the same "
            "command again: the run continues from the last checkpoint"
        ) from error


def load_checkpoint(path: Path, *parts: str) -> dict[str, Any]:
    """Reads a checkpoint on the CPU; executes nothing that the file says (weights only).

    Args:
        parts: names that it must hold.

    Raises TrainingError naming a file that is missing, truncated, foreign, of another format, or
    without one of the parts.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: there is no such checkpoint") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"{path}: not a readable checkpoint ({reason}); delete it to start again, or give "
            "another one"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise TrainingError(f"{path}: checkpoint format {found!r}, expected {FORMAT}")
    missing = [name for name in parts if name not in state]
    if missing:
        raise TrainingError(
            f"{path} holds no {missing[0]!r}: it is of another command or of an older version of "
            "key2mesh; continue it with that version, or give another path"
        )
    return state
