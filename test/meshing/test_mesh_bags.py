# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh` on bags: what was recorded is kept, what is added is what the estimator says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import helpers_detectors
import numpy as np
import pytest
from helpers_meshing import (
    CAMERA,
    COUNT,
    STAMPS,
    contents,
    everything,
    frames,
    recorded_at,
    recording,
    small_groups,
)
from rosbags.rosbag2 import Reader
from write_bags import camera_recording, keypoint_recording, write_bag

from key2mesh_core.camera.lens import Distortion, distort_pixels
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.bags import (
    CAMERA_TYPE,
    MESHES_TYPE,
    message_store,
    read_meshes,
    read_messages,
    read_topologies,
)


def add_meshes(source: Path, target: Path, bundle: str, **options) -> Path:
    assert mesh(MeshConfig(source, target, model=bundle, **options)) == 0
    return target


@pytest.mark.parametrize(
    ("stored", "storage"),
    [("mcap", "same"), ("mcap", "sqlite3"), ("sqlite3", "mcap"), ("sqlite3", "same")],
)
def test_every_message_is_kept_byte_for_byte(tmp_path, bundle, stored, storage):
    source = recording(tmp_path / "bag", stored)
    target = add_meshes(source, tmp_path / "out", bundle, storage=storage)
    before, after = contents(source), contents(target)
    assert {"/odd", "/people", "/camera_info"} == set(before)
    assert {topic: after[topic] for topic in before} == before
    assert set(after) - set(before) == {"/mesh_node/meshes", "/mesh_node/topology"}
    with Reader(source) as old, Reader(target) as new:
        kept = {c.topic: (c.msgtype, c.digest, c.ext) for c in new.connections}
        for each in old.connections:
            assert kept[each.topic] == (each.msgtype, each.digest, each.ext)
    expected = stored if storage == "same" else storage
    assert {p.suffix for p in target.iterdir()} == {
        ".yaml",
        f".{expected}".replace("sqlite3", "db3"),
    }
    assert not target.with_name("out.partial").exists()


def test_meshes_are_the_estimator_s_with_the_keypoints_stamps(tmp_path, bundle, source):
    target = add_meshes(source, tmp_path / "out", bundle)
    assert recorded_at(target, "/mesh_node/meshes") == recorded_at(target, "/people")
    messages = list(read_messages(target, "/mesh_node/meshes"))
    estimator = Estimator(load_bundle(bundle))
    for frame, found, message in zip(frames(), read_meshes(target), messages, strict=True):
        left = [i for i, k in enumerate(frame.keypoints) if (k[:, 2] > 0).sum() >= 6]
        bodies = estimator.estimate(frame.keypoints[left], CAMERA.intrinsics)
        assert found.stamp_ns == frame.stamp_ns
        assert message.header.frame_id == "eye"
        assert found.ids == tuple(frame.ids[i] for i in left)
        np.testing.assert_allclose(found.vertices, bodies.vertices.reshape(found.vertices.shape))
        np.testing.assert_allclose(found.joints, bodies.joints, atol=1e-6)
        for one, body in enumerate(message.bodies):
            np.testing.assert_allclose(body.pose, bodies.poses[one], atol=1e-6)
            np.testing.assert_allclose(body.betas, bodies.betas[one], atol=1e-6)
            assert body.position.z == pytest.approx(bodies.translation[one, 2], rel=1e-6)
    (topology,) = read_topologies(target)
    np.testing.assert_array_equal(topology.triangles, load_bundle(bundle).triangles)


def test_long_recordings_are_split_as_rosbag2_splits_them(tmp_path, bundle, monkeypatch, source):
    whole = contents(add_meshes(source, tmp_path / "whole", bundle))
    small_groups(monkeypatch)
    target = add_meshes(source, tmp_path / "out", bundle, storage="sqlite3", segment=16)
    assert len(list(target.glob("out_*.db3"))) > 3
    assert same(contents(target), whole)


