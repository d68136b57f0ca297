# SPDX-License-Identifier: Apache-2.0
"""Motion capture in AMASS layout: one .npz a clip, SMPL(-H, -X) axis-angles, world z up.

The two hands are set to rest (2D keypoints say nothing of them) and clips are thinned to about
30 frames a second, as the paper does.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.errors import TrainingError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix

BODY_JOINTS = 22
#: AMASS's world has z up, a camera has y down: this rotation of the root stands people upright.
WORLD_TO_UPRIGHT = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
#: No joint turns this far within a thirtieth of a second: such frames are capture glitches.
_LARGEST_STEP_RAD = 1.2


@dataclass(frozen=True)
class Clip:
    """A motion: `poses (F, 22, 3)` axis-angle [rad], the root in a z-up world; `betas (10,)` of
    the body model of `gender`; `frame_rate` [1/s] after thinning."""

    name: str
    poses: np.ndarray
    betas: np.ndarray
    gender: str
    frame_rate: float


def find_clips(folder: Path) -> list[Path]:
    """Every .npz under a folder (or the file itself), sorted; raises TrainingError for none."""
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*.npz"))
    if not paths:
        raise TrainingError(
            f"{folder}: no .npz motion-capture clips there; expected AMASS layout, "
            "FOLDER/**/*_poses.npz with the keys poses, betas, gender, mocap_framerate"
        )
    return paths


def load_clip(path: Path, frame_rate: float = 30.0) -> Clip | None:
    """Reads one clip, thinned to about `frame_rate`, glitches left out.

    Returns None for AMASS's files that hold no motion (shape.npz, stageii marker files).
    Raises TrainingError naming the file when it is damaged or holds no usable frame.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if "poses" not in file:
                return None
            poses = np.asarray(file["poses"], np.float32)
            rate = _first(file, ("mocap_framerate", "mocap_frame_rate"), frame_rate)
            betas = np.asarray(file["betas"], np.float32).reshape(-1) if "betas" in file else []
            gender = str(_first(file, ("gender",), "neutral"))
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise TrainingError(f"{path}: not a readable motion-capture .npz: {error}") from error
    if poses.ndim != 2 or poses.shape[1] < 3 * BODY_JOINTS:
        raise TrainingError(
            f"{path}: 'poses' has shape {poses.shape}, expected (frames, at least 66)"
        )
    stride = max(1, round(float(rate) / frame_rate))
    poses = poses[::stride, : 3 * BODY_JOINTS].reshape(-1, BODY_JOINTS, 3)
    poses = poses[_plausible(poses)]
    if not len(poses):
        raise TrainingError(f"{path}: no usable frame in {path.name}")
    shape = np.zeros(10, np.float32)
    shape[: min(10, len(betas))] = betas[:10]
    # numpy writes a bytes gender as "b'female'".
    gender = gender.removeprefix("b'").removesuffix("'")
    return Clip(path.stem, poses, shape, gender, float(rate) / stride)


def load_clips(paths: Iterable[Path], frame_rate: float = 30.0) -> list[Clip]:
    """All clips that hold motion, in order."""
    return [clip for path in paths if (clip := load_clip(path, frame_rate)) is not None]


def split_clips(paths: Sequence[Path], held_out: Iterable[str]) -> tuple[list[Path], list[Path]]:
    """(training, held-out) paths: held out is what a glob of `held_out` matches (`Path.match`)."""
    patterns = list(held_out)
    matched = {path: any(path.match(p) for p in patterns) for path in paths}
    return [p for p in paths if not matched[p]], [p for p in paths if matched[p]]


def _first(file: np.lib.npyio.NpzFile, keys: Sequence[str], default: Any) -> Any:
    return next((file[key].item() for key in keys if key in file), default)


def _plausible(poses: np.ndarray) -> np.ndarray:
    """(F,) False where a body joint jumps into and out of a frame, or a number is not finite."""
    finite = np.isfinite(poses).all(axis=(1, 2))
    rotations = axis_angle_to_matrix(np.where(finite[:, None, None], poses, 0)[:, 1:])
    trace = np.einsum("fjab,fjab->fj", rotations[1:], rotations[:-1])
    step = np.arccos(np.clip((trace - 1) / 2, -1, 1)).max(axis=1)
    jump = np.concatenate([[False], step > _LARGEST_STEP_RAD, [False]])
    return finite & ~(jump[:-1] | jump[1:])
