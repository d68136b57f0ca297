# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh-all`: every good recording, once, whatever happens to the others."""

from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import replace

import pytest
from helpers_fleet import command, kill_all, lines, records, wait_for, walking, write_recording

from key2mesh_core.cli.main import main
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.fleet.config import MeshAllConfig
from key2mesh_core.fleet.mesh_all import mesh_all, mesh_jobs
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh


def options(bundle, fleet, output, **changes) -> MeshAllConfig:
    values = {"recordings": str(fleet.folder), "output": str(output), "model": bundle}
    values |= {"fov": 60.0, "image_size": (640, 480)}
    return MeshAllConfig(**(values | changes))


def test_good_recordings_are_made_as_one_by_one_and_damaged_ones_are_named(
    tmp_path, bundle, fleet, one_by_one, capsys
):
    assert mesh_all(options(bundle, fleet, tmp_path / "out")) == 1
    told = capsys.readouterr()
    found = lines(told.out)
    assert [n for n, line in found.items() if line["state"] == "made"] == fleet.good
    assert [n for n, line in found.items() if line["state"] == "failed"] == fleet.damaged
    for name in fleet.good:
        made = tmp_path / "out" / f"{name}.npz"
        assert made.read_bytes() == (one_by_one / made.name).read_bytes()
        assert found[name]["bodies"] > 0
        assert found[name]["frames"] >= 5
        assert found[name]["seconds"] > 0
    for name in fleet.damaged:
        assert name in found[name]["error"]
        assert name in told.err
        assert not list((tmp_path / "out").glob(f"{name}*"))
    assert any(line.get("left_out") for line in found.values())
    assert {n: r["state"] for n, r in records(tmp_path / "out").items()} == {
        n: r["state"] for n, r in found.items()
    }


def test_what_is_complete_is_skipped_with_its_counts(tmp_path, bundle, fleet, capsys):
    config = options(bundle, fleet, tmp_path / "out")
    mesh_all(config)
    first = lines(capsys.readouterr().out)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.npz")}
    assert mesh_all(config) == 1  # the damaged ones are tried again
    second = lines(capsys.readouterr().out)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.npz")} == times
    for name in fleet.good:
        assert second[name] == first[name] | {"state": "skipped"}
    (tmp_path / "out" / f"{fleet.good[0]}.npz").unlink()
    mesh_all(config)
    third = lines(capsys.readouterr().out)
    assert [third[n]["state"] for n in fleet.good] == ["made"] + ["skipped"] * (len(fleet.good) - 1)


def test_other_settings_or_another_source_are_not_taken_for_done(tmp_path, bundle, capsys):
    source = write_recording(tmp_path / "bags" / "a", "mcap", walking(10))
    config = MeshAllConfig(
        recordings=str(tmp_path / "bags"), output=str(tmp_path / "out"), model=bundle
    )
    assert mesh_all(config) == 0
    before = (tmp_path / "out" / "a.npz").read_bytes()
    assert mesh_all(replace(config, threads=1)) == 0  # does not change the result
    capsys.readouterr()
    for changes in ({"fov": 50.0}, {"vertices": False}, {"model": "default"}):
        assert mesh_all(replace(config, **changes)) == 1
        assert next(iter(changes)) in lines(capsys.readouterr().out)["a"]["error"]
    path = next(source.glob("*.mcap"))
    os.utime(path, (1, 1))
    assert mesh_all(config) == 1
    assert "source" in lines(capsys.readouterr().out)["a"]["error"]
    assert (tmp_path / "out" / "a.npz").read_bytes() == before
    assert records(tmp_path / "out")["a"]["state"] == "made"


def test_a_foreign_file_of_the_name_is_not_overwritten(tmp_path, bundle, capsys):
    write_recording(tmp_path / "bags" / "a", "mcap", walking(10))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npz").write_text("mine")
    words = (str(tmp_path / "bags"), str(tmp_path / "out"), "--model", bundle)
    assert main(["mesh-all", *words]) == 1
    assert "a.npz exists" in lines(capsys.readouterr().out)["a"]["error"]
    assert (tmp_path / "out" / "a.npz").read_text() == "mine"


def test_shards_are_disjoint_and_together_complete(tmp_path, bundle, fleet, capsys):
    done = []
    for number in range(5):
        mesh_all(options(bundle, fleet, tmp_path / "out", shard=f"{number}/5"))
        done += lines(capsys.readouterr().out)
    assert sorted(done) == sorted(fleet.good + fleet.damaged)


@pytest.mark.parametrize("shard", ["4/4", "-1/4", "1", "a/b", "1/0", "1.5/2"])
def test_an_impossible_shard_is_refused(tmp_path, bundle, fleet, shard):
    with pytest.raises(Key2MeshError, match="--shard"):
        options(bundle, fleet, tmp_path, shard=shard)


