# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: whatever interrupts it costs time, never results."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_meshing import (
    COUNT,
    FORMS,
    alike,
    begin,
    everything,
    frames,
    recorded_at,
    small_groups,
)
from write_bags import keypoint_recording, write_bag

from key2mesh_core import io as io_
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh
from key2mesh_core.meshing.maker import MeshMaker
from key2mesh_core.meshing.partial import Partial


@pytest.mark.parametrize(("form", "name"), FORMS[:3])
def test_stopped_at_any_call_of_the_engine_it_resumes_to_the_same_result(
    tmp_path, bundle, source, monkeypatch, form, name
):
    small_groups(monkeypatch)
    options = {"model": bundle, "segment": 16, "form": form}
    assert mesh(MeshConfig(source, tmp_path / f"whole_{name}", **options)) == 0
    make, calls = MeshMaker.make, []

    def fail(self, images):
        calls.append(len(images))
        if len(calls) == at:
            raise (KeyboardInterrupt, MemoryError)[at % 2]
        return make(self, images)

    monkeypatch.setattr(MeshMaker, "make", fail)
    config = MeshConfig(source, tmp_path / name, **options)
    interruptions, at = 0, 1
    while True:
        # Every try gets one call further than the last: it stops at the 1st, 2nd, 3rd...
        calls.clear()
        try:
            mesh(config)
            break
        except (KeyboardInterrupt, MemoryError):
            interruptions += 1
            at += 1
            assert not config.target.exists()
    assert interruptions >= 3
    alike(everything(config.target), everything(tmp_path / f"whole_{name}"))
    assert not config.target.with_name(f"{name}.partial").exists()


@pytest.mark.parametrize(("form", "name"), FORMS[:2])
def test_stopped_while_it_is_put_together_it_is_put_together_again(
    tmp_path, bundle, source, monkeypatch, form, name
):
    small_groups(monkeypatch)
    options = {"model": bundle, "segment": 16, "form": form}
    whole, config = (MeshConfig(source, tmp_path / (n + name), **options) for n in ("whole_", ""))
    assert mesh(whole) == 0
    at, interruptions = 1, 0
    while True:
        calls = 0

        def fail(path, at=at):
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(io_, "sync", fail)
        try:
            mesh(config)
            break
        except Key2MeshError as error:
            assert "MiB are free" in str(error)  # noqa: PT017
            interruptions, at = interruptions + 1, at + 3
    assert interruptions > 2
    alike(everything(config.target), everything(whole.target))


def command(*words: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "key2mesh_core.cli.main", "mesh", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def long_recording(path: Path, times: int) -> Path:
    """As many times 40 frames as told; the meshes of each 40 take 3 MiB."""
    one = frames()
    more = [
        replace(f, stamp_ns=f.stamp_ns + n * 40 * 33_000_000) for n in range(times) for f in one
    ]
    write_bag(path, [keypoint_recording("/people", more)])
    return path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_what_the_next_one_goes_on_with(tmp_path, number):
    source = long_recording(tmp_path / "bag", 8)
    words = (source, tmp_path / "out", "--segment", 4, "--fov", 60)
    process = command(*words, "--threads", 1)
    first = tmp_path / "out.partial" / "00000"
    limit = time.monotonic() + 60
    while not first.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit, "no segment was completed"
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert ("the same command resumes" in told) == (number == signal.SIGINT)
    assert not (tmp_path / "out").exists()
    done = time.time()
    _, told = (again := command(*words)).communicate(timeout=120)
    assert again.returncode == 0, told
    assert "resuming after" in told
    files = sorted((tmp_path / "out").glob("*.mcap"))
    assert files[0].stat().st_mtime < done  # it was not made again
    assert len(recorded_at(tmp_path / "out", "/mesh_node/meshes")) == 8 * COUNT


@pytest.mark.parametrize("storage", ["mcap", pytest.param("sqlite3", marks=pytest.mark.long)])
def test_a_full_disk_is_told_and_survived(tmp_path, storage):
    source = long_recording(tmp_path / "bag", 2)
    words = (source, tmp_path / "out", "--fov", 60, "--storage", storage)
    # A limit on the size of files fails like a full disk, and needs no other file system.
    limit = (1 << 20, 1 << 20)
    process = command(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2, told
    assert "MiB are free" in told
    assert "Traceback" not in told
    _, told = (again := command(*words)).communicate(timeout=120)
    assert again.returncode == 0, told
    assert len(recorded_at(tmp_path / "out", "/mesh_node/meshes")) == 2 * COUNT


def test_work_goes_on_only_with_the_settings_it_was_begun_with(
    tmp_path, bundle, source, monkeypatch
):
    config = MeshConfig(source, tmp_path / "x.npz", model=bundle)
    small_groups(monkeypatch)
    begin(config, monkeypatch)
    with pytest.raises(Key2MeshError, match=r"fov.* 0.0.* 50.0.*--restart"):
        mesh(replace(config, fov=50.0))
    assert mesh(replace(config, fov=50.0, restart=True)) == 0
    assert everything(config.target)["intrinsics"][0, 0] == pytest.approx(
        320 / np.tan(np.pi * 25 / 180)
    )


def test_two_processes_do_not_work_on_one_target(tmp_path):
    held = Partial(tmp_path / "out", {})
    with pytest.raises(Key2MeshError, match=re.escape(str(held.folder))):
        Partial(tmp_path / "out", {})
    held.close()
    Partial(tmp_path / "out", {}).close()
    assert list(tmp_path.iterdir()) == []  # nothing worth keeping was left