def same(one: dict, other: dict) -> bool:
    """Whether two recordings hold the same; of ours numbers may differ in rounding."""
    store = message_store()
    for topic in {*one, *other}:
        if topic != "/mesh_node/meshes":
            assert one[topic] == other[topic], topic
            continue
        assert [t for t, _ in one[topic]] == [t for t, _ in other[topic]]
        for (_, a), (_, b) in zip(one[topic], other[topic], strict=True):
            a, b = store.deserialize_cdr(a, MESHES_TYPE), store.deserialize_cdr(b, MESHES_TYPE)
            assert [p.id for p in a.bodies] == [p.id for p in b.bodies]
            for p, q in zip(a.bodies, b.bodies, strict=True):
                np.testing.assert_allclose(p.vertices, q.vertices, atol=1e-5)
                np.testing.assert_allclose(p.pose, q.pose, atol=1e-5)
    return True


def test_the_camera_comes_from_options_then_camera_info_then_a_guess(tmp_path, bundle, source):
    def camera(name: str, source: Path = source, **options) -> list[float]:
        config = MeshConfig(source, tmp_path / f"{name}.npz", model=bundle, **options)
        assert mesh(config) == 0
        return everything(config.target)["intrinsics"][0].tolist()

    assert camera("info") == [500, 500, 320, 240]
    assert camera("fx", camera_fx=450.0) == [450, 450, 320, 240]
    assert camera("all", camera_fx=1.0, camera_fy=2.0, camera_cx=3.0, camera_cy=4.0) == [1, 2, 3, 4]
    assert camera("fov", fov=90.0) == pytest.approx([320, 320, 320, 240])
    write_bag(tmp_path / "alone", [keypoint_recording("/people", frames(3))])
    guess = camera("guess", tmp_path / "alone")
    assert guess == pytest.approx([320 / np.tan(np.pi / 6)] * 2 + [320, 240])


def test_of_several_cameras_the_one_of_the_keypoints_frame_is_taken(tmp_path, bundle):
    left, right = (
        camera_recording(f"/{name}", replace(CAMERA, intrinsics=i), name, STAMPS)
        for name, i in (("eye", CAMERA.intrinsics), ("other", Intrinsics(9, 9, 9, 9)))
    )
    write_bag(tmp_path / "bag", [keypoint_recording("/people", frames()), left, right])
    config = MeshConfig(tmp_path / "bag", tmp_path / "out.npz", model=bundle)
    assert mesh(config) == 0
    assert everything(config.target)["intrinsics"][0].tolist() == [500, 500, 320, 240]
    other = replace(config, target=tmp_path / "o.npz", camera_topic="/other")
    assert mesh(other) == 0
    assert everything(other.target)["intrinsics"][0].tolist() == [9, 9, 9, 9]


def test_an_uncalibrated_camera_is_a_guess_with_a_warning(tmp_path, bundle, capsys):
    wrong = camera_recording("/camera_info", CAMERA, "eye", STAMPS)
    for message in wrong.messages:
        message.value.k[:] = 0
    write_bag(tmp_path / "bag", [keypoint_recording("/people", frames()), wrong])
    assert mesh(MeshConfig(tmp_path / "bag", tmp_path / "out.npz", model=bundle)) == 0
    assert "warning: CameraInfo cannot be used" in capsys.readouterr().err
    assert everything(tmp_path / "out.npz")["quality"].max() <= 0.5


def test_messages_that_contradict_themselves_get_no_meshes_and_are_told(tmp_path, bundle, capsys):
    people_ = keypoint_recording("/people", frames())
    people_.messages[5].value.layout = "squid"
    write_bag(tmp_path / "bag", [people_])
    target = add_meshes(tmp_path / "bag", tmp_path / "out", bundle)
    assert len(list(read_meshes(target))) == COUNT - 1
    assert "1 x unknown_layout (first: message 5 on /people:" in capsys.readouterr().err


