# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: motion in AMASS's layout, smooth if wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers_bundle import standing_person
from helpers_meshing import STAMPS, alike, begin, everything, frames, openpose, small_groups
from write_bags import keypoint_recording, write_bag

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.meshing.amass_out import clips_of
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh
from key2mesh_core.recordings.amass import load_clip


@pytest.mark.parametrize(
    ("stamps_s", "clips"),
    [
        ([0, 1 / 30, 2 / 30, 3 / 30], [(0, 4)]),
        ([0, 1 / 30, 3 / 30, 4 / 30], [(0, 4)]),  # the camera dropped an image
        ([0, 1 / 30, 180, 180 + 1 / 30], [(0, 2), (2, 4)]),  # nobody was there
        ([5, 5 + 1 / 30, 0, 1 / 30], [(0, 2), (2, 4)]),  # a looping bag
        ([0, 1 / 30, 2 / 30, 0.6], [(0, 3), (3, 4)]),  # many periods
        ([0, 0.5, 1.0, 1.5, 2.5], [(0, 5)]),  # a slow recording
        ([0, 2, 4, 6], [(0, 4)]),
        ([0], [(0, 1)]),
    ],
)
def test_a_pause_or_a_jump_back_ends_a_clip(stamps_s, clips):
    stamps = np.round(1e9 * np.array(stamps_s)).astype(np.int64)
    found = clips_of(np.arange(len(stamps)), stamps)
    assert [(clip.start, clip.stop) for clip in found] == clips


def test_motion_in_amass_layout_is_read_back_and_puts_the_body_where_it_was(tmp_path):
    """With the shipped model, of a person who stands for a while, is away, and comes back."""
    still = standing_person((300.0, 240.0), 250)
    one = replace(frames(2)[1], keypoints=still.astype(np.float32))
    numbers = [*range(6), *range(20, 24), 40]
    folder = openpose(tmp_path / "json", [one] * len(numbers), numbers, ids=True)
    options = {"image_size": (640, 480), "fov": 60.0, "fps": 25.0}
    for form, name in (("npz", "all.npz"), ("amass", "amass")):
        assert mesh(MeshConfig(folder, tmp_path / name, form=form, **options)) == 0
    rows = everything(tmp_path / "all.npz")
    # A frame alone is no motion, and a gap is no motion either.
    paths = sorted((tmp_path / "amass").iterdir())
    assert [p.name for p in paths] == ["person_000_000_poses.npz", "person_000_001_poses.npz"]
    first, second = (everything(p) for p in paths)
    assert (len(first["poses"]), second["frame"].tolist()) == (6, [20, 21, 22, 23])
    clip = load_clip(paths[0])
    assert (clip.frame_rate, clip.gender) == (pytest.approx(25.0), "neutral")
    np.testing.assert_allclose(clip.poses[:, 1:].reshape(6, -1), rows["poses"][:6, 3:66], atol=1e-6)
    np.testing.assert_allclose(clip.betas, rows["betas"][0], atol=1e-5)

    # What a tool that knows AMASS and the body makes of it, in a world with z up...
    from key2mesh_core.body.files import load_body

    body = load_body("default")
    shaped = body.template + body.shape_directions @ first["betas"][:10]
    rest = body.joint_regressor @ shaped
    rotations = axis_angle_to_matrix(first["poses"][0, :66].reshape(22, 3))
    joints, turns = [rest[0] + first["trans"][0]], [rotations[0]]
    for child in range(1, 22):
        parent = body.parents[child]
        joints.append(joints[parent] + turns[parent] @ (rest[child] - rest[parent]))
        turns.append(turns[parent] @ rotations[child])
    # ... is what the camera saw, which looks along y with z up.
    seen = np.array(joints) @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    np.testing.assert_allclose(seen, rows["joints"][0, :22], atol=2e-4)


def test_a_late_image_tears_no_motion_apart(tmp_path, capsys):
    still = standing_person((300.0, 240.0), 250).astype(np.float32)
    one = [replace(frames(2)[1], keypoints=still, stamp_ns=STAMPS[i]) for i in (0, 1, 3, 2, 4, 5)]
    recorded = keypoint_recording("/people", one)
    for message, stamp in zip(recorded.messages, STAMPS, strict=False):
        object.__setattr__(message, "recorded_ns", stamp)
    write_bag(tmp_path / "bag", [recorded])
    assert mesh(MeshConfig(tmp_path / "bag", tmp_path / "out", form="amass", fov=60.0)) == 0
    assert "1 x late" in capsys.readouterr().err
    (clip,) = (tmp_path / "out").iterdir()
    assert everything(clip)["stamp_ns"].tolist() == [STAMPS[i] for i in (0, 1, 3, 4, 5)]


def test_motion_needs_the_body_of_the_model(tmp_path, bundle, source):
    with pytest.raises(Key2MeshError, match=r"--body default is .*@"):
        mesh(MeshConfig(source, tmp_path / "out", form="amass", model=bundle))


def test_smoothing_follows_people_and_steadies_them_across_segments(tmp_path, bundle, monkeypatch):
    random = np.random.default_rng(1)
    shaky = [
        replace(
            f,
            ids=("",) * 2,
            keypoints=np.stack(
                [standing_person((x + i, 240.0), 250)[0] for x in (150.0, 450.0)]
            ).astype(np.float32)
            + np.float32([1, 1, 0]) * random.normal(0, 3, (2, 18, 1)).astype(np.float32),
        )
        for i, f in enumerate(frames())
    ]
    write_bag(tmp_path / "bag", [keypoint_recording("/people", shaky)])
    small_groups(monkeypatch)
    options = {"model": bundle, "fov": 60.0, "segment": 16}
    assert mesh(MeshConfig(tmp_path / "bag", tmp_path / "raw.npz", **options)) == 0
    whole = MeshConfig(tmp_path / "bag", tmp_path / "whole.npz", smooth=True, **options)
    assert mesh(whole) == 0
    raw, smooth = everything(tmp_path / "raw.npz"), everything(whole.target)
    assert len(set(smooth["id"].tolist())) == 2

    def jitter(rows: dict) -> float:
        return float(np.abs(np.diff(rows["translation"][rows["track"] == 0], 2, axis=0)).mean())

    assert jitter(smooth) < 0.5 * jitter(raw)
    # What is remembered is remembered by the process that goes on, too.
    broken = replace(whole, target=tmp_path / "broken.npz")
    begin(broken, monkeypatch)
    assert mesh(broken) == 0
    alike(everything(broken.target), smooth)
