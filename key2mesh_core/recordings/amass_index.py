# SPDX-License-Identifier: Apache-2.0
"""What a folder in AMASS layout holds, from the headers of its files; AMASS's official splits."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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

_FORMS = {
    66: "SMPL body (66)",
    72: "SMPL (72)",
    156: "SMPL+H (156)",
    165: "SMPL-X (165)",
}
_RATES = ("mocap_framerate", "mocap_frame_rate", "framerate", "frame_rate", "fps")
_POSES = ("poses", "fullpose", "full_pose", "pose", "smpl_poses", "body_pose", "pose_body",
          "poses_body")  # fmt: skip


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
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            key = next((name for name in _POSES if name in names), None)
            if key is None:
                return ClipInfo(path, data_set, problem="no poses")
            with archive.open(f"{key}.npy") as stream:
                version = np.lib.format.read_magic(stream)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, _, _ = read(stream)
        with np.load(path, allow_pickle=False) as stored:
            rate = next((float(stored[n].reshape(-1)[0]) for n in _RATES if n in stored), 0.0)
            gender = text_of(stored["gender"]) if "gender" in stored.files else ""
    except Exception:  # damage makes numpy raise nearly anything
        return ClipInfo(path, data_set, problem="damaged")
    numbers = int(np.prod(shape[1:])) if len(shape) > 1 else 0
    numbers += 3 if key in ("body_pose", "pose_body", "poses_body") else 0
    form = _FORMS.get(numbers, "")
    problem = "" if form else f"poses of shape {shape}"
    return ClipInfo(
        path, data_set, form, int(shape[0]) if shape else 0, rate, gender or "not stated", problem
    )


def text_of(value: np.ndarray) -> str:
    """The first value of an array as text; numpy reads Python 2 strings as bytes."""
    first: Any = value.reshape(-1)[0] if value.size else ""
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
    return text.removeprefix("b'").removesuffix("'").strip()
