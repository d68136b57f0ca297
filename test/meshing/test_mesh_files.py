# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: files in place of bags, .npz and .obj in place of a bag."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_meshing import CAMERA, everything, frames, openpose
from write_bags import keypoint_recording, write_bag

from key2mesh_core.errors import CameraError, Key2MeshError
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.targets import load_targets


def test_other_files_become_meshes_too(tmp_path, bundle):
    """COCO's JSON and .npz of the persons of a bag give the bag's bodies."""
    some = [frame for frame in frames(12) if len(frame.ids)]
    people = [(n, k) for n, frame in enumerate(some) for k in frame.keypoints]
    coco = [NETWORK_KEYPOINTS.index(name) for name in get_layout("coco_17").keypoint_names]
    results = [
        {"image_id": n, "category_id": 1, "keypoints": k[coco].ravel().tolist(), "score": 1.0}
        for n, k in people
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    np.savez(
        tmp_path / "people.npz",
        keypoints=np.array([k for _, k in people]),
        layout="openpose_coco_18",
        frame=np.array([n for n, _ in people]),
    )
    write_bag(tmp_path / "bag", [keypoint_recording("/people", some)])
    camera = {"camera_fx": 500.0, "image_size": (640, 480), "model": bundle}
    found = {}
    for name in ("bag", "results.json", "people.npz"):
        config = MeshConfig(tmp_path / name, tmp_path / f"{name}.out.npz", **camera)
        assert mesh(config) == 0
        found[name] = everything(config.target)
    for name, tolerance in (("results.json", 0.02), ("people.npz", 1e-5)):
        np.testing.assert_array_equal(found[name]["frame"], found["bag"]["frame"])
        np.testing.assert_allclose(found[name]["joints"], found["bag"]["joints"], atol=tolerance)


def test_an_openpose_folder_gives_what_the_bag_gives(tmp_path, bundle, source):
    folder = openpose(tmp_path / "json", frames())
    camera = {"camera_fx": 500.0, "image_size": (640, 480), "model": bundle}
    assert mesh(MeshConfig(folder, tmp_path / "a.npz", **camera)) == 0
    assert mesh(MeshConfig(source, tmp_path / "b.npz", **camera)) == 0
    one, other = everything(tmp_path / "a.npz"), everything(tmp_path / "b.npz")
    assert set(one) == set(other)
    for name in set(one) - {"stamp_ns", "id", "track", "stream"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert one["stamp_ns"].tolist() == [round(1e9 * f / 30) for f in one["frame"]]
    # Nobody is named here; they are followed by where they are.
    assert len(set(zip(one["track"].tolist(), other["track"].tolist(), strict=True))) == 2


def test_an_openpose_folder_needs_the_size_of_its_images(tmp_path, bundle):
    folder = openpose(tmp_path / "json", frames(3))
    with pytest.raises(CameraError, match="--image-size WIDTH HEIGHT"):
        mesh(MeshConfig(folder, tmp_path / "out.npz", model=bundle))
    with pytest.raises(Key2MeshError, match="--form"):
        mesh(MeshConfig(folder, tmp_path / "out", form="bag", model=bundle))


def test_two_series_in_one_folder_are_two_streams(tmp_path, bundle):
    folder = openpose(tmp_path / "json", frames(3))
    for path in sorted(folder.iterdir()):
        path.with_name(path.name.replace("clip", "other")).write_bytes(path.read_bytes())
    options = {"image_size": (640, 480), "model": bundle}
    assert mesh(MeshConfig(folder, tmp_path / "out.npz", **options)) == 0
    rows = everything(tmp_path / "out.npz")
    assert len(set(rows["stream"].tolist())) == 2
    assert len(set(zip(rows["stream"].tolist(), rows["track"].tolist(), strict=True))) == 4
    assert set(rows["track"].tolist()) == {0, 1, 2, 3}
    assert mesh(MeshConfig(folder, tmp_path / "obj", **options)) == 0
    assert len(list((tmp_path / "obj").iterdir())) == len(rows["frame"]) == 6


def test_npz_has_a_row_for_each_body(tmp_path, bundle, source):
    assert mesh(MeshConfig(source, tmp_path / "out.npz", model=bundle)) == 0
    found = everything(tmp_path / "out.npz")
    loaded = load_bundle(bundle)
    estimator = Estimator(loaded)
    row = 0
    for i, frame in enumerate(frames()):
        for name, keypoints in zip(frame.ids, frame.keypoints, strict=True):
            if (keypoints[:, 2] > 0).sum() < 6:
                continue
            body = estimator.estimate(keypoints[None], CAMERA.intrinsics)
            assert (found["frame"][row], found["stamp_ns"][row]) == (i, frame.stamp_ns)
            assert (found["id"][row], found["track"][row]) == (name, int(name[1:]))
            for field in ("betas", "poses", "translation", "joints", "quality", "vertices"):
                np.testing.assert_allclose(found[field][row], getattr(body, field)[0], atol=1e-5)
            row += 1
    assert row == len(found["frame"])
    np.testing.assert_array_equal(found["triangles"], loaded.triangles)
    assert found["body_model"] == loaded.body_model
    config = MeshConfig(source, tmp_path / "poses.npz", model=bundle, vertices=False)
    assert mesh(config) == 0
    assert set(found) - set(everything(config.target)) == {"vertices"}


def test_obj_files_hold_the_meshes(tmp_path, bundle, source):
    for form, name in (("npz", "all.npz"), ("obj", "obj")):
        assert mesh(MeshConfig(source, tmp_path / name, form=form, model=bundle)) == 0
    rows = everything(tmp_path / "all.npz")
    files = {p.name for p in (tmp_path / "obj").iterdir()}
    expected = zip(rows["frame"].tolist(), rows["id"].tolist(), strict=True)
    assert files == {f"{frame:06d}_{name}.obj" for frame, name in expected}
    lines = (tmp_path / "obj" / "000005_p1.obj").read_text().splitlines()
    vertices = np.array([x.split()[1:] for x in lines if x[0] == "v"], float)
    faces = np.array([x.split()[1:] for x in lines if x[0] == "f"], int)
    (row,) = np.flatnonzero((rows["frame"] == 5) & (rows["id"] == "p1"))
    np.testing.assert_allclose(vertices, rows["vertices"][row], atol=1e-5)
    np.testing.assert_array_equal(faces - 1, rows["triangles"])


def test_names_that_no_file_may_have_still_get_a_file_each(tmp_path, bundle):
    one = frames(3)[2]
    write_bag(tmp_path / "bag", [keypoint_recording("/k", [replace(one, ids=("a/b", "a\\b"))])])
    assert mesh(MeshConfig(tmp_path / "bag", tmp_path / "out", form="obj", model=bundle)) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "000000_a_b.obj",
        "000000_a_b_1.obj",
    }


@pytest.mark.parametrize("wrong", [False, True])
def test_keypoints_in_another_order_than_the_layouts_are_warned_of(tmp_path, capsys, wrong):
    street = load_targets([str(Path(__file__).parents[2] / "demo" / "data" / "street")])
    order = np.random.default_rng(0).permutation(18) if wrong else np.arange(18)
    path = tmp_path / "people.npz"
    np.savez(path, keypoints=street.keypoints[:, order], frame=street.frame, width=1768, height=994)
    mesh(MeshConfig(str(path), tmp_path / "bodies.npz", vertices=False, camera_fx=2520.0))
    assert ("bodies miss their keypoints" in capsys.readouterr().err) == wrong