def test_who_shares_an_id_is_unnamed_there_and_stays_beside_the_keypoints(tmp_path, bundle, capsys):
    same = [replace(f, ids=("0",) * len(f.ids)) for f in frames()]
    write_bag(tmp_path / "bag", [keypoint_recording("/people", same)])
    results = []
    for smooth in (False, True):
        config = MeshConfig(
            tmp_path / "bag", tmp_path / f"{smooth}.npz", model=bundle, fov=60.0, smooth=smooth
        )
        assert mesh(config) == 0
        results.append(everything(config.target))
        assert "share the id '0'" in capsys.readouterr().err
    raw, smooth = results
    pairs = np.flatnonzero(raw["frame"][:-1] == raw["frame"][1:])
    assert set(raw["id"][pairs].tolist()) == {""}
    # Those of one image are 90 px apart; smoothed as one they would be dragged to each other.
    np.testing.assert_allclose(smooth["translation"], raw["translation"], atol=0.1)


def test_lens_distortion_is_undone_unless_the_images_are_rectified(tmp_path, bundle):
    lens = Distortion("brown", (-0.3, 0.08, *[0.0] * 10))
    straight = frames()
    bent = []
    for frame in straight:
        keypoints = frame.keypoints.copy()
        keypoints[..., :2] = distort_pixels(keypoints[..., :2], CAMERA.intrinsics, lens)
        bent.append(replace(frame, keypoints=keypoints))
    info = camera_recording("/camera_info", CAMERA, "eye", STAMPS)
    for message in info.messages:
        message.value.d[:2] = lens.coefficients[:2]
    write_bag(tmp_path / "bag", [keypoint_recording("/people", bent), info])
    write_bag(tmp_path / "ideal", [keypoint_recording("/people", straight), info])
    results = []
    for source, rectified in (("bag", False), ("ideal", True)):
        config = MeshConfig(
            tmp_path / source, tmp_path / f"{source}.npz", model=bundle, image_rectified=rectified
        )
        assert mesh(config) == 0
        results.append(everything(config.target)["translation"])
    np.testing.assert_allclose(*results, rtol=1e-3)
    for message in info.messages:
        message.value.d[:2] = -40.0, 900.0
    write_bag(tmp_path / "absurd", [keypoint_recording("/people", straight), info])
    with pytest.raises(Key2MeshError, match="lens of CameraInfo explains 0 of"):
        mesh(MeshConfig(tmp_path / "absurd", tmp_path / "absurd.npz", model=bundle))


# Other detectors' bags.


def foreign(path: Path, detector: str) -> Path:
    """The same persons as `frames`, in another detector's messages, and the camera beside them."""
    topics = {"/people": (getattr(helpers_detectors, detector.upper()), [])}
    for frame in frames():
        if detector == "zed":
            persons = [(j, k[:, :2]) for j, k in enumerate(frame.keypoints)]
            message = helpers_detectors.zed_message(frame.stamp_ns, persons, 0)
        else:
            coco = [NETWORK_KEYPOINTS.index(name) for name in get_layout("coco_17").keypoint_names]
            persons = [(str(j), k[coco]) for j, k in enumerate(frame.keypoints)]
            message = helpers_detectors.yolo_message(frame.stamp_ns, persons)
        topics["/people"][1].append((frame.stamp_ns, message))
    info = camera_recording("/camera_info", CAMERA, "eye", STAMPS)
    topics["/camera_info"] = (CAMERA_TYPE, [(m.recorded_ns, m.value) for m in info.messages])
    return helpers_detectors.write_foreign_bag(path, topics)


@pytest.mark.parametrize("detector", ["yolo", "zed"])
def test_other_detectors_recordings_get_meshes_too(tmp_path, bundle, source, detector):
    other = foreign(tmp_path / "bag", detector)
    target = add_meshes(other, tmp_path / "out", bundle)
    assert contents(other)["/people"] == contents(target)["/people"]
    assert [f.stamp_ns for f in read_meshes(target)] == STAMPS
    ours = list(read_meshes(add_meshes(source, tmp_path / "ours", bundle)))
    for i, (one, same_one) in enumerate(zip(read_meshes(target), ours, strict=True)):
        if i != 4:  # where one has too few keypoints, the formats say so differently
            np.testing.assert_allclose(one.joints, same_one.joints, atol=0.02)
