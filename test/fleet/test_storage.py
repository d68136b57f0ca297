# SPDX-License-Identifier: Apache-2.0
"""Recordings and outputs in object storage: a server with S3's interface, and a line that
breaks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers_fleet import lines, walking, write_recording
from helpers_meshing import begin, small_groups
from helpers_s3 import bucket, s3_server

from key2mesh_core.cli.main import main
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.fleet import storage, work
from key2mesh_core.fleet.config import MeshAllConfig
from key2mesh_core.fleet.mesh_all import mesh_all
from key2mesh_core.fleet.work import place_of
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh


@pytest.fixture
def line(monkeypatch):
    with s3_server(monkeypatch) as line:
        yield line


def test_bags_in_a_bucket_become_meshes_in_a_bucket(tmp_path, bundle, line, capsys):
    for name, kind in (("a", "mcap"), ("b", "npz")):
        path = write_recording(tmp_path / "bags" / name, kind, walking(12))
        bucket().put(str(path), f"box/bags/{path.name}", recursive=path.is_dir())
    (tmp_path / "bad.mcap").write_text("junk")
    bucket().put_file(str(tmp_path / "bad.mcap"), "box/bags/bad.mcap")
    words = ["mesh-all", "s3://box/bags", "s3://box/out", "--model", bundle]
    words += ["--scratch", str(tmp_path / "scratch"), "--form"]
    for form in ("npz", "bag", "parquet"):
        words[2] = f"s3://box/{form}"
        assert main([*words, form]) == 1
        found = lines(capsys.readouterr().out)
        states = {name: record["state"] for name, record in found.items()}
        assert states == {"a": "made", "b": "failed" if form == "bag" else "made", "bad": "failed"}
        assert "s3://box/bags/bad.mcap" in found["bad"]["error"]
        assert str(tmp_path) not in found["bad"]["error"]
        kinds = {path.rpartition("/")[2].rpartition(".")[2] for path in bucket().find(words[2])}
        assert kinds == {
            "json",
            *{"npz": ["npz"], "parquet": ["parquet"]}.get(form, ["mcap", "yaml"]),
        }
    assert [p.name for p in (tmp_path / "scratch").rglob("*") if p.is_file()] == []
    (source,) = (tmp_path / "bags").glob("a")
    assert mesh(MeshConfig(str(source), tmp_path / "a.npz", model=bundle)) == 0
    assert bucket().cat_file("box/npz/a.npz") == (tmp_path / "a.npz").read_bytes()
    assert mesh(MeshConfig(str(source), tmp_path / "a", model=bundle)) == 0
    for path in (tmp_path / "a").iterdir():
        assert bucket().cat_file(f"box/bag/a/{path.name}") == path.read_bytes()
    capsys.readouterr()
    # Again: nothing is made. A recording that changes is noticed.
    words[2] = "s3://box/npz"
    assert main([*words, "npz"]) == 1
    assert lines(capsys.readouterr().out)["a"]["state"] == "skipped"
    changed = write_recording(tmp_path / "other", "mcap", walking(13))
    bucket().rm("box/bags/a", recursive=True)
    bucket().put(str(changed), "box/bags/a", recursive=True)
    assert main([*words, "npz"]) == 1
    assert "another source" in lines(capsys.readouterr().out)["a"]["error"]


def test_an_interrupted_recording_in_a_bucket_is_resumed(tmp_path, bundle, monkeypatch, capsys):
    source = write_recording(tmp_path / "a", "mcap", walking(40))
    memory = fsspec.filesystem("memory")  # a store that needs no server
    memory.put(str(source), "/resumed/a", recursive=True)
    small_groups(monkeypatch)
    config = MeshAllConfig(
        recordings="memory://resumed", output=str(tmp_path / "out"), model=bundle
    )
    try:
        begin(config, monkeypatch, mesh_all)
        assert lines(capsys.readouterr().out) == {}
        with monkeypatch.context() as patch:
            patch.setattr(work, "fetch", None)  # it is not fetched again
            assert mesh_all(config) == 0
    finally:
        memory.rm("/resumed", recursive=True)
    assert lines(capsys.readouterr().out)["a"]["state"] == "made"
    assert mesh(MeshConfig(str(source), tmp_path / "a.npz", model=bundle)) == 0
    assert (tmp_path / "out" / "a.npz").read_bytes() == (tmp_path / "a.npz").read_bytes()


@pytest.mark.long
def test_manifests_patterns_and_options_work_for_urls(tmp_path, bundle, line, capsys):
    path = write_recording(tmp_path / "a", "openpose", walking(12))
    bucket().put(str(path), "box/robots/one/json", recursive=True)
    source = "openpose:s3://box/robots/one/json?width=640&height=480&fov=50"
    bucket().pipe_file("box/list.jsonl", json.dumps({"source": source, "name": "n"}).encode())
    for recordings, name in (("s3://box/list.jsonl", "n"), ("s3://box/robots/*/json", "one_json")):
        words = ["mesh-all", recordings, str(tmp_path / name), "--model", bundle, "--fov", "50"]
        assert main([*words, "--image-size", "640", "480"]) == 0
        assert list(lines(capsys.readouterr().out)) == [name]
    with (
        np.load(tmp_path / "n" / "n.npz") as one,
        np.load(tmp_path / "one_json" / "one_json.npz") as other,
    ):
        np.testing.assert_array_equal(one["joints"], other["joints"])
    for address in ("s3://box/list.jsonl", (tmp_path / "list.txt").as_uri()):
        (tmp_path / "list.txt").write_text(f"{source}\n")
        words = ["mesh-all", address, (tmp_path / "files").as_uri(), "--model", bundle]
        assert main(words) == 0


@pytest.mark.long
def test_a_cut_connection_fails_the_recording_and_leaves_nothing(tmp_path, bundle, line, capsys):
    write_recording(tmp_path / "bags" / "a", "mcap", walking(40))
    words = ["mesh-all", str(tmp_path / "bags"), "s3://box/out", "--model", bundle]
    line.break_after(30_000)  # the record of the start passes, a part of the meshes too
    assert main(words) == 1
    assert line.broken.is_set()
    assert "s3://box/out/a.npz" in lines(capsys.readouterr().out)["a"]["error"]
    line.whole()
    assert [p for p in bucket().find("box/out") if "_records" not in p] == []
    assert main(words) == 0
    assert lines(capsys.readouterr().out)["a"]["state"] == "made"


@pytest.mark.long
def test_a_bag_that_is_uploaded_in_part_is_refused_and_made_whole(tmp_path, line, capsys):
    source = write_recording(tmp_path / "bags" / "a", "mcap", walking(600))
    assert mesh(MeshConfig(str(source), tmp_path / "a", segment=1)) == 0
    first, second, *_ = sorted((tmp_path / "a").glob("*.mcap"))
    words = ["mesh-all", str(tmp_path / "bags"), "s3://box/out", "--form", "bag", "--segment", "1"]
    line.break_after(first.stat().st_size + second.stat().st_size // 2)
    assert main(words) == 1
    assert line.broken.is_set()
    line.whole()
    here = storage.fetch("s3://box/out/a", tmp_path / "fetched")
    assert [path.name for path in here.glob("*.mcap")] == [first.name]
    capsys.readouterr()
    assert main(["mesh", str(here), str(tmp_path / "x.npz")]) == 2
    assert "missing" in capsys.readouterr().err
    assert main(words) == 0
    for path in (tmp_path / "a").iterdir():
        assert bucket().cat_file(f"box/out/a/{path.name}") == path.read_bytes()


UPLOAD = """
import sys
from pathlib import Path
from key2mesh_core.fleet.storage import output_folder
output_folder("s3://box/out").place(Path(sys.argv[1]), "big.npz")
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["cut", "stall"])
def test_an_upload_in_parts_that_breaks_off_leaves_nothing_visible(tmp_path, line, how):
    """Cut: the client notices. Stall: it is killed while it waits, half of its parts sent."""
    big = tmp_path / "big.npz"
    with big.open("wb") as stream:
        stream.truncate(110 << 20)
    line.break_after(70 << 20, how)
    process = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, str(big)], stderr=subprocess.PIPE, text=True
    )
    assert line.broken.wait(60)
    if how == "stall":
        process.send_signal(signal.SIGKILL)
    _, told = process.communicate(timeout=100)
    assert process.returncode != 0
    if how == "cut":
        assert "Key2MeshError: s3://box/out/big.npz" in told
    line.whole()
    assert bucket().find("box/out") == []
    subprocess.run([sys.executable, "-c", UPLOAD, str(big)], check=True)
    assert bucket().info("box/out/big.npz")["size"] == 110 << 20


