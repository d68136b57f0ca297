# SPDX-License-Identifier: Apache-2.0
"""What the tests of `key2mesh mesh` share: a recording, and what was made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import make_bundle, standing_person
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from write_bags import camera_recording, keypoint_recording, write_bag

from key2mesh_core import io as io_
from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.fleet.config import MeshAllConfig
from key2mesh_core.meshing import bag_out, maker
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh
from key2mesh_core.meshing.maker import MeshMaker
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.bag_files import raw_topics
from key2mesh_core.recordings.bags import (
    message_store,
)

COUNT = 40
CAMERA = Camera(Intrinsics(500.0, 500.0, 320.0, 240.0), 640, 480)
STAMPS = [1_700_000_000_000_000_000 + i * 33_000_000 for i in range(COUNT)]
ODD = b"\x00\x01\x00\x00" + bytes(range(97))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """For the conftests of meshing and fleets. Outliving a loss of power cannot be tested here, and
    takes seconds on a busy disk."""
    monkeypatch.setattr(io_, "sync", lambda path: None)


@pytest.fixture(scope="package")
def bundle(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("bundle") / "small").path)


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


def contents(bag: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Every topic's messages as they lie there."""
    result: dict[str, list[tuple[int, bytes]]] = {}
    with Reader(bag) as reader:
        for connection, stamp, data in reader.messages():
            result.setdefault(connection.topic, []).append((stamp, bytes(data)))
    return result


def recorded_at(bag, topic):
    return [recorded_ns for _, recorded_ns, _ in raw_topics(bag, [topic])]


def small_groups(monkeypatch) -> None:
    """A few frames go to the engine at once, and segments are counted in KiB."""
    monkeypatch.setattr(bag_out, "MIB", 1 << 10)
    monkeypatch.setattr(maker, "BATCH_PERSONS", 5)


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


def begin(config: MeshConfig | MeshAllConfig, monkeypatch, run=mesh) -> None:
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
            run(config)


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
