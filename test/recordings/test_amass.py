# SPDX-License-Identifier: Apache-2.0
"""Reading motion capture: thinning, glitches, files that hold no motion, damaged files."""

import numpy as np
import pytest
from helpers_training import write_clip

from key2mesh_core.errors import TrainingError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from key2mesh_core.recordings.amass import (
    find_clips,
    held_out_patterns,
    load_clip,
    load_clips,
    split_clips,
)


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


def test_files_without_motion_are_left_out_and_said(tmp_path):
    write_clip(tmp_path / "shape.npz", poses=None)
    write_clip(tmp_path / "s" / "a_poses.npz")
    said = []
    clips = load_clips(find_clips(tmp_path), report=said.append)
    assert [clip.name for clip in clips] == ["a_poses"]
    assert any("1 of 2 files" in each and "shape.npz" in each for each in said)


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
    with pytest.raises(TrainingError, match=r"nan\.npz"):
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


def _turned_clip(path, up, frames=40, **changes):
    """Somebody who stands and turns about the vertical, in a world with another axis up."""
    with np.load(write_clip(path, frames=frames)) as file:
        poses = file["poses"].copy()
    yaw = np.zeros((frames, 3), np.float32)
    yaw[:, 2] = np.linspace(0, 3, frames)
    stand = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
    to_world = {
        "+z": np.eye(3),
        "+y": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
        "-y": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
    }[up].astype(np.float32)
    roots = to_world @ axis_angle_to_matrix(yaw) @ stand
    poses[:, :3] = matrix_to_axis_angle(roots)
    return write_clip(path, frames=frames, poses=poses, **changes)


@pytest.mark.parametrize("up", ["+y", "-y"])
def test_a_world_with_another_axis_up_is_turned_and_said(tmp_path, up):
    upright = load_clip(_turned_clip(tmp_path / "z" / "a.npz", "+z", trans=None))
    said = []
    path = _turned_clip(tmp_path / "y" / "a.npz", up, trans=None)
    (found,) = load_clips([path], report=said.append)
    expected, turned = (axis_angle_to_matrix(clip.poses[:, 0]) for clip in (upright, found))
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    np.testing.assert_array_equal(found.poses[:, 1:], upright.poses[:, 1:])
    assert any(str(path.parent) in each for each in said)


def test_who_lies_among_those_who_stand_stays_and_is_named(tmp_path):
    paths = [_turned_clip(tmp_path / f"{n}.npz", "+z", trans=None) for n in range(3)]
    paths.append(_turned_clip(tmp_path / "lying.npz", "+y", trans=None))
    said = []
    clips = load_clips(paths, report=said.append)
    with np.load(paths[-1]) as file:
        np.testing.assert_allclose(clips[-1].poses[:, 0], file["poses"][:, :3], atol=1e-6)
    assert any("lying.npz" in each for each in said)


def test_who_crawls_over_the_ground_is_not_stood_up(tmp_path):
    trans = np.zeros((40, 3), np.float32)
    trans[:, 1] = np.linspace(0, 4, 40)
    path = _turned_clip(tmp_path / "crawl.npz", "+y", trans=trans)
    with np.load(path) as file:
        np.testing.assert_allclose(load_clip(path).poses[:, 0], file["poses"][:, :3], atol=1e-6)


@pytest.mark.parametrize("key", ["framerate", "fps", "frame_rate", "mocap_frame_rate"])
@pytest.mark.parametrize(
    "value", [120, 120.0, np.array([120.0]), np.array("120.0"), np.array(b"120"), np.float32(120)]
)
def test_every_form_of_the_frame_rate_is_read(tmp_path, key, value):
    path = write_clip(tmp_path / "a.npz", frames=120, mocap_framerate=None, **{key: value})
    clip = load_clip(path)
    assert (len(clip.poses), clip.frame_rate) == (30, 30)


def test_the_rate_follows_from_the_length_in_seconds(tmp_path):
    path = write_clip(tmp_path / "a.npz", frames=120, mocap_framerate=None, mocap_time_length=1.0)
    assert load_clip(path).frame_rate == 30


@pytest.mark.parametrize("rate", [np.nan, 0.0, -30.0, np.inf, "fast", 1e6, np.array([])])
def test_a_rate_that_is_none_is_refused_by_name(tmp_path, rate):
    path = write_clip(tmp_path / "a.npz", mocap_framerate=rate)
    with pytest.raises(TrainingError, match=r"a\.npz: 'mocap_framerate'"):
        load_clip(path)


