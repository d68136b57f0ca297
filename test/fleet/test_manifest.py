# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is listed, what is refused, and how outputs are named."""

from __future__ import annotations

import json
import string

import pytest
from helpers_fleet import walking, write_recording
from hypothesis import given
from hypothesis import strategies as st

from key2mesh_core.cli.main import main
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.fleet.config import MeshAllConfig
from key2mesh_core.fleet.manifest import name_of, named
from key2mesh_core.fleet.mesh_all import mesh_jobs


def jobs(recordings) -> list:
    return mesh_jobs(MeshAllConfig(recordings=str(recordings), output="out"))


def listed(tmp_path, text: str, name: str = "list.txt"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# nothing\n\n", "empty"),
        ("[]", "empty"),
        ("[1]", "entry 1"),
        ("a\n{broken", "line 2"),
        ("[broken", "JSON"),
        ('{"name": "x"}', '"source"'),
        ('{"source": 3}', '"source"'),
        ('{"source": "a", "fuv": 60}', "entry 1: unknown option fuv.*fov"),
        ('{"source": "a", "target": "x"}', "unknown option target"),
        ('{"source": "a", "fov": "60"}', "fov must be a float"),
        ('{"source": "a", "fov": true}', "fov must be a float"),
        ('{"source": "a", "smooth": 1}', "smooth must be a bool"),
        ('{"source": "a", "form": "fbx"}', "form must be one of .*parquet"),
        ('{"source": "a", "threads": 0}', "entry 1: --threads"),
        ('{"source": "a", "layout": "squid"}', "entry 1: .*squid"),
        ('{"source": "a", "name": "../b"}', r"\.\./b"),
        ('{"source": "a", "name": "_records"}', "_records"),
        ("bags/a\nbags/a", "bags/a and bags/a"),
        ("robot1/bag\nrobot2/bag\nc", 'robot1/bag and robot2/bag.*"name"'),
    ],
)
def test_a_manifest_with_a_mistake_is_refused_whole(tmp_path, text, message, capsys):
    path = listed(tmp_path, text)
    with pytest.raises(Key2MeshError, match=message):
        jobs(path)
    assert main(["mesh-all", str(path), str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_every_way_to_write_a_manifest_lists_the_same(tmp_path):
    entries = [
        {"source": "x/a.mcap", "fov": 60},
        {"source": "bag:b?topic=/p", "image_size": [3, 2]},
    ]
    found = jobs(listed(tmp_path, json.dumps(entries), "list.json"))
    assert found == jobs(listed(tmp_path, "\n\n".join(map(json.dumps, entries)), "list.jsonl"))
    assert [(job.name, job.source) for job in found] == [("a", "x/a.mcap"), ("b", "bag:b?topic=/p")]
    assert found[0].options.fov == 60.0
    assert found[1].options.image_size == (3, 2)
    plain = jobs(listed(tmp_path, "# mine\n  x/a.mcap\n\nbag:b?topic=/p\n"))
    assert [job.source for job in plain] == [job.source for job in found]


def test_folders_and_patterns_list_recordings_and_tell_of_the_rest(tmp_path, monkeypatch, capsys):
    for robot in ("r1", "r2"):
        write_recording(tmp_path / "bags" / robot / "walk", "mcap", walking(5))
    write_recording(tmp_path / "flat" / "one", "sqlite3", walking(5))
    write_recording(tmp_path / "flat" / "two", "npz", walking(5))
    (tmp_path / "flat" / "README.md").write_text("notes")
    (tmp_path / "flat" / "empty").mkdir()
    (tmp_path / "flat" / ".hidden.mcap").write_text("")
    (tmp_path / "flat" / "damaged.json").write_text("{")
    assert [job.name for job in jobs(tmp_path / "flat")] == ["damaged", "one", "two"]
    told = capsys.readouterr().err
    assert "README.md" in told
    assert "empty" in told
    # A pattern's fixed part is not in the names, so equal names in different folders differ.
    assert [job.name for job in jobs(tmp_path / "bags" / "*" / "walk")] == ["r1_walk", "r2_walk"]
    monkeypatch.chdir(tmp_path / "bags")
    for pattern in ("*/walk", "./*/walk", f"{tmp_path.as_uri()}/bags/*/walk"):
        assert [job.name for job in jobs(pattern)] == ["r1_walk", "r2_walk"]
    with pytest.raises(Key2MeshError, match="is a bag"):
        jobs(tmp_path / "flat" / "one")
    for nothing in (tmp_path / "flat" / "*.bin", tmp_path / "flat" / "empty"):
        with pytest.raises(Key2MeshError, match="no recording"):
            jobs(nothing)


@given(st.text(string.ascii_letters + string.digits + "._- /?*äß%", min_size=1, max_size=30))
def test_any_path_gives_a_name_that_is_accepted(path):
    name = name_of(path)
    named([name], [path])
    assert name_of(path + "/") == name
