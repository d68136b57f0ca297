# SPDX-License-Identifier: Apache-2.0
"""`key2mesh view` of recordings: what is shown, when, and what is refused before a page opens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import make_bundle
from helpers_recordings import read_keypoints
from write_bags import Message, TopicMessages, keypoint_recording, write_bag

from key2mesh_core.cli.view import RecordingView, ViewConfig, open_view, play, view
from key2mesh_core.errors import BundleError, Key2MeshError, TargetError
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.recordings.bags import (
    MESHES_TYPE,
    TOPOLOGY_TYPE,
    message_store,
    read_camera,
)

STREET = Path(__file__).resolve().parents[2] / "demo" / "data" / "street"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small").path


class Witness:
    """A fake viewer that records its calls and their times."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object, float]] = []

    def __getattr__(self, name: str):
        return lambda *arguments: self.told.append((name, arguments, time.monotonic()))

    def names(self) -> list[str]:
        return [name for name, _, _ in self.told]


def mesh_bag(path: Path, topology: bool, body_model: str = "bones@000000000000") -> Path:
    """Three frames of one body each, 0.1 s apart, and their topology."""
    types = message_store().types
    time_type = types["builtin_interfaces/msg/Time"]
    messages = []
    for i in range(3):
        body = types["key2mesh_ros/msg/BodyMesh"](
            id="p",
            quality=1.0,
            reprojection_error=float(i),
            position=types["geometry_msgs/msg/Point"](0.0, 0.0, 3.0),
            position_covariance=np.zeros(9, np.float32),
            betas=np.zeros(10, np.float32),
            pose=np.zeros(72, np.float32),
            joints=np.zeros(72, np.float32),
            vertices=np.ones(9, np.float32),
        )
        header = types["std_msgs/msg/Header"](time_type(5, i * 100_000_000), "eye")
        array = types[MESHES_TYPE](
            header=header,
            body_model=body_model,
            people_seen=1,
            people_without_body=0,
            metric=True,
            bodies=[body],
        )
        messages.append(Message(i + 1, array))
    recordings = [TopicMessages("/meshes", MESHES_TYPE, messages)]
    if topology:
        value = types[TOPOLOGY_TYPE](
            body_model=body_model,
            triangles=np.array([0, 1, 2], np.uint32),
            joint_names=["j"] * 24,
            parents=np.array([-1, *range(23)], np.int32),
        )
        recordings.append(TopicMessages("/topology", TOPOLOGY_TYPE, [Message(0, value)]))
    write_bag(path, recordings)
    return path


def test_recorded_keypoints_become_meshes(bundle):
    shown = open_view(STREET, str(bundle))
    frames = list(shown.frames())
    recorded = list(read_keypoints(STREET))
    assert [f.stamp_ns for f in frames] == [f.stamp_ns for f in recorded]
    assert [f.ids for f in frames] == [f.ids for f in recorded]
    assert shown.camera.intrinsics == read_camera(STREET).intrinsics
    count = load_bundle(bundle).vertex_count
    assert all(f.vertices.shape == (len(f.ids), count, 3) for f in frames if f.ids)
    assert all(np.isfinite(f.vertices).all() for f in frames)


def test_without_a_camera_one_is_assumed(tmp_path, bundle):
    frames = list(read_keypoints(STREET))[:5]
    write_bag(tmp_path / "bag", [keypoint_recording("/k", frames)])
    shown = open_view(tmp_path / "bag", str(bundle))
    assert (shown.camera.width, shown.camera.intrinsics.cx) == (1768, 884)


def test_recorded_meshes_are_shown_with_the_recorded_topology(tmp_path):
    shown = open_view(mesh_bag(tmp_path / "bag", topology=True, body_model="other@1"))
    np.testing.assert_array_equal(shown.triangles, [[0, 1, 2]])
    assert [float(f.reprojection_error[0]) for f in shown.frames()] == [0, 1, 2]
    assert shown.camera is None


