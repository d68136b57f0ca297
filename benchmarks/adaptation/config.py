# SPDX-License-Identifier: Apache-2.0
"""Settings of the tables. Imports no torch: `--help` is instant."""

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
"""AIST++ sequences of one dancer: 2D detections alone; for choosing; for the tables."""


@dataclass(frozen=True)
class TablesConfig:
    """Adapts the shipped model to AIST++ detections in many ways and measures each on sequences
    that were neither adapted to nor looked at while the recipe was chosen. Finished runs are kept:
    the same command resumes if interrupted."""

    table: Table
    """recipes: the default and the published recipe (our headline). cameras: several cameras that
    see a person at once. terms: Table 3, the published method term by term. targets, amounts:
    Tables 4 and 5, which detections and how many of them. detectors: Table 6, one video as two
    detectors see it. features: Fig. 7, features of source and target before and after."""
    aistpp_keypoints: Path
    """AIST++'s folder keypoints2d with the official pickles."""
    aistpp_truth: Path
    """Cameras and triangulated joints, .npz (docs/measurements/accuracy.md)."""
    motions: tuple[str, ...] = ()
    """Motion capture for the published recipe's source domain, FOLDER or FOLDER=SHARE each."""
    detections: tuple[str, ...] = ()
    """For the table `detectors`: one target each (bag:FULL bag:HEAVY)."""
    init: str = "default"
    """The model that is adapted."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every row is run with each; tables give mean and spread."""
    share: float = 1.0
    """Share of the target's frames that is used, in stretches from the start of each sequence's
    tenths; less is faster."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """As of `key2mesh adapt`."""
    threads: int = 0
    """CPU threads; 0: all."""
    output: Path = Path(__file__).parents[1] / "out" / "adaptation"
    """Folder for the runs, TABLE.md, TABLE.json and TABLE.png."""
