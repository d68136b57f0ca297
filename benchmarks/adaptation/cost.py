# SPDX-License-Identifier: Apache-2.0
"""What adaptation takes, by the length of a recording: time and memory of the command itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.adaptation.config import ADAPTED_ON, TablesConfig
from benchmarks.report import machine_line
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.tables import markdown_table
from key2mesh_core.people.frames import KeypointFrame
from key2mesh_core.recordings.aistpp import find_keypoints, read_keypoints
from key2mesh_core.recordings.bags import write_bag
from key2mesh_core.recordings.own_messages import keypoint_recording

FRAMES = (4_500, 18_000, 36_000)
"""Of the bags: 2.5, 10 and 20 minutes of one person at 30 Hz."""

_PERIOD_NS = 33_333_333


def run(config: TablesConfig) -> dict[str, Any]:
    """Adapts to a bag of each length, with the default recipe from reading to the new bundle."""
    described = machine.describe()  # before it is busy with this
    keypoints = np.concatenate(
        [
            camera
            for name in ADAPTED_ON
            for camera in read_keypoints(find_keypoints(config.aistpp_keypoints, name))
        ]
    )
    rows = []
    for count in FRAMES:
        folder = config.output / "cost" / str(count)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(folder / "bag", np.nan_to_num(np.resize(keypoints, (count, *keypoints.shape[1:]))))
        rows.append({"frames": count} | _measure(config, folder))
        print(f"{count} frames: {rows[-1]['seconds']:.0f} s", flush=True)
    return {"machine": described, "precision": config.precision, "rows": rows}


def to_markdown(result: dict[str, Any]) -> str:
    """The table."""
    header = ("frames", "minutes of video", "seconds", "ms a frame", "most memory")
    lines = [
        (
            f"{row['frames']:,}",
            f"{row['frames'] / 1800:g}",
            f"{row['seconds']:.0f}",
            f"{1e3 * row['seconds'] / row['frames']:.2f}",
            f"{row['memory_mib']:.0f} MiB",
        )
        for row in result["rows"]
    ]
    return (
        f"## What it takes\n\n{markdown_table(header, lines)}\n\n"
        f"`key2mesh adapt` with its defaults ({result['precision']}), from a bag of one person at "
        f"30 Hz to the new bundle. {machine_line(result['machine'])}\n"
    )


def _write(path: Path, keypoints: np.ndarray) -> None:
    frames = [
        KeypointFrame(
            stamp_ns=10**18 + number * _PERIOD_NS,
            frame_id="camera",
            layout="coco_17",
            width=1920,
            height=1080,
            ids=("dancer",),
            keypoints=person[None],
        )
        for number, person in enumerate(keypoints)
    ]
    write_bag(path, [keypoint_recording("/keypoints", frames)])


def _measure(config: TablesConfig, folder: Path) -> dict[str, float]:
    """Of the command in a process of its own."""
    command = [sys.executable, "-m", "key2mesh_core.cli.main", "adapt", "--init", config.init]
    command += ["--target", f"bag:{folder / 'bag'}", "--output", str(folder / "model")]
    command += ["--precision", config.precision, "--threads", str(config.threads)]
    begin = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise EvaluationError(f"{' '.join(command)} ended with {process.returncode}: {log.name}")
    return {"seconds": seconds, "memory_mib": usage.ru_maxrss / 1024}
