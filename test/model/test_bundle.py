# SPDX-License-Identifier: Apache-2.0
"""A bundle is loaded complete and valid, or refused with the file's name and advice."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import JOINTS, PARENTS, damage, make_bundle, mesh_template, rewrite_manifest

from key2mesh_core.errors import BundleError
from key2mesh_core.model import bundle as bundles
from key2mesh_core.model.bundle import FILES, WEIGHTS, load_bundle, write_manifest, write_topology


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "model")
    return tmp_path / "model"


def _reseal(folder: Path) -> None:
    """Make the manifest vouch for the files as they are."""

    def change(manifest: dict) -> None:
        manifest["files"] = {name: bundles._sha256(folder / name) for name in FILES}

    rewrite_manifest(folder, change)


def test_what_was_written_is_read(folder):
    bundle = load_bundle(folder)
    template, triangles = mesh_template()
    assert (bundle.name, bundle.body_model) == ("untrained", "bones@000000000000")
    assert bundle.vertex_count == len(template)
    assert bundle.joint_names == tuple(JOINTS)
    assert bundle.card["training"].startswith("none")
    np.testing.assert_array_equal(bundle.triangles, triangles)
    np.testing.assert_array_equal(bundle.parents, PARENTS)
    assert bundle.triangles.dtype == bundle.parents.dtype == np.int32
    assert bundle.pose_path.is_file()
    assert bundle.mesh_path.is_file()
    assert load_bundle(str(folder)).name == bundle.name


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_behind(folder):
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == {"model.json", *FILES}
    make_bundle(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["truncate", "flip", "empty", "remove"])
def test_a_damaged_file_is_named_with_a_way_out(folder, name, how):
    damage(folder / name, how)
    with pytest.raises(BundleError, match=rf"{name}: (truncated or altered|missing).*again"):
        load_bundle(folder)


@pytest.mark.parametrize("how", ["truncate", "empty", "remove"])
def test_a_damaged_manifest_is_named(folder, how):
    damage(folder / "model.json", how)
    with pytest.raises(BundleError, match=r"model\.json"):
        load_bundle(folder)


@pytest.mark.parametrize("version", [1, 4, 0, "2", 2.0, True, None])
def test_another_format_is_refused(folder, version):
    rewrite_manifest(folder, lambda manifest: manifest.update(format=version))
    with pytest.raises(BundleError, match=r"format .*this version reads the formats 2 and 3"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", None, "'name' must be of type str"),
        ("body_model", ["x"], "'body_model' must be of type str"),
        ("vertices", "138", "'vertices' must be of type int, is '138'"),
        ("vertices", True, "'vertices' must be of type int"),
        ("vertices", 0, "within 1 and"),
        ("vertices", 10**12, "within 1 and"),
        ("vertices", 20, "'triangles' must lie within 0 and 19"),
        ("joint_names", ["pelvis"], "24 names"),
        ("joint_names", [1] * 24, "24 names"),
        ("files", {}, "'files' must name"),
        ("card", None, "'card' must be of type dict"),
    ],
)
def test_wrong_values_are_named(folder, key, value, words):
    rewrite_manifest(folder, lambda manifest: manifest.update({key: value}))
    with pytest.raises(BundleError, match=words):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/pose.onnx", "pose.onnx\0", ""])
def test_no_file_name_leads_out_of_the_folder(folder, name, monkeypatch):
    (folder.parent / "secret").write_bytes(b"")
    opened = []
    monkeypatch.setattr(bundles, "_sha256", lambda path: opened.append(path) or "0" * 64)

    def change(manifest: dict) -> None:
        manifest["files"][name] = "0" * 64

    rewrite_manifest(folder, change)
    with pytest.raises(BundleError, match="'files' must name"):
        load_bundle(folder)
    assert not opened


@pytest.mark.parametrize("digest", [None, 5, "", "0" * 63, "g" * 64, "A" * 64])
def test_a_sum_that_is_none_is_refused(folder, digest):
    rewrite_manifest(folder, lambda manifest: manifest["files"].update({"pose.onnx": digest}))
    with pytest.raises(BundleError, match=r"SHA-256 of pose\.onnx must be 64 hex digits"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b'{"format": ' + b"9" * 100_000 + b"}",
        b"\xff\xfe\x00\x01",
        b"[]",
        b"null",
        b" " * (2 << 20) + b"{}",
        b'{"format": 2, "name": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
    ids=["deep", "digits", "binary", "list", "null", "huge", "nested"],
)
def test_hostile_manifests_are_refused_shortly(folder, content):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.json") as caught:
        load_bundle(folder)
    assert len(str(caught.value)) < 600


def test_a_place_that_is_no_bundle_says_so(tmp_path):
    with pytest.raises(BundleError, match="nowhere: no such folder"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"model\.json: missing"):
        load_bundle(tmp_path)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder):
    (folder / "pose.onnx").unlink()
    os.mkfifo(folder / "pose.onnx")
    with pytest.raises(BundleError, match=r"pose\.onnx: missing"):
        load_bundle(folder)


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


_TRIANGLES = np.array([[0, 1, 2]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a zip", "not an archive"),
        (_npz(triangles=_TRIANGLES), "not an archive.*parents"),
        (_npz(triangles=np.array([None], object), parents=PARENTS), "not an archive.*[Pp]ickle"),
        (_npz(triangles=_TRIANGLES.astype(float), parents=PARENTS), "'triangles'.*float64"),
        (_npz(triangles=np.array([[0, 1, 2, 3]]), parents=PARENTS), r"must be \(F, 3\)"),
        (_npz(triangles=np.zeros((0, 3), int), parents=PARENTS), r"must be \(F, 3\)"),
        (_npz(triangles=np.array([[0, 1, 138]]), parents=PARENTS), "0 and 137"),
        (_npz(triangles=np.array([[0, 1, -1]]), parents=PARENTS), "0 and 137"),
        (_npz(triangles=_TRIANGLES, parents=PARENTS[:5]), "'parents' must be 24"),
        (_npz(triangles=_TRIANGLES, parents=PARENTS[::-1]), "'parents' must be 24"),
        (_npz(triangles=_TRIANGLES, parents=np.full(24, -1)), "'parents' must be 24"),
    ],
)
def test_a_wrong_topology_is_refused_though_its_sum_is_right(folder, content, words):
    (folder / "topology.npz").write_bytes(content)
    _reseal(folder)
    with pytest.raises(BundleError, match=rf"(?s)topology\.npz: .*{words}"):
        load_bundle(folder)


def test_a_topology_that_unpacks_to_gigabytes_is_refused_unread(folder):
    path = folder / "topology.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("triangles.npy", "w") as stream,
    ):
        for _ in range(300):
            stream.write(bytes(1 << 20))
    _reseal(folder)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="unpacks to"):
        load_bundle(folder)


def test_an_export_that_fails_leaves_the_old_manifest(folder):
    before = (folder / "model.json").read_bytes()
    arguments = {
        "name": "new",
        "body_model": "bones@000000000000",
        "vertex_count": 138,
        "joint_names": list(JOINTS),
    }
    for card, words in (({"loss": float("nan")}, "not plain JSON"), ({"x": {1}}, "not plain JSON")):
        with pytest.raises(BundleError, match=words):
            write_manifest(folder, **arguments, card=card)
    with pytest.raises(BundleError, match="24 names"):
        write_manifest(folder, **{**arguments, "joint_names": ["pelvis"]}, card={})
    assert (folder / "model.json").read_bytes() == before
    assert write_manifest(folder, **arguments, card={"ü": 1}).card == {"ü": 1}
    (folder / "mesh.onnx").unlink()
    with pytest.raises(BundleError, match=r"mesh\.onnx: missing"):
        write_manifest(folder, **arguments, card={})


def test_an_interrupted_export_is_no_bundle(tmp_path, monkeypatch):
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        make_bundle(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    with pytest.raises(BundleError, match=r"model\.json: missing"):
        load_bundle(tmp_path)


def test_topology_is_written_as_int32(tmp_path):
    write_topology(tmp_path, [[0, 1, 2]], PARENTS.tolist())
    with np.load(tmp_path / "topology.npz") as archive:
        assert {archive[name].dtype for name in archive} == {np.dtype(np.int32)}


@pytest.fixture
def with_weights(folder: Path) -> Path:
    (folder / WEIGHTS).write_bytes(b"of a network")
    bundle = load_bundle(folder)
    write_manifest(
        folder,
        name=bundle.name,
        body_model=bundle.body_model,
        vertex_count=bundle.vertex_count,
        joint_names=bundle.joint_names,
        card=bundle.card,
        architecture={"name": "key2mesh", "features": 8},
    )
    return folder


def test_the_architecture_of_the_weights_is_read(folder, with_weights):
    assert load_bundle(with_weights).architecture == {"name": "key2mesh", "features": 8}


@pytest.mark.parametrize("how", ["truncate", "flip", "empty", "remove"])
def test_damaged_weights_are_named(with_weights, how):
    damage(with_weights / WEIGHTS, how)
    with pytest.raises(BundleError, match=rf"{WEIGHTS}: (truncated or altered|missing).*again"):
        load_bundle(with_weights)


def test_weights_without_an_architecture_are_refused(with_weights):
    rewrite_manifest(with_weights, lambda manifest: manifest.pop("architecture"))
    with pytest.raises(BundleError, match="'architecture' must be of type dict"):
        load_bundle(with_weights)


def test_a_bundle_without_weights_still_loads(folder):
    manifest = json.loads((folder / "model.json").read_text())
    assert manifest["format"] == 2
    assert load_bundle(folder).architecture is None


def test_the_manifest_is_readable_by_people(folder):
    text = (folder / "model.json").read_text()
    assert text.startswith('{\n  "format": 2,\n')
    assert json.loads(text)["files"].keys() == set(FILES)
