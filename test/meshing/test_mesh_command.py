# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: what was recorded is kept, what is added is what the estimator says, and
whatever interrupts it costs time, never results."""

from __future__ import annotations

import io
import json
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import helpers_detectors
import numpy as np
import pytest
import tyro
from helpers_bundle import make_bundle, standing_person
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from write_bags import camera_recording, keypoint_recording, write_bag

from key2mesh_core import io as io_
from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.lens import Distortion, distort_pixels
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BagError, CameraError, Key2MeshError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.meshing import bag_out, maker, progress
from key2mesh_core.meshing.amass_out import clips_of
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh
from key2mesh_core.meshing.maker import MeshMaker
from key2mesh_core.meshing.partial import Partial
from key2mesh_core.meshing.progress import Progress
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.amass import load_clip
from key2mesh_core.recordings.bags import (
    CAMERA_TYPE,
    MESHES_TYPE,
    message_store,
    read_meshes,
    read_messages,
    read_raw,
    read_topologies,
)

COUNT = 40
CAMERA = Camera(Intrinsics(500.0, 500.0, 320.0, 240.0), 640, 480)
STAMPS = [1_700_000_000_000_000_000 + i * 33_000_000 for i in range(COUNT)]
ODD = b"\x00\x01\x00\x00" + bytes(range(97))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Outliving a loss of power cannot be tested here, and takes seconds on a busy disk."""
    monkeypatch.setattr(io_, "sync", lambda path: None)


def frames(count: int = COUNT) -> list[PersonFrame]:
    """0, 1, 2, 0, 1, 2... persons who walk to the right; one has too few keypoints."""
    result = []
    for i, stamp in enumerate(STAMPS[:count]):
        keypoints = [standing_person((200.0 + 3 * i + 90 * j, 240.0), 250)[0] for j in range(i % 3)]
        if i == 4:
            keypoints[0][5:, 2] = 0
        array = np.array(keypoints, np.float32).reshape(-1, 18, 3)
        ids = tuple(f"p{j}" for j in range(i % 3))
        result.append(PersonFrame(ids, array, "openpose_coco_18", stamp, "eye", 640, 480))
    return result


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("bundle") / "small").path)


def recording(path: Path, storage: str = "mcap", odd: bool = True) -> Path:
    """Keypoints, camera, and if asked for a topic of a type that nobody can read."""
    recordings = [
        keypoint_recording("/people", frames()),
        camera_recording("/camera_info", CAMERA, "eye", STAMPS),
    ]
    if not odd:
        write_bag(path, recordings, storage=storage)
        return path
    store = message_store()
    with Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        strange = writer.add_connection("/odd", "odd_msgs/msg/Odd", msgdef="", rihs01="RIHS01_x")
        topics = [
            (writer.add_connection(r.topic, r.message_type, typestore=store), r) for r in recordings
        ]
        for i, stamp in enumerate(STAMPS):
            writer.write(strange, stamp - 5, ODD + bytes([i]))
            for connection, r in topics:
                data = store.serialize_cdr(r.messages[i].value, r.message_type)
                writer.write(connection, stamp + 7, data)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("source") / "bag")


def contents(bag: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Every topic's messages as they lie there."""
    result: dict[str, list[tuple[int, bytes]]] = {}
    with Reader(bag) as reader:
        for connection, stamp, data in reader.messages():
            result.setdefault(connection.topic, []).append((stamp, bytes(data)))
    return result


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
    assert [t for t, _ in read_raw(target, "/mesh_node/meshes", MESHES_TYPE)] == [
        t for t, _ in read_raw(target, "/people")
    ]
    messages = [m.value for m in read_messages(target, "/mesh_node/meshes")]
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


def small_groups(monkeypatch) -> None:
    """A few frames go to the engine at once, and segments are counted in KiB."""
    monkeypatch.setattr(bag_out, "MIB", 1 << 10)
    monkeypatch.setattr(maker, "BATCH_PERSONS", 5)


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


FORMS = [("bag", "out"), ("npz", "out.npz"), ("obj", "out"), ("amass", "out")]


def everything(path: Path) -> dict:
    """What a target holds."""
    if path.is_file():
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    if (path / "metadata.yaml").exists():
        return contents(path)
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())}