def test_recorded_meshes_without_topology_borrow_the_model_s_if_it_is_the_same_body(
    tmp_path, bundle, capsys
):
    shown = open_view(mesh_bag(tmp_path / "same", topology=False), str(bundle))
    np.testing.assert_array_equal(shown.triangles, load_bundle(bundle).triangles)
    shown = open_view(mesh_bag(tmp_path / "other", False, "other@1"), str(bundle))
    assert shown.triangles is None
    assert shown.parents is not None
    assert "only joints can be shown" in capsys.readouterr().out


def test_it_plays_at_the_speed_of_the_stamps(tmp_path):
    shown = open_view(mesh_bag(tmp_path / "bag", topology=True))
    for rate, expected in ((1.0, 0.2), (4.0, 0.05)):
        witness = Witness()
        begin = time.monotonic()
        play(witness, shown, rate=rate)
        assert witness.names() == ["set_topology", "show", "show", "show"]
        times = [when for name, _, when in witness.told if name == "show"]
        assert expected <= times[-1] - begin < expected + 5.0


def test_a_loop_starts_again(tmp_path):
    shown = open_view(mesh_bag(tmp_path / "bag", topology=True))
    witness = Witness()
    passes = 0

    def frames():
        nonlocal passes
        passes += 1
        if passes == 3:
            raise KeyboardInterrupt
        return shown.frames()

    with pytest.raises(KeyboardInterrupt):
        play(
            witness, RecordingView(shown.triangles, shown.parents, None, frames), loop=True, rate=50
        )
    assert witness.names().count("show") == 6


def test_what_cannot_work_is_refused_before_a_page_is_served(tmp_path, bundle):
    with pytest.raises(TargetError, match=r"there is no .*absent"):
        view(ViewConfig(bag=tmp_path / "absent"))
    with pytest.raises(BundleError):
        view(ViewConfig(bag=STREET, model=str(tmp_path / "absent")))
    for wrong in ({"rate": 0.0}, {"rate": float("nan")}, {"port": 0}):
        with pytest.raises(Key2MeshError, match=f"--{next(iter(wrong))} must"):
            ViewConfig(**wrong)


def test_the_command_plays_a_recording_once_and_ends(bundle):
    pytest.importorskip("viser")
    words = ("view", STREET, "--model", bundle, "--no-loop", "--rate", 40, "--port", 8350)
    done = subprocess.run(
        [sys.executable, "-m", "key2mesh_core.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("open http://localhost:83")
    assert "Traceback" not in done.stderr


def test_an_openpose_folder_is_shown_as_well(tmp_path, bundle):
    person = [v for x in range(18) for v in (300.0 + 9 * x, 100.0 + 15 * x, 0.9)]
    for number in range(3):
        people = {"people": [{"person_id": [-1], "pose_keypoints_2d": person}]}
        (tmp_path / f"a_{number:03d}_keypoints.json").write_text(json.dumps(people))
    shown = open_view(f"openpose:{tmp_path}?width=640&height=480&fov=60", str(bundle))
    assert (shown.camera.width, shown.camera.height) == (640, 480)
    assert [len(frame.ids) for frame in shown.frames()] == [1, 1, 1]


def test_a_recording_without_anybody_is_refused_before_a_page_is_served(tmp_path, bundle):
    nobody = [replace(frame, ids=(), keypoints=frame.keypoints[:0]) for frame in some_frames(4)]
    write_bag(tmp_path / "bag", [keypoint_recording("/k", nobody)])
    with pytest.raises(TargetError, match="4 x nobody_in_image"):
        view(ViewConfig(str(tmp_path / "bag"), model=str(bundle)))


def some_frames(count: int):
    return list(islice(read_keypoints(STREET), count))


def test_ctrl_c_ends_with_0_and_a_second_one_as_well(bundle):
    pytest.importorskip("viser")
    words = ("view", STREET, "--model", bundle, "--port", 8360)
    process = subprocess.Popen(
        [sys.executable, "-m", "key2mesh_core", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("open http://localhost:83")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""