def test_a_missing_rate_is_assumed_and_said(tmp_path):
    said = []
    path = write_clip(tmp_path / "a.npz", mocap_framerate=None)
    (clip,) = load_clips([path], report=said.append)
    assert (len(clip.poses), clip.frame_rate) == (40, 30)
    assert any(str(path) in each for each in said)


@pytest.mark.parametrize("shape", [(40, 66), (40, 72), (40, 156), (40, 165), (40, 24, 3)])
def test_every_body_models_poses_are_read(tmp_path, shape):
    with np.load(write_clip(tmp_path / "a.npz")) as file:
        body = file["poses"][:, :66]
    poses = np.zeros((40, int(np.prod(shape[1:]))), np.float64)
    poses[:, :66] = body
    clip = load_clip(write_clip(tmp_path / "b.npz", poses=poses.reshape(shape)))
    np.testing.assert_array_equal(clip.poses.reshape(40, 66), body)


@pytest.mark.parametrize("key", ["fullpose", "full_pose", "pose", "smpl_poses"])
def test_poses_are_read_by_any_of_their_names(tmp_path, key):
    with np.load(write_clip(tmp_path / "a.npz")) as file:
        poses = file["poses"]
    clip = load_clip(write_clip(tmp_path / "b.npz", poses=None, **{key: poses}))
    np.testing.assert_array_equal(clip.poses.reshape(40, 66), poses[:, :66])


@pytest.mark.parametrize("joints", [21, 23])
@pytest.mark.parametrize(
    "keys",
    [("root_orient", "pose_body"), ("global_orient", "body_pose"), ("poses_root", "poses_body")],
)
def test_poses_in_parts_are_read(tmp_path, keys, joints):
    with np.load(write_clip(tmp_path / "a.npz")) as file:
        body = file["poses"][:, :66]
    others = np.zeros((40, joints, 3), np.float32)
    others[:, :21] = body[:, 3:].reshape(40, 21, 3)
    parts = dict(zip(keys, (body[:, None, :3], others), strict=True))
    clip = load_clip(write_clip(tmp_path / "b.npz", poses=None, **parts))
    np.testing.assert_array_equal(clip.poses.reshape(40, 66), body)
    alone = write_clip(tmp_path / "c.npz", poses=None, **{keys[1]: others})
    assert load_clip(alone) is None


@pytest.mark.parametrize(
    "shape", [(40, 88), (40, 132), (40, 216), (40, 24, 3, 3), (40, 65), (1, 40, 66), ()]
)
def test_other_rotations_than_axis_angles_are_refused(tmp_path, shape):
    path = write_clip(tmp_path / "a.npz", poses=np.full(shape, 0.1, np.float32))
    with pytest.raises(TrainingError, match=r"a\.npz: its poses have shape"):
        load_clip(path)


def test_degrees_are_refused(tmp_path):
    with np.load(write_clip(tmp_path / "a.npz")) as file:
        poses = np.degrees(file["poses"])
    with pytest.raises(TrainingError, match=r"b\.npz.*degrees"):
        load_clip(write_clip(tmp_path / "b.npz", poses=poses))


def test_a_single_frame_is_a_clip_and_no_frame_is_none(tmp_path):
    assert len(load_clip(write_clip(tmp_path / "one.npz", frames=1)).poses) == 1
    empty = write_clip(tmp_path / "none.npz", poses=np.zeros((0, 156), np.float32))
    with pytest.raises(TrainingError, match=r"none\.npz"):
        load_clip(empty)


@pytest.mark.parametrize("gender", [b"female", np.array(b"female"), "female", "b'female'"])
def test_every_form_of_the_gender_is_read(tmp_path, gender):
    assert load_clip(write_clip(tmp_path / "a.npz", gender=gender)).gender == "female"


def test_betas_that_are_not_finite_are_refused(tmp_path):
    path = write_clip(tmp_path / "a.npz", betas=np.full(16, np.nan))
    with pytest.raises(TrainingError, match=r"a\.npz: 'betas'"):
        load_clip(path)


def test_held_out_lists_come_from_files(tmp_path):
    (tmp_path / "list.txt").write_text("a/1.npz\n\n  b/*.npz \n")
    assert held_out_patterns(("c", f"@{tmp_path / 'list.txt'}")) == ["c", "a/1.npz", "b/*.npz"]
    with pytest.raises(TrainingError, match=r"missing\.txt"):
        held_out_patterns((f"@{tmp_path / 'missing.txt'}",))
