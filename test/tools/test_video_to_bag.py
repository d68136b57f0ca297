# SPDX-License-Identifier: Apache-2.0
"""The tool that makes recordings, with a detector of our own in place of MediaPipe's."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers_recordings import read_keypoints

from key2mesh_core.errors import BagError
from key2mesh_core.recordings.bags import read_camera

PATH = Path(__file__).resolve().parents[2] / "tools" / "video_to_bag.py"
WHITE = 255


def load():
    spec = importlib.util.spec_from_file_location("video_to_bag", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["video_to_bag"] = module
    spec.loader.exec_module(module)
    return module


tool = load()


class BlobTracker:
    """Finds the leftmost white blob: its box becomes 33 landmarks down its middle."""

    def process(self, image):
        rows, columns = np.nonzero((image == WHITE).all(axis=2))
        if not len(columns):
            return SimpleNamespace(pose_landmarks=None)
        height, width = image.shape[:2]
        mine = columns < columns.min() + 20
        x = columns[mine].mean() / width
        low, high = rows[mine].min() / height, rows[mine].max() / height
        points = [SimpleNamespace(x=x, y=y, visibility=0.9) for y in np.linspace(low, high, 33)]
        return SimpleNamespace(pose_landmarks=SimpleNamespace(landmark=points))


def image(*lefts: int) -> np.ndarray:
    """A black picture with a white upright bar at each of the given columns."""
    result = np.zeros((100, 200, 3), np.uint8)
    for left in lefts:
        result[30:70, left : left + 8] = WHITE
    return result


def middles(people) -> list[int]:
    return [round(float(person[:, 0].mean())) for person in people]


def test_each_tracker_finds_somebody_else_in_pixels():
    people = tool.detect([BlobTracker(), BlobTracker()], image(20, 120))
    assert middles(people) == [24, 124]
    assert people[0].shape == (33, 3)
    assert people[0][:, 1].min() == pytest.approx(30, abs=1)
    assert people[0][:, 1].max() == pytest.approx(70, abs=1)


def test_no_more_people_than_trackers_and_nobody_is_nobody():
    assert len(tool.detect([BlobTracker()], image(20, 120))) == 1
    assert len(tool.detect([BlobTracker()] * 3, image(20, 120))) == 2
    assert tool.detect([BlobTracker()] * 2, image()) == []


def test_the_picture_itself_is_not_painted_on():
    original = image(20, 120)
    tool.detect([BlobTracker(), BlobTracker()], original)
    np.testing.assert_array_equal(original, image(20, 120))


def person(x: float, height: float = 100.0) -> np.ndarray:
    result = np.zeros((33, 3), np.float32)
    result[:, 0] = x
    result[:, 1] = np.linspace(0, height, 33)
    return result


def test_names_stay_with_people_when_trackers_swap_them():
    names = tool.Names()
    assert names.assign(0, [person(0), person(300)]) == ["person_1", "person_2"]
    assert names.assign(1, [person(305), person(5)]) == ["person_2", "person_1"]


def test_who_appears_far_away_is_somebody_new_and_the_old_name_waits():
    names = tool.Names()
    names.assign(0, [person(0)])
    assert names.assign(1, [person(400)]) == ["person_2"]
    assert names.assign(2, [person(10), person(400)]) == ["person_1", "person_2"]


def test_a_name_is_forgotten_after_a_while():
    names = tool.Names()
    names.assign(0, [person(0)])
    assert names.assign(tool.Names.PATIENCE, [person(0)]) == ["person_1"]
    assert names.assign(2 * tool.Names.PATIENCE + 1, [person(0)]) == ["person_2"]


class FakeCapture:
    """OpenCV's VideoCapture, blue-green-red."""

    def __init__(self, images):
        self._images = list(images)

    def read(self):
        return (True, self._images.pop(0)) if self._images else (False, None)


def convert(monkeypatch, tmp_path, images, *words: str) -> argparse.Namespace:
    video = tool.Video(width=200, height=100, rate=10.0, frames=len(images))
    monkeypatch.setattr(tool, "open_video", lambda path: (FakeCapture(images), video))
    monkeypatch.setattr(tool, "detectors", lambda count, model: [BlobTracker()] * count)
    options = tool.arguments(["v.mp4", str(tmp_path / "bag"), "--stamp", "1000", *words])
    tool.convert(options)
    return options


def test_a_video_becomes_a_recording_frame_by_frame(monkeypatch, tmp_path):
    images = [image(), image(20), image(22, 120), image()]
    options = convert(monkeypatch, tmp_path, images, "--fov", "90")
    frames = list(read_keypoints(options.bag))
    assert [f.ids for f in frames] == [(), ("person_1",), ("person_1", "person_2"), ()]
    assert [f.stamp_ns for f in frames] == [10**12 + i * 10**8 for i in range(4)]
    assert {(f.layout, f.width, f.height) for f in frames} == {("mediapipe_33", 200, 100)}
    camera = read_camera(options.bag)
    assert camera.intrinsics.fx == pytest.approx(100.0)  # 90 degrees across 200 px
    assert (camera.width, camera.height) == (200, 100)


def test_only_the_chosen_part_is_used(monkeypatch, tmp_path):
    images = [image(20 + i) for i in range(10)]
    options = convert(
        monkeypatch, tmp_path, images, "--start", "0.2", "--duration", "0.5", "--every", "2"
    )
    frames = list(read_keypoints(options.bag))
    assert [round(float(f.keypoints[0, 0, 0])) for f in frames] == [26, 28, 30]
    assert frames[0].stamp_ns == 10**12


def test_a_video_without_anybody_is_refused_and_nothing_written(monkeypatch, tmp_path):
    with pytest.raises(BagError, match="nobody was found in 3 frames"):
        convert(monkeypatch, tmp_path, [image()] * 3)
    assert not (tmp_path / "bag").exists()


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(PATH), *words], capture_output=True, text=True, timeout=60
    )


def test_mistakes_are_said_in_a_sentence(tmp_path):
    done = run(str(tmp_path / "none.mp4"), str(tmp_path / "bag"))
    assert (done.returncode, "there is no video" in done.stderr) == (2, True)
    done = run("v.mp4", str(tmp_path))
    assert (done.returncode, "exists already" in done.stderr) == (2, True)
    done = run("v.mp4", "b", "--every", "0")
    assert (done.returncode, "--every must be at least 1" in done.stderr) == (2, True)


@pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is not None, reason="MediaPipe is installed here"
)
def test_without_mediapipe_it_says_how_to_install_it(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"")
    done = run(str(tmp_path / "v.mp4"), str(tmp_path / "bag"))
    assert done.returncode == 2
    assert "pip install mediapipe==0.10.21 'numpy<2' rosbags" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches():
    text = run("--help").stdout
    for word in ("mediapipe==0.10.21", "--fov", "--people", "ros2 bag play", "key2mesh view"):
        assert word in text
