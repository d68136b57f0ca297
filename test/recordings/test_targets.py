# SPDX-License-Identifier: Apache-2.0
"""Targets of every kind arrive as usable persons in time order, or are refused with the reason."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers_aistpp import CAMERAS, FRAMES, Studio
from helpers_recordings import read_keypoints
from PIL import Image

from key2mesh_core.cli.main import main
from key2mesh_core.errors import Key2MeshError, TargetError
from key2mesh_core.keypoints.arrays import sanitise, usable
from key2mesh_core.keypoints.layouts import LAYOUTS, to_network
from key2mesh_core.recordings.options import OPTIONS, parse_source
from key2mesh_core.recordings.targets import load_targets

STREET = Path(__file__).resolve().parents[2] / "demo" / "data" / "street"


def test_the_demo_recording_gives_its_usable_persons_and_nothing_else() -> None:
    targets = load_targets([f"bag:{STREET}"])
    persons = [
        (points, frame.ids[person], index)
        for index, frame in enumerate(read_keypoints(STREET))
        for person, points in enumerate(sanitise(to_network(frame.layout, frame.keypoints)))
    ]
    good = usable(np.stack([points for points, _, _ in persons]))
    assert len(targets) == good.sum() > 300
    assert targets.images == 230
    assert targets.left_out == {"nobody_in_image": 6}
    for points, name, index in persons:
        at = np.flatnonzero(targets.frame == index)
        (row,) = [i for i in at if targets.names[targets.sequence[i]].endswith(f" {name}")]
        np.testing.assert_array_equal(targets.keypoints[row], points)
    np.testing.assert_array_equal(targets.image_size, np.full((len(targets), 2), [1768, 994]))


def test_rows_of_a_sequence_are_consecutive_in_time() -> None:
    targets = load_targets([f"bag:{STREET}", f"bag:{STREET}"])
    assert (np.diff(targets.sequence) >= 0).all()
    same = np.diff(targets.sequence) == 0
    assert (np.diff(targets.frame)[same] > 0).all()
    once = load_targets([f"bag:{STREET}"])
    assert len(targets) == 2 * len(once)
    assert set(targets.sequence) == set(range(2 * len(once.names)))
    assert targets.left_out == {"nobody_in_image": 12}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("my_bag", "there is no my_bag.*KIND:PATH"),
        ("rosbag:my_bag", "one of bag"),
        ("bag:", "no path"),
        ("bag:b?colour=red", r"options? \['colour'\]"),
        ("bag:b?width", r"\?width"),
        ("bag:b?width=640", "go together"),
        ("bag:b?width=640&height=-1", "whole number"),
        ("bag:b?fov=wide", "fov is 'wide'"),
        ("bag:b?fov=200", "less than 180"),
        ("bag:b?rectified=yes", "true or false"),
        ("openpose:b?fps=0", "fps"),
    ],
)
def test_a_spec_that_says_nothing_clear_is_refused(spec: str, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        load_targets([spec])


def test_no_target_and_an_impossible_minimum_are_refused() -> None:
    with pytest.raises(TargetError, match="at least one"):
        load_targets([])
    with pytest.raises(TargetError, match="got 19"):
        load_targets([f"bag:{STREET}"], minimum=19)


# AIST++.


def test_aistpp_is_a_sequence_for_every_camera(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.keypoints[2, 3, 5:] = np.nan  # five points of the face are left
    studio.keypoints[1, 4] = np.nan
    studio.write()
    (file,) = studio.folder.glob("*.pkl")
    for path in (file, studio.folder):
        targets = load_targets([f"aistpp:{path}"])
        assert len(targets) == CAMERAS * FRAMES - 2
        assert targets.left_out == {"no_keypoints": 1, "too_few_keypoints": 1}
        assert len(targets.names) == CAMERAS
        assert targets.frame[targets.sequence == 2].tolist() == [n for n in range(FRAMES) if n != 3]
        clean = sanitise(to_network("coco_17", studio.keypoints[3]))
        np.testing.assert_array_equal(targets.keypoints[targets.sequence == 3], clean)
        assert (targets.image_size == [1920, 1080]).all()
    channel = file.stem.split("_")[-1]
    assert len(load_targets([f"aistpp:{studio.folder}?sequences={channel}"])) == len(targets)


def test_aistpp_refusals(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=str(tmp_path)):
        load_targets([f"aistpp:{tmp_path}"])
    with pytest.raises(Key2MeshError, match="0 files named"):
        load_targets([f"aistpp:{tmp_path}?sequences=ch06"])
    file = tmp_path / "x_ch03.pkl"
    file.write_bytes(b"cut")
    with pytest.raises(Key2MeshError, match=r"x_ch03\.pkl"):
        load_targets([f"aistpp:{file}"])


# The page about it.


def test_every_target_on_its_page_can_be_written_so() -> None:
    page = (STREET.parents[2] / "docs" / "recordings.md").read_text()
    specs = re.findall(r"`'?((?:bag|openpose|coco|aistpp|npz|3dpw|instavariety):[^`']+)'?`", page)
    assert {parse_source(spec).kind for spec in specs} == set(OPTIONS)
    listed = re.search(r"^Layouts: (.*?)\.$", page, re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == set(LAYOUTS)
    for option in {name for names in OPTIONS.values() for name in names}:
        assert f"`{option}`" in page


# The command.


def test_the_command_tells_what_there_is_and_draws_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "new" / "people.png"
    assert main(["targets", f"bag:{STREET}", "--picture", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "360 in 230 images" in shown
    assert "1768 x 994" in shown
    assert "6 nobody_in_image" in shown
    pixels = np.array(Image.open(picture))
    assert pixels.shape == (640, 1280, 3)
    colours = (pixels.max(axis=2) > 100).reshape(4, 160, 8, 160).sum(axis=(1, 3))
    assert (colours > 100).all()  # somebody in every tile


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", f"bag:{STREET}", "--topic", "/people"]) == 2
    assert "has no topic '/people'. It has keypoints on:\n  /keypoints (" in capsys.readouterr().err
    assert main(["targets"]) == 2
    assert "at least one" in capsys.readouterr().err
    assert main(["targets", f"bag:{STREET}", "--picture", "people.jpg"]) == 2
    assert "writes .png" in capsys.readouterr().err