def alike(one: dict, other: dict) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize(("form", "name"), FORMS[:3])
def test_stopped_at_any_call_of_the_engine_it_resumes_to_the_same_result(
    tmp_path, bundle, source, monkeypatch, form, name
):
    small_groups(monkeypatch)
    options = {"model": bundle, "segment": 16, "form": form}
    assert mesh(MeshConfig(source, tmp_path / f"whole_{name}", **options)) == 0
    make, calls = MeshMaker.make, []

    def fail(self, images):
        calls.append(len(images))
        if len(calls) == at:
            raise (KeyboardInterrupt, MemoryError)[at % 2]
        return make(self, images)

    monkeypatch.setattr(MeshMaker, "make", fail)
    config = MeshConfig(source, tmp_path / name, **options)
    interruptions, at = 0, 1
    while True:
        # Every try gets one call further than the last: it stops at the 1st, 2nd, 3rd...
        calls.clear()
        try:
            mesh(config)
            break
        except (KeyboardInterrupt, MemoryError):
            interruptions += 1
            at += 1
            assert not config.target.exists()
    assert interruptions >= 3
    alike(everything(config.target), everything(tmp_path / f"whole_{name}"))
    assert not config.target.with_name(f"{name}.partial").exists()


@pytest.mark.parametrize(("form", "name"), FORMS[:2])
def test_stopped_while_it_is_put_together_it_is_put_together_again(
    tmp_path, bundle, source, monkeypatch, form, name
):
    small_groups(monkeypatch)
    options = {"model": bundle, "segment": 16, "form": form}
    whole, config = (MeshConfig(source, tmp_path / (n + name), **options) for n in ("whole_", ""))
    assert mesh(whole) == 0
    at, interruptions = 1, 0
    while True:
        calls = 0

        def fail(path, at=at):
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(io_, "sync", fail)
        try:
            mesh(config)
            break
        except Key2MeshError as error:
            assert "MiB are free" in str(error)  # noqa: PT017
            interruptions, at = interruptions + 1, at + 3
    assert interruptions > 2
    alike(everything(config.target), everything(whole.target))


