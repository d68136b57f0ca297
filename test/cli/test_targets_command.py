# SPDX-License-Identifier: Apache-2.0
"""`key2mesh targets` reveals whether recorded keypoints are interpreted correctly."""

from pathlib import Path

import numpy as np
import pytest

from key2mesh_core.cli.main import main
from key2mesh_core.cli.targets import MISFIT, misses_of
from key2mesh_core.recordings.targets import load_targets

STREET = Path(__file__).parents[2] / "demo" / "data" / "street"


@pytest.fixture(scope="module")
def street():
    return load_targets([str(STREET)])


def file_of(path: Path, street, order) -> Path:
    np.savez(
        path,
        keypoints=street.keypoints[:, order],
        layout="openpose_coco_18",
        frame=street.frame,
        width=1768,
        height=994,
    )
    return path


def test_good_detections_are_explained(street, tmp_path, capsys):
    assert np.median(misses_of(street)) < 0.03
    assert main(["targets", str(file_of(tmp_path / "good.npz", street, np.arange(18)))]) == 0
    shown = capsys.readouterr()
    assert "explained" in shown.out
    assert "warning: bodies miss" not in shown.err


@pytest.mark.parametrize(
    "order",
    [
        np.arange(18)[::-1],
        [0, 1, *range(8, 14), *range(2, 8), *range(14, 18)],  # arms and legs exchanged
    ],
)
def test_keypoints_of_something_else_are_warned_of(street, tmp_path, capsys, order):
    path = file_of(tmp_path / "other.npz", street, order)
    assert np.median(misses_of(load_targets([str(path)]))) > MISFIT
    assert main(["targets", str(path)]) == 0
    assert "warning: bodies miss the keypoints" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["targets", "mesh", "view", "adapt"])
def test_every_command_that_reads_keypoints_takes_a_layout(street, tmp_path, capsys, command):
    path = tmp_path / "people.npz"
    np.savez(path, keypoints=street.keypoints, frame=street.frame, width=1768, height=994)
    target = [] if command in ("targets", "view") else [str(tmp_path / "out")]
    options = ["--target", str(path), "--output", *target]
    arguments = options if command == "adapt" else [str(path), *target]
    assert main([command, *arguments, "--layout", "halpe_26"]) == 2
    assert "'halpe_26' has 26 keypoints" in capsys.readouterr().err
