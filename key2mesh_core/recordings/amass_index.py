# SPDX-License-Identifier: Apache-2.0
"""What a folder in AMASS layout holds, from the headers of its files; AMASS's official splits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.body.pickles import npy_header
from key2mesh_core.errors import TrainingError

SPLITS: dict[str, tuple[str, ...]] = {
    "vald": ("HumanEva", "MPI_HDM05", "HDM05", "SFU", "MPI_mosh", "MoSh"),
    "test": ("Transitions_mocap", "Transitions", "SSM_synced", "SSM"),
    "train": (
        "CMU", "MPI_Limits", "PosePrior", "TotalCapture", "Eyes_Japan_Dataset", "KIT", "BML",
        "BioMotionLab_NTroje", "BMLrub", "EKUT", "TCD_handMocap", "TCDHands", "ACCAD",
    ),
}  # fmt: skip
"""Data sets of each split, under their names in both releases
(github.com/nghorbani/amass, prepare_data.py)."""

FORMS = {
    66: "SMPL body (66)",
    72: "SMPL (72)",
    156: "SMPL+H (156)",
    165: "SMPL-X (165)",
}
"""Names of the forms of poses by their numbers per frame: axis-angles of 22 joints, and of SMPL's,
SMPL-H's and SMPL-X's joints."""
_RATE_KEYS = ("mocap_framerate", "mocap_frame_rate", "framerate", "frame_rate", "fps")
_FASTEST_HZ = 2000.0
POSE_KEYS = (
    ("poses",), ("fullpose",), ("full_pose",), ("pose",), ("smpl_poses",),
    ("root_orient", "pose_body"), ("global_orient", "body_pose"), ("poses_root", "poses_body"),
)  # fmt: skip
"""Keys of body poses, the first that exists is used: AMASS, MoSh++, SMPL fits, smplx, EMDB."""


@dataclass(frozen=True)
class ClipInfo:
    """One file: its data set (the folder two levels up), `form` of its poses, number of `frames`,
    `rate` [1/s] (0: not stated), `gender`, and the reason why it is not usable ("" if it is)."""

    path: Path
    data_set: str
    form: str = ""
    frames: int = 0
    rate: float = 0.0
    gender: str = ""
    problem: str = ""

    @property
    def seconds(self) -> float:
        """Duration; 0 if unknown."""
        return self.frames / self.rate if self.rate > 0 else 0.0


def split_of(data_set: str) -> str:
    """AMASS's split of a data set; "" for one that the official splits do not name."""
    return next((split for split, names in SPLITS.items() if data_set in names), "")


def split_globs(split: str) -> list[str]:
    """Globs that match the clips of a split, DATA_SET/SUBJECT/CLIP.npz."""
    return [f"{name}/*/*" for name in SPLITS[split]]


def describe_clip(path: Path) -> ClipInfo:
    """Reads a file's headers and its small arrays; never raises for a damaged file."""
    data_set = path.parent.parent.name
    try:
        with np.load(path, allow_pickle=False) as stored:
            keys = pose_keys(stored)
            if keys is None:
                return ClipInfo(path, data_set, problem="no poses")
            with stored.zip.open(f"{keys[-1]}.npy") as stream:
                shape, _ = npy_header(stream)
            frames = int(shape[0]) if shape else 0
            rate = rate_of(path, stored, frames) or 0.0
            gender = text_of(stored["gender"]) if "gender" in stored else ""
    except TrainingError:
        return ClipInfo(path, data_set, problem="no valid frame rate")
    except Exception:  # damage makes numpy raise nearly anything
        return ClipInfo(path, data_set, problem="damaged")
    numbers = int(np.prod(shape[1:])) if len(shape) > 1 else 0
    numbers += 3 if len(keys) > 1 else 0
    form = FORMS.get(numbers, "")
    problem = "" if form else f"poses of shape {shape}"
    return ClipInfo(path, data_set, form, frames, rate, gender or "not stated", problem)


def pose_keys(file: np.lib.npyio.NpzFile) -> tuple[str, ...] | None:
    """The keys whose arrays are, side by side, a file's body poses; None if it has none."""
    return next((keys for keys in POSE_KEYS if all(key in file for key in keys)), None)


def rate_of(path: Path, file: np.lib.npyio.NpzFile, frames: int) -> float | None:
    """Frames per second; None if not stated.

    Raises:
        TrainingError: it is not a frame rate.
    """
    key = next((key for key in (*_RATE_KEYS, "mocap_time_length") if key in file), None)
    if key is None:
        return None
    text = text_of(file[key])
    try:
        number = float(text)
        rate = frames / number if key == "mocap_time_length" else number
    except (ValueError, ZeroDivisionError):
        rate = math.nan
    if not 0 < rate <= _FASTEST_HZ:
        raise TrainingError(
            f"{path}: '{key}' is {text!r:.40}, not a frame rate; correct it, or leave the clip out"
        )
    return rate


def text_of(value: np.ndarray) -> str:
    """The first value of an array as text; numpy reads Python 2 strings as bytes."""
    first: Any = value.reshape(-1)[0] if value.size else ""
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
    return text.removeprefix("b'").removesuffix("'").strip()