def test_what_cannot_be_read_is_refused_with_the_way_out(tmp_path, line, monkeypatch, capsys):
    out = str(tmp_path / "out")
    for recordings, advice in (
        ("s3://nowhere/bags", "s3://nowhere/bags"),
        ("s3://box/nothing.txt", "s3://box/nothing.txt"),
        ("s4://box/bags", "s4"),
        ("file:///no/such/folder", "no such folder"),
        (str(tmp_path / "nothing"), "no such folder"),
    ):
        assert main(["mesh-all", recordings, out]) == 2
        assert advice in capsys.readouterr().err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    type(bucket()).clear_instance_cache()
    (tmp_path / "bags").mkdir()
    write_recording(tmp_path / "bags" / "a", "mcap", walking(5))
    assert main(["mesh-all", str(tmp_path / "bags"), "s3://box/out"]) == 2
    assert "credentials" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("my_bag", ("", "my_bag", "")),
        ("bag:my_bag?topic=/a", ("bag:", "my_bag", "?topic=/a")),
        ("s3://box/a", ("", "s3://box/a", "")),
        ("bag:s3://box/a?topic=/a&fov=60", ("bag:", "s3://box/a", "?topic=/a&fov=60")),
        ("file:///data/a", ("", "file:///data/a", "")),
    ],
)
def test_a_sources_name_has_three_parts(source, parts):
    assert place_of(source) == parts


def test_a_folder_appears_at_once_and_replaces_the_old_one(tmp_path):
    folder = storage.output_folder((tmp_path / "out").as_uri())
    for number in range(2):
        made = tmp_path / "made"
        made.mkdir()
        (made / f"{number}.txt").write_text(str(number))
        folder.place(made, "bag")
        assert [p.name for p in Path(tmp_path / "out" / "bag").iterdir()] == [f"{number}.txt"]
    assert folder.read("none") is None
    with pytest.raises(Key2MeshError, match=r"none\.txt"):
        storage.read_text(str(tmp_path / "none.txt"))
