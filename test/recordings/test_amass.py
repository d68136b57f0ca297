# SPDX-License-Identifier: Apache-2.0
"""Reading motion capture: thinning, glitches, files that hold no motion, damaged files."""

import numpy as np
import pytest
from helpers_training import write_clip

from key2mesh_core.errors import TrainingError
from key2mesh_core.recordings.amass import find_clips, load_clip, load_clips, split_clips


def test_clips_are_thinned_to_about_thirty_frames_a_second(tmp_path):
    clip = load_clip(write_clip(tmp_path / "a.npz", frames=120, mocap_framerate=120.0))
    assert clip.poses.shape == (30, 22, 3)
    assert clip.frame_rate == 30
    slow = load_clip(write_clip(tmp_path / "b.npz", frames=25, mocap_framerate=25.0))
    assert len(slow.poses) == 25


def test_the_frame_rate_key_of_smplx_files_is_known(tmp_path):
    path = write_clip(tmp_path / "x.npz", frames=60, mocap_framerate=None, mocap_frame_rate=60.0)
    assert load_clip(path).frame_rate == 30


def test_a_glitch_is_left_out_and_its_neighbours_stay(tmp_path):
    path = write_clip(tmp_path / "a.npz", frames=20)
    with np.load(path) as file:
        poses = file["poses"].copy()
    poses[7, 3 * 18 : 3 * 18 + 3] += [0, 0, 2.5]
    poses[15, 10] = np.nan
    clip = load_clip(write_clip(tmp_path / "b.npz", frames=20, poses=poses))
    kept = poses[[i for i in range(20) if i not in (6, 7, 8, 15)], :66]
    remaining = {tuple(row) for row in clip.poses.reshape(len(clip.poses), 66).round(5).tolist()}
    assert tuple(poses[7, :66].round(5).tolist()) not in remaining
    assert np.isfinite(clip.poses).all()
    assert remaining >= {tuple(row) for row in kept.round(5).tolist()}


def test_gender_and_betas_are_read(tmp_path):
    betas = np.arange(16, dtype=np.float32)
    clip = load_clip(write_clip(tmp_path / "a.npz", betas=betas, gender=np.array(b"female")))
    assert clip.gender == "female"
    np.testing.assert_array_equal(clip.betas, betas[:10])


def test_files_without_motion_are_passed_over(tmp_path):
    write_clip(tmp_path / "shape.npz", poses=None)
    write_clip(tmp_path / "s" / "a_poses.npz")
    assert [clip.name for clip in load_clips(find_clips(tmp_path))] == ["a_poses"]


def test_damaged_files_are_refused_by_name(tmp_path):
    good = write_clip(tmp_path / "good.npz")
    damaged = {
        "cut.npz": good.read_bytes()[: good.stat().st_size // 2],
        "empty.npz": b"",
        "text.npz": b"not an archive",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TrainingError, match=name):
            load_clip(tmp_path / name)
    flat = write_clip(tmp_path / "flat.npz", poses=np.zeros((5, 30), np.float32))
    with pytest.raises(TrainingError, match=r"flat\.npz.*\(5, 30\)"):
        load_clip(flat)
    nothing = write_clip(tmp_path / "nan.npz", poses=np.full((5, 156), np.nan, np.float32))
    with pytest.raises(TrainingError, match=r"nan\.npz.*no usable frame"):
        load_clip(nothing)


def test_a_pickle_inside_a_clip_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "bomb.npz"
    np.savez(path, poses=np.array([Bomb()], dtype=object))
    (tmp_path / "executed").unlink(missing_ok=True)
    with pytest.raises(TrainingError, match=r"bomb\.npz"):
        load_clip(path)
    assert not (tmp_path / "executed").exists()


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="AMASS layout"):
        find_clips(tmp_path)


def test_held_out_clips_are_matched_from_the_end_of_the_path(tmp_path):
    paths = [tmp_path / "a" / "1.npz", tmp_path / "b" / "1.npz", tmp_path / "b" / "2.npz"]
    training, held_out = split_clips(paths, ["b/1.npz", "*_s10_*.npz"])
    assert training == [paths[0], paths[2]]
    assert held_out == [paths[1]]
