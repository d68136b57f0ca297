# SPDX-License-Identifier: Apache-2.0
"""Loads the motion capture for training, with the sources' shares, and the held-out clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.pretrain.config import PretrainConfig
from key2mesh_core.recordings.amass import (
    Clip,
    find_clips,
    held_out_patterns,
    load_clips,
    split_clips,
)
from key2mesh_core.synthesis.motions import MotionBank


def load_motions(
    config: PretrainConfig,
    body: BodyModel,
    processes: ProcessGroup = ProcessGroup(),  # noqa: B008
) -> tuple[MotionBank, MotionBank | None]:
    """The frames to train on, and the held-out ones (None if nothing is held out).

    Raises TrainingError if a folder has no clips, or all of its clips are held out.
    """
    bank, held_out_clips = load_bank(config.motions, config.held_out, body, config.balance)
    frames = f"{len(bank)} training frames"
    if not held_out_clips:
        processes.say(f"{frames}; no clip is held out, so the best checkpoint will be the last")
        return bank, None
    held_out_bank = MotionBank([(held_out_clips, 1.0)])
    held_out_frames = f"{len(held_out_bank)} held-out frames in {len(held_out_clips)} clips"
    processes.say(f"{frames}, {held_out_frames}")
    return bank, held_out_bank


def load_bank(
    motions: Sequence[str], held_out: Sequence[str], body: BodyModel, balance: float
) -> tuple[MotionBank, list[Clip]]:
    """The frames to train on, and the held-out clips; errors as in `load_motions`."""
    patterns = held_out_patterns(held_out)
    sources, kept_back = [], []
    for folder, share in map(parse_motion, motions):
        training, not_trained_on = split_clips(find_clips(folder), patterns)
        if not training:
            raise TrainingError(f"{folder}: every clip is held out, none is left to train on")
        sources.append((load_clips(tqdm(training, folder.name, leave=False, disable=None)), share))
        kept_back += not_trained_on
    for pattern in patterns:
        if pattern.endswith("/"):
            kept_back += find_clips(Path(pattern))
    return MotionBank(sources, body, balance), load_clips(kept_back)


def parse_motion(text: str) -> tuple[Path, float]:
    """`FOLDER` or `FOLDER=SHARE` -> folder, share (default 1.0)."""
    folder, mark, share = text.rpartition("=")
    if not mark:
        return Path(text), 1.0
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise TrainingError(f"--motions {text!r}: the share after '=' must be a positive number")
    return Path(folder), value
