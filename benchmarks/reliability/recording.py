# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh` as a process, to be disturbed, and what an undisturbed one makes."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from helpers_ros import standing
from rosbags.rosbag2 import Reader

from key2mesh_core.people.frames import KeypointFrame
from key2mesh_core.recordings.bags import write_bag
from key2mesh_core.recordings.own_messages import keypoint_recording


def make_source(folder: Path, frames: int = 600) -> Path:
    """A recording of two people, a few megabytes with its meshes."""
    first, step = 1_700_000_000_000_000_000, 33_000_000
    people = np.stack([standing(200.0), standing(400.0)])
    noise = np.random.default_rng(0).normal(0.0, 2.0, (frames, 2, 18, 2)).astype(np.float32)
    seen = np.broadcast_to(people, (frames, *people.shape)).copy()
    seen[..., :2] += noise
    made = [
        KeypointFrame(
            first + n * step,
            "eye",
            "openpose_coco_18",
            640,
            480,
            ("a", "b"),
            seen[n],
        )
        for n in range(frames)
    ]
    write_bag(folder / "source", [keypoint_recording("/keypoints", made)])
    return folder / "source"


def start(source: Path, target: Path, model: str, largest: int | None = None) -> Any:
    """The command on its way; with `largest` no file can become larger [bytes], as on a full
    disk."""
    command = [sys.executable, "-m", "key2mesh_core.cli.main", "mesh", str(source), str(target)]
    command += ["--model", model, "--segment", "1", "--threads", "1"]

    def limit() -> None:
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    return subprocess.Popen(
        command,
        preexec_fn=limit,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def content(path: Path) -> list[tuple[str, int, bytes]]:
    """Every message of a recording: topic, time and bytes."""
    with Reader(path) as reader:
        return [(each.topic, stamp, bytes(data)) for each, stamp, data in reader.messages()]
