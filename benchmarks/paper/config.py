# SPDX-License-Identifier: Apache-2.0
"""Settings of the paper's tables and figures. Imports no torch, so `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from benchmarks.adaptation.config import ADAPTED_ON, aistpp_spec
from key2mesh_core.errors import EvaluationError

What = Literal[
    "pretrain", "table1", "table2", "table3", "table4", "table5", "table6", "figure5", "figure7",
    "figure8", "all",
]  # fmt: skip
Data = Literal["h36m", "3dpw", "aistpp"]


@dataclass(frozen=True)
class PaperConfig:
    """Makes a table or a figure of the paper from pre-training to numbers; finished parts are kept,
    and the same command resumes if interrupted. The same code runs on the licensed data and on open
    stand-ins (AIST++ instead of 3DPW and Human3.6M, CMU instead of AMASS)."""

    what: Positional[What]
    """pretrain: the weights, by the published recipe. table1, table2: pre-trained and adapted
    (Human3.6M and 3DPW in the paper). table3: the terms of adaptation. table4: which target.
    table5: how much of it. table6: which detector. figure5: bodies over their images. figure7:
    features before and after. figure8: the worst cases. all: weights, tables 1 or 2 and 3, figures
    5 and 8."""
    data: Data
    """Data set to measure on."""
    root: Path
    """3DPW's folder, Human3.6M's truth (SPIN's or VideoPose3D's .npz), or AIST++'s keypoints2d."""
    motions: tuple[str, ...] = ()
    """Motion capture in AMASS layout: to pre-train on, and the source domain of adaptation."""
    held_out: tuple[str, ...] = ("amass:vald",)
    """Clips of --motions to leave out, as in `key2mesh pretrain`."""
    targets: tuple[str, ...] = ()
    """Recordings to adapt to, each as NAME=SPEC (test='3dpw:3DPW?split=test'). By default 3DPW's
    test split, without its labels, as in the paper's Table 2 (with --split validation: the training
    split), or AIST++'s sequences for adaptation; Human3.6M needs one."""
    init: str = ""
    """The model: a checkpoint of `key2mesh pretrain`, a bundle, or "default". By default, the one
    that `pretrain` makes in --output."""
    body: str = "default"
    """The body file that the model is trained with."""
    body_folder: Path | None = None
    """Folder with your SMPL files (3dpw, h36m)."""
    regressor: Path | None = None
    """Human3.6M's joint regressor, .npy (3dpw, h36m)."""
    detections: Path | None = None
    """Folder of OpenPose's JSON (h36m)."""
    aistpp_truth: Path | None = None
    """Cameras and triangulated joints of AIST++, .npz (docs/measurements/accuracy.md)."""
    split: Literal["validation", "test"] = "test"
    """Split of 3DPW to measure on."""
    select: bool = False
    """Select on 3DPW's validation split, as the authors do (needs --data 3dpw)."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of every adaptation; tables give the mean and the range."""
    shares: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Shares of the target in table5."""
    epochs: int = 10
    """Epochs of pre-training."""
    steps_per_epoch: int = 0
    """Steps of an epoch of pre-training; 0: one pass over the motion capture."""
    features: int = 1024
    """Width of the network."""
    adaptation_epochs: int = 5
    """Epochs of adaptation."""
    batch_size: int = 256
    """Samples per step."""
    pictures: int = 12
    """Number of pictures in figures 5 and 8."""
    device: str = "auto"
    """cpu, cuda or auto."""
    threads: int = 0
    """CPU threads; 0: all."""
    output: Path = Path(__file__).parents[1] / "out" / "paper"
    """Folder for runs, tables (.md, .json) and pictures."""

    def __post_init__(self) -> None:
        needs = ("aistpp_truth",) if self.data == "aistpp" else ("body_folder", "regressor")
        for name in needs:
            if getattr(self, name) is None:
                option = name.replace("_", "-")
                raise EvaluationError(f"--data {self.data} needs --{option}")
        if self.select and self.data != "3dpw":
            raise EvaluationError("--select needs --data 3dpw, whose validation split it measures")

    @property
    def named_targets(self) -> dict[str, str]:
        """Recordings to adapt to, by name.

        Raises:
            EvaluationError: there is none, or one has no name.
        """
        if not self.targets:
            if self.data == "3dpw":
                split = "test" if self.split == "test" else "train"
                return {f"3DPW {split}": f"3dpw:{self.root}?split={split}"}
            if self.data == "aistpp":
                return {"AIST++": aistpp_spec(self.root, ADAPTED_ON)}
            raise EvaluationError("give a recording to adapt to: --targets NAME=openpose:FOLDER")
        pairs = [text.partition("=") for text in self.targets]
        if bad := [name for name, equals, spec in pairs if not (equals and spec)]:
            raise EvaluationError(f"--targets {bad[0]!r} must be NAME=SPEC (mine=openpose:FOLDER)")
        return {name: spec for name, _, spec in pairs}
