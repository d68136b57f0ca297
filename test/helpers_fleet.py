# SPDX-License-Identifier: Apache-2.0
"""Many recordings of every kind, some of them damaged, and what `mesh-all` makes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from helpers_meshing import CAMERA, frames, openpose
from write_bags import camera_recording, keypoint_recording, write_bag

from key2mesh_core.people.person_frame import PersonFrame

KINDS = ("mcap", "sqlite3", "openpose", "npz")


@dataclass(frozen=True)
class Fleet:
    """A folder of recordings: names of the good ones, and of the damaged ones."""

    folder: Path
    good: list[str]
    damaged: list[str]


def walking(count: int) -> list[PersonFrame]:
    """`count` frames of the people of `helpers_meshing.frames`, again and again."""
    one = frames()
    step = one[-1].stamp_ns - one[0].stamp_ns + 33_000_000
    return [
        replace(frame, stamp_ns=frame.stamp_ns + n * step)
        for n in range(-(-count // len(one)))
        for frame in one
    ][:count]


def write_recording(path: Path, kind: str, some: list[PersonFrame]) -> Path:
    """A recording at `path`, plus a suffix if it is a file."""
    if kind == "openpose":
        return openpose(path, some)
    if kind == "npz":
        path = path.with_name(path.name + ".npz")
        rows = [(f.number, k) for f in numbered(some) for k in f.keypoints]
        np.savez(
            path,
            keypoints=np.array([k for _, k in rows]),
            frame=np.array([n for n, _ in rows]),
            layout="openpose_coco_18",
            width=640,
            height=480,
        )
        return path
    stamps = [frame.stamp_ns for frame in some]
    topics = [keypoint_recording("/people", some), camera_recording("/info", CAMERA, "eye", stamps)]
    write_bag(path, topics, storage=kind)
    return path


def numbered(some: list[PersonFrame]) -> list[PersonFrame]:
    return [replace(frame, number=n) for n, frame in enumerate(some)]


def make_fleet(folder: Path, count: int, damaged_every: int = 10) -> Fleet:
    """`count` recordings of 8 to 46 frames, of every kind in turn; every so many are damaged, each
    in another way."""
    folder.mkdir()
    good, damaged = [], []
    for number in range(count):
        name, kind = f"r{number:04d}", KINDS[number % len(KINDS)]
        if number % damaged_every == damaged_every - 1:
            damage(folder, name, number // damaged_every)
            damaged.append(name)
        else:
            write_recording(folder / name, kind, walking(8 + (number * 7) % 39))
            good.append(name)
    return Fleet(folder, good, damaged)


def damage(folder: Path, name: str, how: int) -> None:
    some = walking(20)
    if how % 4 == 0:  # cut off in the middle, as by a full disk
        path = next(write_recording(folder / name, "mcap", some).glob("*.mcap"))
        path.write_bytes(path.read_bytes()[:700])
    elif how % 4 == 1:
        (folder / f"{name}.npz").write_bytes(b"PK\x03\x04 no archive")
    elif how % 4 == 2:
        (folder / f"{name}.json").write_text('{"people": [')
    else:  # nobody in it
        empty = [replace(f, ids=(), keypoints=np.zeros((0, 18, 3), np.float32)) for f in some]
        write_bag(folder / name, [keypoint_recording("/people", empty)])


def command(*words: object, name: str = "mesh-all", **options) -> subprocess.Popen:
    """A command of many recordings as a process of its own group."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(
        [sys.executable, "-m", "key2mesh_core", name, *map(str, words)],
        text=True,
        start_new_session=True,
        **pipes,
    )


def lines(printed: str) -> dict[str, dict]:
    """The printed records by name; every line is one, and no name occurs twice."""
    records = [json.loads(line) for line in printed.splitlines()]
    found = {record["name"]: record for record in records}
    assert len(found) == len(records)
    return found


def records(output: Path) -> dict[str, dict]:
    """The records in an output folder by name."""
    return {
        path.stem: json.loads(path.read_text()) for path in (output / "_records").glob("[!.]*.json")
    }


def wait_for(condition, process: subprocess.Popen, seconds: float = 240.0):
    """What `condition` returns once it is true."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, process.communicate(timeout=20)[1]
        assert time.monotonic() < limit, "nothing happened"
        time.sleep(0.02)
    return found


def kill_all(process: subprocess.Popen) -> None:
    """Kills a process and its children at once, as a machine that loses power does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