def command(*words: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "key2mesh_core.cli.main", "mesh", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def long_recording(path: Path, times: int) -> Path:
    """So many times 40 frames, of which the meshes are 3 MiB."""
    one = frames()
    more = [
        replace(f, stamp_ns=f.stamp_ns + n * 40 * 33_000_000) for n in range(times) for f in one
    ]
    write_bag(path, [keypoint_recording("/people", more)])
    return path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_what_the_next_one_goes_on_with(tmp_path, number):
    source = long_recording(tmp_path / "bag", 8)
    words = (source, tmp_path / "out", "--segment", 4, "--fov", 60)
    process = command(*words, "--threads", 1)
    first = tmp_path / "out.partial" / "00000"
    limit = time.monotonic() + 60
    while not first.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit, "no segment was completed"
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert ("the same command resumes" in told) == (number == signal.SIGINT)
    assert not (tmp_path / "out").exists()
    done = time.time()
    _, told = (again := command(*words)).communicate(timeout=120)
    assert again.returncode == 0, told
    assert "resuming after" in told
    files = sorted((tmp_path / "out").glob("*.mcap"))
    assert files[0].stat().st_mtime < done  # it was not made again
    assert len(list(read_raw(tmp_path / "out", "/mesh_node/meshes"))) == 8 * COUNT


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_full_disk_is_told_and_survived(tmp_path, storage):
    source = long_recording(tmp_path / "bag", 2)
    words = (source, tmp_path / "out", "--fov", 60, "--storage", storage)
    # A limit on the size of files fails like a full disk, and needs no other file system.
    limit = (1 << 20, 1 << 20)
    process = command(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2, told
    assert "MiB are free" in told
    assert "Traceback" not in told
    _, told = (again := command(*words)).communicate(timeout=120)
    assert again.returncode == 0, told
    assert len(list(read_raw(tmp_path / "out", "/mesh_node/meshes"))) == 2 * COUNT


def test_work_goes_on_only_with_the_settings_it_was_begun_with(
    tmp_path, bundle, source, monkeypatch
):
    config = MeshConfig(source, tmp_path / "x.npz", model=bundle)
    small_groups(monkeypatch)
    begin(config, monkeypatch)
    with pytest.raises(Key2MeshError, match=r"fov.* 0.0.* 50.0.*--restart"):
        mesh(replace(config, fov=50.0))
    assert mesh(replace(config, fov=50.0, restart=True)) == 0
    assert everything(config.target)["intrinsics"][0, 0] == pytest.approx(
        320 / np.tan(np.pi * 25 / 180)
    )


def begin(config: MeshConfig, monkeypatch) -> None:
    """A first segment, then Ctrl-C."""
    make, calls = MeshMaker.make, []

    def fail(self, images):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(MeshMaker, "make", fail)
        with pytest.raises(KeyboardInterrupt):
            mesh(config)


def test_two_processes_do_not_work_on_one_target(tmp_path):
    held = Partial(tmp_path / "out", {})
    with pytest.raises(Key2MeshError, match=re.escape(str(held.folder))):
        Partial(tmp_path / "out", {})
    held.close()
    Partial(tmp_path / "out", {}).close()
    assert list(tmp_path.iterdir()) == []  # nothing worth keeping was left


# What is refused.


def test_what_cannot_be_made_is_refused_before_anything_is_written(tmp_path, bundle, source):
    def refused(match: str, kind: type = Key2MeshError, **options) -> None:
        given = {"source": source, "target": tmp_path / "out", "model": bundle, **options}
        with pytest.raises(kind, match=match):
            mesh(MeshConfig(**given))
        assert {p.name for p in tmp_path.iterdir()} <= {"there", "two"}

    refused("there is no .*absent", source=tmp_path / "absent")
    refused(r"\.npz", form="npz")
    refused("--no-vertices", form="obj", vertices=False)
    refused(r"\.txt", target=tmp_path / "x.txt")
    refused("bag itself says the keypoints' layout", layout="coco_17")
    refused(r"'/odd' .*odd_msgs/msg/Odd", BagError, topic="/odd")
    refused("no CameraInfo on '/eye'.*/camera_info", BagError, camera_topic="/eye")
    refused("unknown backend 'abacus'", backend="abacus")
    refused(r"\['/people'\].*--meshes-topic", BagError, meshes_topic="/people")
    refused("is inside .*choose a place outside", target=source / "out")
    refused(r"cannot be made: .*Not a directory", target=Path(bundle) / "model.json" / "out.npz")
    (tmp_path / "there").mkdir()
    refused(str(tmp_path / "there"), target=tmp_path / "there")
    two = [keypoint_recording(t, frames(3)) for t in ("/a", "/b")]
    write_bag(tmp_path / "two", two)
    refused("keypoints on /a, /b.*topic=TOPIC", BagError, source=tmp_path / "two")


def test_a_recording_that_holds_less_than_it_promises_is_refused(tmp_path, bundle):
    source = recording(tmp_path / "bag", odd=False)
    text = (source / "metadata.yaml").read_text()
    more = text.replace(f"message_count: {2 * COUNT}", f"message_count: {2 * COUNT + 7}")
    at = more.index("name: /camera_info")
    before = more.rindex(f"message_count: {COUNT}", 0, at)
    more = more[:before] + f"message_count: {COUNT + 7}" + more[before + len("message_count: 40") :]
    (source / "metadata.yaml").write_text(more)
    with pytest.raises(BagError, match=r" 47 messages.* 40;"):
        mesh(MeshConfig(source, tmp_path / "out", model=bundle, fov=60.0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fov", 180.0),
        ("fov", float("nan")),
        ("camera_fx", -1.0),
        ("camera_cx", 3.0),
        ("image_size", (640, 0)),
        ("fps", 0.0),
        ("layout", "nonsense"),
        ("threads", 0),
        ("segment", 0),
        ("meshes_topic", "meshes"),
    ],
)
def test_options_out_of_range_are_refused_by_name_and_value(option, value):
    named = re.escape(f"{value}") + f"|--{option}".replace("_", "-")
    with pytest.raises(Key2MeshError, match=f"{named}|fx"):
        MeshConfig(Path("a"), Path("b"), **{option: value})


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


def test_the_lines_of_the_page_are_understood():
    page = (Path(__file__).parents[2] / "docs" / "meshes.md").read_text()
    lines = re.findall(r"^key2mesh mesh ([^#\n]*)", page, re.MULTILINE)
    configs = [
        tyro.cli(MeshConfig, args=shlex.split(line), config=(tyro.conf.PositionalRequiredArgs,))
        for line in lines
    ]
    assert len(configs) >= 4
    assert {c.image_size for c in configs} == {(0, 0), (1280, 720)}
    options = set(re.findall(r"`--([a-z-]+)`", page)) - {"no-vertices", "restart"}
    assert {name.replace("-", "_") for name in options} <= set(MeshConfig.__dataclass_fields__)


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_a_recording_without_anybody_ends_with_the_causes_and_nothing_is_written(
    tmp_path, bundle, form, name
):
    refused = keypoint_recording("/people", frames(5))
    for message in refused.messages:
        message.value.layout = "squid"
    few = frames(8)
    for frame in few:
        frame.keypoints[:, 5:, 2] = 0
    for number, (recorded, cause) in enumerate(
        ((refused, "5 x unknown_layout"), (keypoint_recording("/people", few), "too_few_keypoints"))
    ):
        source = tmp_path / f"bag{number}"
        write_bag(source, [recorded])
        with pytest.raises(Key2MeshError, match=cause):
            mesh(MeshConfig(source, tmp_path / name, form, model=bundle, fov=60.0))
        assert not (tmp_path / name).exists()
        assert not (tmp_path / f"{name}.partial").exists()


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


# Progress.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(progress, "PERIOD_S", 0.0)
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        line = Progress(100, earlier=50, stream=stream)
        line.add(25, 3)
        line.end()
    assert "[###############     ] 75 of 100 frames" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()
    assert log.getvalue() == ""


# OpenPose folders, and what is made of persons.


def openpose(folder: Path, all_frames: list[PersonFrame], numbers=None, ids: bool = False) -> Path:
    """What OpenPose's --write_json writes of these frames."""
    folder.mkdir()
    for i, frame in enumerate(all_frames):
        number = i if numbers is None else numbers[i]
        persons = [
            {"person_id": [j if ids else -1], "pose_keypoints_2d": k.ravel().tolist()}
            for j, k in enumerate(frame.keypoints)
        ]
        path = folder / f"clip_{number:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": persons}))
    return folder


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
        assert mesh(MeshConfig(source, tmp_path / name, form, model=bundle)) == 0
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
    assert mesh(MeshConfig(tmp_path / "bag", tmp_path / "out", "obj", model=bundle)) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "000000_a_b.obj",
        "000000_a_b_1.obj",
    }


def test_motion_in_amass_layout_is_read_back_and_puts_the_body_where_it_was(tmp_path):
    """With the shipped model, of a person who stands for a while, is away, and comes back."""
    still = standing_person((300.0, 240.0), 250)
    one = replace(frames(2)[1], keypoints=still.astype(np.float32))
    numbers = [*range(6), *range(20, 24), 40]
    folder = openpose(tmp_path / "json", [one] * len(numbers), numbers, ids=True)
    options = {"image_size": (640, 480), "fov": 60.0, "fps": 25.0}
    for form, name in (("npz", "all.npz"), ("amass", "amass")):
        assert mesh(MeshConfig(folder, tmp_path / name, form, **options)) == 0
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
    assert mesh(MeshConfig(tmp_path / "bag", tmp_path / "out", "amass", fov=60.0)) == 0
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
