# SPDX-License-Identifier: Apache-2.0
"""The same on Ray: two workers, one of them killed; the whole command killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from helpers_fleet import (
    Fleet,
    command,
    lines,
    make_fleet,
    records,
    wait_for,
    walking,
    write_recording,
)

from key2mesh_core.cli.main import main
from key2mesh_core.fleet.config import MeshAllConfig
from key2mesh_core.fleet.mesh_all import mesh_all
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh

RAY = ("--ray", "--workers", 2, "--threads", 1)
CAMERA = ("--fov", 60, "--image-size", 640, 480)


def held_by_workers(output: Path) -> dict[str, int]:
    """Name of each recording that a worker holds, and the worker's process."""
    held = {n: r for n, r in records(output).items() if r["state"] == "started"}
    return {name: int(record["worker"].rpartition(":")[2]) for name, record in held.items()}


def made_files(output: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in output.glob("*.npz")}


def check_all_done(fleet: Fleet, found: dict[str, dict], output: Path, one: Path) -> None:
    """Every good recording is done, with the bytes of the local command; every damaged one is
    named; nothing else is there."""
    states = {name: record["state"] for name, record in found.items()}
    assert {n for n, s in states.items() if s == "failed"} == set(fleet.damaged)
    assert set(states) == {*fleet.good, *fleet.damaged}
    assert {p.stem for p in output.glob("*.npz")} == set(fleet.good)
    for path in output.glob("*.npz"):
        assert path.read_bytes() == (one / path.name).read_bytes()
    for name in fleet.damaged:
        assert name in found[name]["error"]
    assert list((output / "_work").iterdir()) == []


def test_a_recording_whose_worker_dies_is_made_again_or_given_up(
    tmp_path, bundle, fleet, one_by_one
):
    """The worker of one recording dies once, and that of another at every try."""
    recordings, one, output = (tmp_path / name for name in ("recordings", "one", "out"))
    recordings.mkdir()
    for path in fleet.folder.iterdir():
        (recordings / path.name).symlink_to(path)
    shutil.copytree(one_by_one, one)
    long = write_recording(recordings / "long", "mcap", walking(1000))
    (recordings / "deadly").symlink_to(long)
    options = {"model": bundle, "fov": 60.0, "image_size": (640, 480), "threads": 1}
    assert mesh(MeshConfig(str(long), one / "long.npz", **options)) == 0
    process = command(recordings, output, "--model", bundle, *CAMERA, *RAY, "--retries", 1)
    killed: list[int] = []
    for name in ("long", "deadly", "deadly"):
        worker = wait_for(lambda name=name: next_holder(output, name, killed), process)
        os.kill(worker, signal.SIGKILL)
        killed.append(worker)
    printed, told = process.communicate(timeout=200)
    assert process.returncode == 1, told
    found = lines(printed)
    given_up = found.pop("deadly")
    assert given_up["state"] == records(output)["deadly"]["state"] == "failed"
    assert "2 tries" in given_up["error"]
    assert "deadly" in told
    shutil.rmtree(output / "_work" / "deadly")  # the next start would resume it
    check_all_done(replace(fleet, good=[*fleet.good, "long"]), found, output, one)
    workers = {int(record["worker"].rpartition(":")[2]) for record in found.values()}
    assert len(workers) <= 4  # two at a time; each does many recordings
    assert not workers & set(killed)


def next_holder(output: Path, name: str, killed: list[int]) -> int | None:
    """The process that holds a recording, if it is not one that was killed."""
    holder = held_by_workers(output).get(name)
    return None if holder in killed else holder


@pytest.mark.long
def test_five_hundred_recordings_survive_a_killed_worker_and_a_killed_driver(tmp_path, bundle):
    fleet = make_fleet(tmp_path / "recordings", 500)
    output, one = tmp_path / "out", tmp_path / "one"
    words = (fleet.folder, output, "--model", bundle, *CAMERA, *RAY)
    # Files, because nobody reads a pipe until the command ends, and a pipe holds only 64 KiB.
    with (tmp_path / "first").open("w") as first:
        process = command(*words, stdout=first)
    for count in (50, 120):  # two workers die
        wait_for(lambda count=count: len(made_files(output)) >= count, process)
        os.kill(wait_for(lambda: [*held_by_workers(output).values()], process)[0], signal.SIGKILL)
    wait_for(lambda: len(made_files(output)) >= 220, process)
    process.kill()  # the driver
    process.communicate()
    with (tmp_path / "second").open("w") as second:
        process = command(*words, stdout=second)
    done = {n: r for n, r in records(output).items() if r["state"] == "made"}
    before = made_files(output)
    _, told = process.communicate(timeout=500)
    assert process.returncode == 1, told
    found = lines((tmp_path / "second").read_text())
    # Nothing twice: what was done keeps its time and its record, and is skipped.
    after = made_files(output)
    assert {name: after[name] for name in before} == before
    states = {name: record["state"] for name, record in found.items()}
    assert len(done) >= 220
    assert {states[name] for name in done} == {"skipped"}
    assert {n: r for n, r in records(output).items() if n in done} == done
    # Nothing lost: the local command makes the same.
    options = {"model": bundle, "fov": 60.0, "image_size": (640, 480), "threads": 1}
    assert mesh_all(MeshAllConfig(recordings=str(fleet.folder), output=str(one), **options)) == 1
    check_all_done(fleet, found, output, one)


def test_a_cluster_that_is_not_there_is_refused(tmp_path, fleet, capsys):
    words = ["mesh-all", str(fleet.folder), str(tmp_path), "--ray-address", "127.0.0.1:1"]
    assert main(words) == 2
    assert "Ray cannot be used" in capsys.readouterr().err