def test_a_manifest_gives_recordings_options_of_their_own(tmp_path, bundle, capsys):
    a = write_recording(tmp_path / "a", "mcap", walking(10))
    b = write_recording(tmp_path / "b", "openpose", walking(10))
    entries = [
        {"source": str(a), "name": "narrow", "fov": 40},
        {"source": f"openpose:{b}?width=640&height=480", "form": "obj", "smooth": True},
    ]
    (tmp_path / "list.jsonl").write_text(
        "\n# people\n" + "\n".join(map(json.dumps, entries)) + f"\n  {a}\n"
    )
    config = MeshAllConfig(
        recordings=str(tmp_path / "list.jsonl"), output=str(tmp_path / "out"), model=bundle
    )
    assert mesh_all(config) == 0
    assert list(lines(capsys.readouterr().out)) == ["narrow", "b", "a"]
    mesh(MeshConfig(str(a), tmp_path / "narrow.npz", model=bundle, fov=40.0))
    mesh(MeshConfig(str(a), tmp_path / "a.npz", model=bundle))
    for name in ("narrow.npz", "a.npz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert (tmp_path / "out" / "b" / "000005_track_1.obj").exists()


def test_a_started_job_whose_worker_died_is_made_again(tmp_path, bundle, capsys):
    """At every moment of the last steps: before the target, with it, and before the record."""
    write_recording(tmp_path / "bags" / "a", "mcap", walking(10))
    config = MeshAllConfig(
        recordings=str(tmp_path / "bags"), output=str(tmp_path / "out"), model=bundle
    )
    assert mesh_all(config) == 0
    target, record = tmp_path / "out" / "a.npz", tmp_path / "out" / "_records" / "a.json"
    whole = target.read_bytes()
    for damage in (
        lambda: (target.unlink(), started(record)),
        lambda: started(record),
        lambda: (target.write_bytes(whole[:50]), started(record)),
        lambda: record.write_text('{"name'),
    ):
        damage()
        assert mesh_all(config) == 0
        assert target.read_bytes() == whole
        assert records(tmp_path / "out")["a"]["state"] == "made"
    assert not list((tmp_path / "out" / "_work").iterdir())


def started(record) -> None:
    record.write_text(json.dumps(json.loads(record.read_text()) | {"state": "started"}))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_command_is_resumed(tmp_path, number):
    for name in "abc":
        write_recording(tmp_path / "bags" / name, "mcap", walking(150))
    words = (tmp_path / "bags", tmp_path / "out", "--form", "bag", "--segment", 1, "--threads", 1)
    process = command(*words)
    work = tmp_path / "out" / "_work" / "b"
    wait_for(lambda: list(work.rglob("00000")), process)
    if number == signal.SIGKILL:
        kill_all(process)
    else:
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "2 not done" in told
    assert {n: r["state"] for n, r in records(tmp_path / "out").items()} == {
        "a": "made",
        "b": "started",
    }
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "a").iterdir()}
    printed, told = (again := command(*words)).communicate(timeout=200)
    assert again.returncode == 0, told
    assert [line["state"] for line in lines(printed).values()] == ["skipped"] + 2 * ["made"]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "a").iterdir()} == before
    whole = [p.read_bytes() for p in sorted(before) if p.suffix == ".mcap"]
    for name in "bc":
        made = sorted((tmp_path / "out" / name).glob("*.mcap"))
        assert [p.read_bytes() for p in made] == whole


@pytest.mark.long
def test_a_full_disk_fails_the_recordings_that_do_not_fit_and_resumes(tmp_path, bundle):
    write_recording(tmp_path / "bags" / "long", "mcap", walking(400))
    write_recording(tmp_path / "bags" / "short", "mcap", walking(8))
    words = (tmp_path / "bags", tmp_path / "out", "--model", bundle)
    # A limit on the size of files fails like a full disk, and needs no other file system.
    limit = (1 << 18, 1 << 18)
    process = command(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    found = lines(printed)
    assert "no space" in found["long"]["error"]
    assert found["short"]["state"] == "made"
    printed, told = (again := command(*words)).communicate(timeout=120)
    assert again.returncode == 0, told
    assert {n: line["state"] for n, line in lines(printed).items()} == {
        "long": "made",
        "short": "skipped",
    }


def test_the_engine_is_loaded_once_for_a_model(tmp_path, bundle, fleet, monkeypatch):
    from key2mesh_core.fleet import mesh_all as module

    loaded = []

    def load(*arguments):
        loaded.append(arguments)
        return module_estimator(*arguments)

    module_estimator = module.Estimator
    monkeypatch.setattr(module, "Estimator", load)
    monkeypatch.setattr(module, "_engine", module._Engine())
    mesh_all(options(bundle, fleet, tmp_path / "out"))
    assert len(loaded) == 1


def test_jobs_can_be_named_in_any_order_of_the_folder(bundle, fleet, tmp_path):
    names = [job.name for job in mesh_jobs(options(bundle, fleet, tmp_path))]
    assert names == sorted(fleet.good + fleet.damaged)
