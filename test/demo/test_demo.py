# SPDX-License-Identifier: Apache-2.0
"""The demo, shortened: real detections over DDS into the installed program, and meshes back."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import make_bundle
from PIL import Image

from key2mesh_core.recordings.open import open_recording

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"
STREET = DEMO / "data" / "street"
KEYS = (
    "frames_in",
    "meshes_out",
    "dropped",
    "latency_ms_p50",
    "latency_ms_p99",
    "reprojection_px_median",
)

needs_ros = pytest.mark.skipif(
    not os.environ.get("AMENT_PREFIX_PATH"), reason="needs ROS and built messages (make test)"
)


def demo_module(name: str):
    """One of the demo's modules; they live beside each other, not in a package."""
    sys.path.insert(0, str(DEMO))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DEMO))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small").path


def start(*words: str | Path, **options) -> subprocess.Popen:
    """The demo in a session of its own, listening to SIGINT as under a terminal."""
    return subprocess.Popen(
        [sys.executable, str(DEMO / "run.py"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def running(folder: Path) -> list[str]:
    """Command lines of this machine's processes that mention a folder."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in line:
                lines.append(line)
    return lines


@needs_ros
def test_the_demo_from_recording_to_picture(tmp_path, bundle):
    # Half the speed: this test is about the way through, not about a busy machine's patience.
    demo = start("--limit", 60, "--rate", 0.5, "--model", bundle, "--out", tmp_path / "out")
    output, errors = demo.communicate(timeout=180)
    assert demo.returncode == 0, errors
    numbers = json.loads(output.splitlines()[-1])
    assert tuple(numbers) == KEYS
    # Nobody is seen in the first three of these sixty frames; they are answered, too.
    assert numbers["frames_in"] == 60
    assert 0.95 * 57 <= numbers["meshes_out"] <= 57
    assert numbers["dropped"] <= 3
    assert 0 < numbers["latency_ms_p50"] <= numbers["latency_ms_p99"]
    assert numbers["reprojection_px_median"] > 0
    picture = np.asarray(Image.open(tmp_path / "out" / "mesh.png").convert("RGB"))
    assert picture.std() > 10
    assert not running(bundle)


@needs_ros
def test_a_model_that_cannot_be_loaded_ends_the_demo_with_the_reason(tmp_path):
    run = demo_module("run")
    processes = demo_module("processes")
    options = run.arguments(["--model", str(tmp_path / "nothing"), "--out", str(tmp_path)])
    started = processes.Processes(tmp_path)
    try:
        node = run.start_node(started, options)
        deadline = time.monotonic() + 60
        while "nothing" not in node.log() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert str(tmp_path / "nothing") in node.log()
    finally:
        started.end()
    assert not running(tmp_path)


@needs_ros
@pytest.mark.parametrize(
    "request_to_end", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_an_interrupt_leaves_no_process_behind(tmp_path, bundle, request_to_end):
    demo = start("--model", bundle, "--out", tmp_path / "out")
    try:
        while "active" not in (line := demo.stderr.readline()):
            assert line, "the demo ended before the node was active"
        assert len(running(bundle)) >= 2, "the demo and its node"
        demo.send_signal(request_to_end)
        demo.communicate(timeout=40)
    finally:
        demo.kill()
    assert demo.returncode in (130, 143)
    assert not running(bundle)
    assert not (tmp_path / "out").exists()


def test_without_an_installed_node_it_says_what_to_run(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "AMENT_PREFIX_PATH"}
    demo = start("--out", tmp_path, env=environment)
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "run `make demo`" in errors
    assert "Traceback" not in errors
    assert not output


# What it counts.


@pytest.fixture
def outcome():
    """A hundred frames with a person, ten without; all played, all answered."""
    module = demo_module("outcome")
    with_person = frozenset(range(100))
    return module.Outcome(
        usable=with_person,
        sent={i: i * 1000 for i in range(110)},
        answered={i: i * 1000 + 2_000_000 for i in range(110)},
        meshes=set(with_person),
        errors=[1.0, 2.0, 9.0],
    )


def test_a_complete_run_is_good(outcome):
    assert outcome.complaint() is None
    assert outcome.numbers() == {
        "frames_in": 110,
        "meshes_out": 100,
        "dropped": 0,
        "latency_ms_p50": 2.0,
        "latency_ms_p99": 2.0,
        "reprojection_px_median": 2.0,
    }


def test_95_percent_is_enough_and_less_is_not(outcome):
    for i in range(5):
        outcome.meshes.remove(i)
        del outcome.answered[i]
    assert outcome.complaint() is None
    assert outcome.numbers()["dropped"] == 5
    outcome.meshes.remove(5)
    assert "only 94 of 100 frames" in outcome.complaint()


def test_empty_answers_are_no_meshes(outcome):
    outcome.meshes.clear()
    assert outcome.numbers()["meshes_out"] == 0
    assert outcome.numbers()["dropped"] == 0
    assert outcome.numbers()["latency_ms_p50"] is None
    assert "only 0 of 100" in outcome.complaint()


def test_nothing_played_is_no_success(outcome):
    outcome.sent.clear()
    assert "no frame with a usable person" in outcome.complaint()


# Its picture.


def test_the_picture_takes_one_shot_from_each_part_of_the_recording():
    picture = demo_module("picture")
    frames = list(open_recording(STREET))
    shots = picture.choose_shots(frames, 6)
    parts = [int(shot.seconds * 30 + 0.5) * 6 // len(frames) for shot in shots]
    assert parts == list(range(6))
    assert len({shot.name for shot in shots}) > 1
    assert picture.choose_shots(frames[:3], 6) == []


def test_the_close_up_keeps_points_on_their_keypoints():
    """Whatever projects onto a keypoint in the image does so in the tile, too."""
    from key2mesh_core.camera.pinhole import project

    picture = demo_module("picture")
    frames = list(open_recording(STREET))
    (shot, *_) = picture.choose_shots(frames, 1)
    intrinsics = frames[0].camera.intrinsics
    fx, fy, cx, cy = intrinsics.as_array()
    at = (shot.keypoints[:, :2] - [cx, cy]) / [fx, fy]
    points = 5.0 * np.concatenate([at, np.ones((len(at), 1))], axis=1)
    camera, moved = picture._closer(shot.keypoints, intrinsics)
    seen = shot.keypoints[:, 2] > 0
    np.testing.assert_allclose(project(points, camera)[seen], moved[seen, :2], atol=0.01)
    assert (moved[seen, :2] >= 0).all()
    assert (moved[seen, :2] <= np.array(picture.TILE)).all()
