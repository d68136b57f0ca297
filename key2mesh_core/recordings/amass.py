# SPDX-License-Identifier: Apache-2.0
"""Motion capture in AMASS layout: one .npz per clip, SMPL(-H, -X) axis-angles, world z up.

Both hands are set to the rest pose (2D keypoints do not determine them), and clips are subsampled
to about 30 frames per second, as in the paper. Clips whose world has another axis up are turned
(`world_up.py`).
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from key2mesh_core.errors import TrainingError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.recordings.amass_index import (
    FORMS,
    POSE_KEYS,
    SPLITS,
    pose_keys,
    rate_of,
    split_globs,
    text_of,
)
from key2mesh_core.recordings.world_up import Clue, clue_of, turn_upright

BODY_JOINTS = 22
#: AMASS's world has z up, a camera has y down: this rotation of the root makes people upright.
WORLD_TO_UPRIGHT = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
#: No joint turns this far within 1/30 s: such frames are capture glitches.
_LARGEST_STEP_RAD = 1.2
#: A rotation vector that is longer is not in radians.
_LONGEST_RAD = 4 * math.pi


@dataclass(frozen=True)
class Clip:
    """A motion: `poses (F, 22, 3)` axis-angle [rad], the root in a z-up world; `betas (10,)` of the
    body model of `gender`; `frame_rate` [1/s] after subsampling."""

    name: str
    poses: np.ndarray
    betas: np.ndarray
    gender: str
    frame_rate: float


def find_clips(folder: Path) -> list[Path]:
    """Every .npz below a folder (or the file itself), sorted; raises TrainingError if there is
    none."""
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*.npz"))
    if not paths:
        raise TrainingError(
            f"{folder}: no .npz motion-capture clips; expected AMASS layout, "
            "FOLDER/**/*_poses.npz with the keys poses, betas, gender, mocap_framerate"
        )
    return paths


def load_clip(path: Path, frame_rate: float = 30.0) -> Clip | None:
    """Reads one clip like `load_clips`; None for a file without motion."""
    return next(iter(load_clips([path], frame_rate)), None)


def load_clips(
    paths: Iterable[Path], frame_rate: float = 30.0, report: Callable[[str], None] = print
) -> list[Clip]:
    """Reads clips in order, subsampled to about `frame_rate` [1/s], without glitches.

    Files without body poses (such as AMASS's shape.npz) are left out. Clips whose world has y up,
    or y down like a camera, are turned; they are recognised, folder by folder, by the position of
    the heads.

    Args:
        report: called with a sentence for each thing that was left out, turned or assumed.

    Raises:
        TrainingError: a file is damaged, has no usable frame, has no axis-angles, or its frame rate
            is not a positive number. Names the file.
    """
    read, empty = [], []
    for path in paths:
        found = _read(path, frame_rate)
        empty += [path] if found is None else []
        read += [] if found is None else [(path, *found)]
    if empty:
        known = ", ".join(" with ".join(keys) for keys in POSE_KEYS)
        report(
            f"{len(empty)} of {len(empty) + len(read)} files are left out ({empty[0]}, e.g.): "
            f"they have no body poses under the keys {known}"
        )
    if unrated := [path for path, _, _, has_rate in read if not has_rate]:
        report(
            f"{len(unrated)} of {len(read)} clips have no frame rate ({unrated[0]}, for example): "
            f"{frame_rate:g} frames per second are assumed; the key mocap_framerate states it"
        )
    clips = [clip for _, clip, _, _ in read]
    roots = turn_upright(
        [path for path, *_ in read],
        [clip.poses[:, 0] for clip in clips],
        [clue for _, _, clue, _ in read],
        report,
    )
    for clip, root in zip(clips, roots, strict=True):
        clip.poses[:, 0] = root
    return clips


def split_clips(paths: Sequence[Path], held_out: Iterable[str]) -> tuple[list[Path], list[Path]]:
    """(training, held-out) paths: held out are those that a glob of `held_out` matches
    (`Path.match`)."""
    patterns = list(held_out)
    matched = {path: any(path.match(p) for p in patterns) for path in paths}
    return [p for p in paths if not matched[p]], [p for p in paths if matched[p]]


def held_out_patterns(texts: Sequence[str]) -> list[str]:
    """Globs for `split_clips`, with every @FILE replaced by its lines and amass:vald or amass:test
    by the data sets of that official split."""
    patterns: list[str] = []
    for text in texts:
        kind, _, split = text.partition(":")
        if kind == "amass":
            if split not in SPLITS:
                raise TrainingError(f"--held-out {text}: AMASS's splits are {', '.join(SPLITS)}")
            patterns += split_globs(split)
            continue
        if not text.startswith("@"):
            patterns.append(text)
            continue
        try:
            lines = Path(text[1:]).read_text().splitlines()
        except OSError as error:
            raise TrainingError(f"--held-out {text}: {error}") from error
        patterns += [line.strip() for line in lines if line.strip()]
    return patterns


def _read(path: Path, frame_rate: float) -> tuple[Clip, Clue, bool] | None:
    """A clip with its root as recorded, a clue to its world's axes, and whether it states its frame
    rate."""
    try:
        with np.load(path, allow_pickle=False) as file:
            poses = _poses(file)
            if poses is None:
                return None
            rate = rate_of(path, file, len(poses))
            betas = np.asarray(file["betas"], np.float32).reshape(-1) if "betas" in file else []
            gender = text_of(file["gender"]) if "gender" in file else "neutral"
            place = next((key for key in ("trans", "transl", "smpl_trans") if key in file), None)
            trans = np.asarray(file[place], np.float32) if place else None
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise TrainingError(f"{path}: not a readable motion-capture .npz: {error}") from error
    if poses.shape[1] not in FORMS:
        raise TrainingError(
            f"{path}: its poses have shape {poses.shape}, expected axis-angles: (frames, 66), "
            "(frames, 72), (frames, 156) or (frames, 165)"
        )
    stride = max(1, round((rate or frame_rate) / frame_rate))
    poses = poses[::stride, : 3 * BODY_JOINTS].reshape(-1, BODY_JOINTS, 3)
    finite = poses[np.isfinite(poses).all(axis=(1, 2))]
    if len(finite) and np.median(np.linalg.norm(finite, axis=2).max(axis=1)) > _LONGEST_RAD:
        raise TrainingError(f"{path}: its poses are too large for radians; are they in degrees?")
    good = _plausible(poses)
    if not good.any():
        raise TrainingError(f"{path}: none of {len(poses)} frames is usable")
    if not np.isfinite(betas).all():
        raise TrainingError(f"{path}: 'betas' are not finite: {np.asarray(betas)[:10]}")
    shape = np.zeros(10, np.float32)
    shape[: min(10, len(betas))] = betas[:10]
    clue = clue_of(poses[good][:, 0], trans)
    thinned = (rate or frame_rate) / stride
    return Clip(path.stem, poses[good], shape, gender, thinned), clue, rate is not None


def _poses(file: np.lib.npyio.NpzFile) -> np.ndarray | None:
    """(F, D) axis-angles; None if the file has none."""
    keys = pose_keys(file)
    if keys is None:
        return None
    parts = [np.atleast_2d(np.asarray(file[key], np.float32)) for key in keys]
    return np.concatenate([part.reshape(len(part), math.prod(part.shape[1:])) for part in parts], 1)


def _plausible(poses: np.ndarray) -> np.ndarray:
    """(F,) False where a body joint jumps into and out of a frame, or a value is not finite."""
    finite = np.isfinite(poses).all(axis=(1, 2))
    rotations = axis_angle_to_matrix(np.where(finite[:, None, None], poses, 0)[:, 1:])
    trace = np.einsum("fjab,fjab->fj", rotations[1:], rotations[:-1])
    step = np.arccos(np.clip((trace - 1) / 2, -1, 1)).max(axis=1)
    jump = np.concatenate([[False], step > _LARGEST_STEP_RAD, [False]])
    return finite & ~(jump[:-1] | jump[1:])
