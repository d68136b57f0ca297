# SPDX-License-Identifier: Apache-2.0
"""Settings of the tables. Imports no torch, so `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Table = Literal[
    "recipes",
    "cameras",
    "terms",
    "targets",
    "amounts",
    "detectors",
    "features",
]

ADAPTED_ON = ("ch06", "ch07", "ch08", "ch10")
TUNED_ON = ("ch01", "ch02")
REPORTED_ON = ("ch03", "ch04")
"""AIST++ sequences of one dancer: for adaptation; for tuning; for the tables."""


def aistpp_spec(folder: Path, sequences: tuple[str, ...]) -> str:
    """Some sequences of AIST++ as a recording, as of `key2mesh adapt --target`."""
    return f"aistpp:{folder}?sequences={','.join(sequences)}"


@dataclass(frozen=True)
class TablesConfig:
    """Adapts the shipped model to AIST++ detections in many ways and measures each on sequences
    that were used neither for adaptation nor for tuning. Finished runs are kept: the same command
    resumes if interrupted."""

    table: Table
    """recipes: the default and the published recipe (the main result). cameras: several cameras
    that see a person at once. terms: the published method term by term. targets, amounts: which
    detections, and how many. detectors: one video seen by two detectors. features: features of
    source and target before and after."""
    aistpp_keypoints: Path
    """AIST++'s folder keypoints2d with the official pickles."""
    aistpp_truth: Path
    """Cameras and triangulated joints, .npz (docs/measurements/accuracy.md)."""
    motions: tuple[str, ...] = ()
    """Motion capture for the published recipe's source domain, FOLDER or FOLDER=SHARE each."""
    detections: tuple[str, ...] = ()
    """For the table `detectors`: one target each (bag:FULL bag:HEAVY)."""
    init: str = "default"
    """The model to adapt."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of every row; tables give mean and spread."""
    share: float = 1.0
    """Share of the target's frames to use, from the start of each sequence's tenths; less is
    faster."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """As in `key2mesh adapt`."""
    threads: int = 0
    """CPU threads; 0: all."""
    output: Path = Path(__file__).parents[1] / "out" / "adaptation"
    """Folder for the runs, TABLE.md, TABLE.json and TABLE.png."""
