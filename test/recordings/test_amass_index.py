# SPDX-License-Identifier: Apache-2.0
"""AMASS's official forms and splits, and the command that lists a folder."""

import numpy as np
import pytest
from helpers_training import write_clip

from key2mesh_core.cli.main import main
from key2mesh_core.errors import TrainingError
from key2mesh_core.recordings.amass import (
    find_clips,
    held_out_patterns,
    load_clip,
    load_clips,
    split_clips,
)
from key2mesh_core.recordings.amass_index import describe_clip, split_of


@pytest.fixture
def amass(tmp_path):
    """A folder with clips of both releases, beside files without motion."""
    smplh = {"dmpls": np.zeros((40, 8)), "mocap_framerate": 120.0}
    write_clip(tmp_path / "CMU/01/01_01_poses.npz", gender="male", **smplh)
    write_clip(tmp_path / "HumanEva/S1/Box_1_poses.npz", gender=b"female", **smplh)
    np.savez(tmp_path / "CMU/01/shape.npz", betas=np.zeros(16))
    poses = np.zeros((60, 165), np.float32)
    poses[:, 0] = np.pi / 2
    smplx = {
        "poses": poses,
        "mocap_framerate": None,
        "mocap_frame_rate": 60.0,
        "surface_model_type": "smplx",
    }
    write_clip(tmp_path / "SSM/20160330_03333/chicken_wings_stageii.npz", **smplx)
    np.savez(tmp_path / "SSM/20160330_03333/neutral_stagei.npz", betas=np.zeros(16))
    return tmp_path


def test_both_releases_are_described_and_read(amass) -> None:
    found = {path.name: describe_clip(path) for path in find_clips(amass)}
    clip = found["01_01_poses.npz"]
    assert (clip.data_set, clip.form, clip.rate, clip.gender) == (
        "CMU",
        "SMPL+H (156)",
        120,
        "male",
    )
    assert clip.seconds == pytest.approx(40 / 120)
    assert found["Box_1_poses.npz"].gender == "female"
    assert found["chicken_wings_stageii.npz"].form == "SMPL-X (165)"
    assert found["shape.npz"].problem == found["neutral_stagei.npz"].problem == "no poses"
    for name, info in found.items():
        assert (load_clip(info.path) is None) == bool(info.problem), name
    clips = load_clips(find_clips(amass), report=lambda line: None)
    assert [len(clip.poses) for clip in clips] == [10, 10, 30]  # about 30 per second


def test_the_list_agrees_with_the_reader_about_odd_clips(tmp_path) -> None:
    timed = write_clip(tmp_path / "timed.npz", mocap_framerate=None, mocap_time_length=2.0)
    assert describe_clip(timed).rate == 20  # 40 frames
    without_root = write_clip(tmp_path / "a.npz", poses=None, body_pose=np.zeros((40, 63)))
    assert load_clip(without_root) is None
    assert describe_clip(without_root).problem == "no poses"
    unrated = write_clip(tmp_path / "b.npz", mocap_framerate=0.0)
    with pytest.raises(TrainingError, match="not a frame rate"):
        load_clip(unrated)
    assert describe_clip(unrated).problem == "no valid frame rate"


def test_official_splits_hold_out_their_data_sets(amass) -> None:
    paths = find_clips(amass)
    patterns = held_out_patterns(["amass:vald", "amass:test"])
    training, held_out = split_clips(paths, patterns)
    assert {path.parent.parent.name for path in training} == {"CMU"}
    assert {path.parent.parent.name for path in held_out} == {"HumanEva", "SSM"}
    assert (split_of("MPI_mosh"), split_of("BMLrub"), split_of("Mine")) == ("vald", "train", "")
    with pytest.raises(TrainingError, match="splits are"):
        held_out_patterns(["amass:validation"])


def test_the_command_lists_data_sets_and_files_that_cannot_be_used(amass, capsys) -> None:
    (amass / "CMU/01/01_02_poses.npz").write_bytes(b"PK\x03\x04 truncated")
    write_clip(amass / "Mine/me/quaternions.npz", poses=np.zeros((40, 24, 4)))
    assert main(["motions", str(amass)]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "vald" in rows["HumanEva"]
    assert "SMPL-X (165) x 1" in rows["SSM"]
    assert rows["all"].split()[2] == "3"
    for words in ("damaged: 1 files", "no poses: 2 files", "poses of shape (40, 24, 4)"):
        assert words in out
    for path in find_clips(amass / "CMU"):
        path.write_bytes(b"")
    assert main(["motions", str(amass / "CMU")]) == 1
    assert main(["motions", str(amass / "absent")]) == 2
