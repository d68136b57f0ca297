# SPDX-License-Identifier: Apache-2.0
"""Recordings are read back as written, and broken ones are refused, never read as empty."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_recordings import read_keypoints
from write_bags import Message, TopicMessages, camera_recording, keypoint_recording, write_bag

from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BagError, KeypointError
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.bags import (
    CAMERA_TYPE,
    KEYPOINTS_TYPE,
    MESHES_TYPE,
    list_topics,
    message_store,
    read_camera,
    read_meshes,
    read_messages,
    the_topic,
)

STREET = Path(__file__).resolve().parents[2] / "demo" / "data" / "street"
RATE_NS = 33_333_333


def frames(count: int = 6, keypoints: int = 18, layout: str = "openpose_coco_18"):
    """Frames with 0, 1, 2, 0, 1, 2... persons of random keypoints."""
    random = np.random.default_rng(0)
    return [
        PersonFrame(
            stamp_ns=1_700_000_000_000_000_000 + i * RATE_NS,
            frame_id="eye",
            layout=layout,
            width=640,
            height=480,
            ids=tuple(f"p{j}" for j in range(i % 3)),
            keypoints=random.uniform(0, 400, (i % 3, keypoints, 3)).astype(np.float32),
        )
        for i in range(count)
    ]


CAMERA = Camera(Intrinsics(500.5, 501.5, 320.0, 240.0), 640, 480)


def write(path: Path, count: int = 6, storage: str = "mcap") -> Path:
    some = frames(count)
    stamps = [frame.stamp_ns for frame in some]
    recordings = [
        keypoint_recording("/keypoints", some),
        camera_recording("/camera_info", CAMERA, "eye", stamps),
    ]
    write_bag(path, recordings, storage=storage)
    return path


def assert_same(read: list[PersonFrame], wrote: list[PersonFrame]) -> None:
    assert len(read) == len(wrote)
    for a, b in zip(read, wrote, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        assert a.keypoints.shape == b.keypoints.shape
        assert (a.stamp_ns, a.frame_id, a.layout) == (b.stamp_ns, b.frame_id, b.layout)
        assert (a.width, a.height, a.ids) == (b.width, b.height, b.ids)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("single_file", [False, True])
def test_keypoints_and_camera_come_back_exactly(tmp_path, storage, single_file):
    bag = write(tmp_path / "bag", storage=storage)
    if single_file:
        (bag,) = [p for p in bag.iterdir() if p.suffix in (".mcap", ".db3")]
    assert_same(list(read_keypoints(bag)), frames())
    camera = read_camera(bag)
    assert camera.intrinsics == CAMERA.intrinsics
    assert (camera.width, camera.height, camera.metric) == (640, 480, True)


def test_topics_are_listed_with_type_and_count(tmp_path):
    topics = {t.name: t for t in list_topics(write(tmp_path / "bag"))}
    assert topics["/keypoints"].message_type == KEYPOINTS_TYPE
    assert topics["/camera_info"].message_type == CAMERA_TYPE
    assert {t.message_count for t in topics.values()} == {6}


def test_messages_are_recorded_in_the_order_of_their_time(tmp_path):
    some = frames()
    write_bag(tmp_path / "bag", [keypoint_recording("/keypoints", some[::-1])])
    assert [f.stamp_ns for f in read_keypoints(tmp_path / "bag")] == [f.stamp_ns for f in some]


def test_meshes_come_back(tmp_path):
    types = message_store().types
    random = np.random.default_rng(1)
    joints = random.normal(size=(2, 24, 3)).astype(np.float32)
    vertices = random.normal(size=(2, 7, 3)).astype(np.float32)
    bodies = [
        types["key2mesh_ros/msg/BodyMesh"](
            id=f"p{i}",
            quality=0.5,
            reprojection_error=float(i),
            position=types["geometry_msgs/msg/Point"](0.0, 0.0, 3.0),
            position_covariance=np.eye(3, dtype=np.float32).ravel() * 0.04,
            betas=np.zeros(10, np.float32),
            pose=np.zeros(72, np.float32),
            joints=joints[i].ravel(),
            vertices=vertices[i].ravel(),
        )
        for i in range(2)
    ]
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](3, 4), "eye")
    counts = {"people_seen": 3, "people_without_body": 1, "metric": False}
    array, nobody = (
        types[MESHES_TYPE](header=header, body_model="x@1", bodies=each, **counts)
        for each in (bodies, [])
    )
    write_bag(
        tmp_path / "b", [TopicMessages("/m", MESHES_TYPE, [Message(1, array), Message(2, nobody)])]
    )
    frame, empty = read_meshes(tmp_path / "b")
    np.testing.assert_array_equal(frame.joints, joints)
    np.testing.assert_array_equal(frame.vertices, vertices)
    np.testing.assert_array_equal(frame.reprojection_error, [0, 1])
    np.testing.assert_allclose(frame.position_deviation, 0.2)
    assert (frame.people_without_body, frame.metric) == (1, False)
    assert (frame.stamp_ns, frame.ids) == (3_000_000_004, ("p0", "p1"))
    assert empty.joints.shape == (0, 24, 3)


def test_a_recording_without_definitions_is_read_with_our_own(tmp_path):
    """Older sqlite3 recordings carry none: make one by deleting them."""
    import sqlite3

    bag = write(tmp_path / "bag", storage="sqlite3")
    with sqlite3.connect(next(bag.glob("*.db3"))) as database:
        assert database.execute("DELETE FROM message_definitions").rowcount > 0
    assert_same(list(read_keypoints(bag)), frames())


# Broken recordings.


def test_metadata_that_promises_more_than_the_storage_holds_is_refused(tmp_path):
    bag = write(tmp_path / "bag")
    shutil.copy(next(write(tmp_path / "short" / "bag", 3).glob("*.mcap")), bag / "bag.mcap")
    with pytest.raises(BagError, match=r"6 messages on '/keypoints'.* 3;"):
        list(read_keypoints(bag))


def test_metadata_that_names_another_topic_is_refused(tmp_path):
    """Here rosbags itself yields nothing, and no error."""
    from rosbags.rosbag2 import Reader

    bag = write(tmp_path / "bag")
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("name: /keypoints", "name: /people"))
    with Reader(bag) as reader:
        people = [c for c in reader.connections if c.topic == "/people"]
        assert not list(reader.messages(people)), "the trap is gone; this test tests nothing"
    with pytest.raises(BagError, match=r" 6 messages .* 0;"):
        next(read_messages(bag, "/people"))


def test_metadata_whose_counts_do_not_add_up_is_refused(tmp_path):
    bag = write(tmp_path / "bag")
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 12", "message_count: 0"))
    with pytest.raises(BagError, match=r" 0 messages .* 12 "):
        list(read_keypoints(bag))


def test_an_empty_topic_is_refused(tmp_path):
    write_bag(tmp_path / "bag", [keypoint_recording("/keypoints", [])])
    with pytest.raises(BagError, match="/keypoints"):
        next(read_messages(tmp_path / "bag", "/keypoints"))
    with pytest.raises(BagError, match="no messages of key2mesh_ros/msg/PersonKeypointsArray"):
        the_topic(tmp_path / "bag", KEYPOINTS_TYPE)


def with_an_unknown_type(path: Path) -> Path:
    """A recording of keypoints next to a topic whose definition nobody can read."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = message_store()
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        strange = writer.add_connection(
            "/strange", "odd_msgs/msg/Odd", msgdef="this is !! no definition", rihs01="RIHS01_00"
        )
        good = writer.add_connection("/keypoints", KEYPOINTS_TYPE, typestore=store)
        writer.write(strange, 1, b"\x00\x01\x00\x00")
        for message in keypoint_recording("/keypoints", frames()).messages:
            data = store.serialize_cdr(message.value, KEYPOINTS_TYPE)
            writer.write(good, message.recorded_ns, data)
    return path


def test_one_undecodable_type_does_not_refuse_the_whole_recording(tmp_path):
    from rosbags.highlevel import AnyReader, AnyReaderError

    bag = with_an_unknown_type(tmp_path / "bag")
    with pytest.raises((AnyReaderError, KeyError)), AnyReader([bag]):
        pass  # the trap
    assert_same(list(read_keypoints(bag)), frames())
    with pytest.raises(BagError, match="definition of odd_msgs/msg/Odd"):
        next(read_messages(bag, "/strange"))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_file_cut_anywhere_is_refused_or_read_whole(tmp_path, storage):
    bag = write(tmp_path / "bag", storage=storage)
    (file,) = [p for p in bag.iterdir() if p.suffix in (".mcap", ".db3")]
    whole = file.read_bytes()
    refused = 0
    for length in np.linspace(0, len(whole) - 1, 12).astype(int):
        file.write_bytes(whole[:length])
        try:
            assert_same(list(read_keypoints(bag)), frames())
        except BagError:
            refused += 1
    assert refused >= 10  # sqlite3 may end in an unused page


def test_damage_anywhere_gives_the_messages_or_our_error(tmp_path):
    """Whatever byte is overwritten: no other exception, and never fewer messages in silence. Where
    messages are missing, the tool that recovers the others is named."""
    bag = write(tmp_path / "bag")
    file = bag / "bag.mcap"
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    refused: list[str] = []
    for _ in range(60):
        damaged = bytearray(whole)
        at = random.integers(len(whole) - 16)
        damaged[at : at + 8] = random.bytes(8)
        file.write_bytes(damaged)
        try:
            read = list(read_keypoints(bag))
        except BagError as error:
            refused.append(str(error))
        else:
            assert len(read) == 6
    assert len(refused) > 10
    missing = [text for text in refused if re.search(r"\d+ messages", text)]
    assert missing
    assert all("mcap recover" in text for text in missing)


def test_a_message_of_garbage_names_its_place(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/keypoints", KEYPOINTS_TYPE, typestore=message_store())
        writer.write(topic, 1, b"\x00\x01\x00\x00" + b"\xff" * 20)
    with pytest.raises(BagError, match="message 0 on '/keypoints' is not a key2mesh_ros"):
        next(read_keypoints(tmp_path / "bag"))


# Whose way out is in the folder, or in a tool.

NO_STORAGE = re.compile(r"storage_identifier: \w+")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("text", ["", "rosbag2_bagfile_information: 3", "{", "no storage", None])
def test_metadata_that_says_nothing_gives_way_to_the_one_file(tmp_path, storage, text):
    """None: there is no metadata.yaml; no storage: `ros2 bag reindex` of Humble."""
    bag = write(tmp_path / "bag", storage=storage)
    metadata = bag / "metadata.yaml"
    if text is None:
        metadata.unlink()
    elif text == "no storage":
        metadata.write_text(NO_STORAGE.sub("storage_identifier: ''", metadata.read_text()))
    else:
        metadata.write_text(text)
    assert_same(list(read_keypoints(bag)), frames())
    (file,) = [p for p in bag.iterdir() if p.suffix in (".mcap", ".db3")]
    shutil.copy(file, bag / f"second{file.suffix}")
    with pytest.raises(BagError, match="ros2 bag reindex") as refused:
        list_topics(bag)
    assert "report issue" not in str(refused.value)


def test_a_file_that_the_metadata_misses_is_not_made_up_for_by_the_other(tmp_path):
    bag = write(tmp_path / "bag")
    metadata = bag / "metadata.yaml"
    text = metadata.read_text().replace("  - bag.mcap", "  - bag.mcap\n  - bag_1.mcap")
    metadata.write_text(text)
    with pytest.raises(BagError, match=r"bag_1\.mcap"):
        list_topics(bag)


@pytest.mark.parametrize("with_metadata", [False, True])
@pytest.mark.parametrize("as_file", [False, True])
def test_a_power_cut_names_the_tool_that_recovers(tmp_path, with_metadata, as_file):
    bag = write(tmp_path / "bag")
    file = bag / "bag.mcap"
    file.write_bytes(file.read_bytes()[:-200])
    if not with_metadata:
        (bag / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"mcap recover \S*bag\.mcap -o"):
        list_topics(file if as_file else bag)


def test_a_sqlite3_file_cut_short_names_the_tool_that_recovers(tmp_path):
    bag = write(tmp_path / "bag", storage="sqlite3")
    (file,) = bag.glob("*.db3")
    file.write_bytes(file.read_bytes()[:4096])
    with pytest.raises(BagError, match=r"sqlite3 .*recover|reindex"):
        list(read_keypoints(bag))


@pytest.mark.parametrize("name", ["old.bag", "folder/old.bag"])
def test_a_bag_of_ros_1_names_the_converter(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"#ROSBAG V2.0\n" + bytes(4096))
    for path in {file, file.parent if "/" in name else file}:
        with pytest.raises(BagError, match=r"ROS 1.*rosbags-convert --src \S*old\.bag"):
            list_topics(path)


def test_wrong_requests_say_what_there_is(tmp_path):
    bag = write(tmp_path / "bag")
    with pytest.raises(BagError, match=r"no topic '/nothing'; it has: .*keypoints"):
        next(read_messages(bag, "/nothing"))
    with pytest.raises(BagError, match=r"'/camera_info' .*sensor_msgs/msg/CameraInfo, expected"):
        next(read_keypoints(bag, "/camera_info"))
    with pytest.raises(BagError, match="there is no recording"):
        list_topics(tmp_path / "absent")
    with pytest.raises(BagError, match="exists already"):
        write_bag(bag, [])
    with pytest.raises(BagError, match="unknown storage 'rosbag'"):
        write_bag(tmp_path / "new", [], storage="rosbag")


def test_unequal_lists_of_a_person_are_refused(tmp_path):
    recording = keypoint_recording("/keypoints", frames(2))
    person = recording.messages[1].value.people[0]
    object.__setattr__(person, "x", person.x[:5])
    write_bag(tmp_path / "bag", [recording])
    with pytest.raises(KeypointError, match="differ in length: 5, 18"):
        list(read_keypoints(tmp_path / "bag"))


# The committed recording.


def test_the_demo_recording_is_what_its_readme_says():
    read = list(read_keypoints(STREET))
    camera = read_camera(STREET)
    assert len(read) == 230
    assert {(f.layout, f.width, f.height) for f in read} == {("mediapipe_33", 1768, 994)}
    assert [i for i, f in enumerate(read) if not f.ids] == [0, 1, 2, 227, 228, 229]
    assert max(len(f.ids) for f in read) == 2
    assert (camera.width, camera.intrinsics.fx) == (1768, 2520)
    assert {f.frame_id for f in read} == {"camera_optical_frame"}
    steps = np.diff([f.stamp_ns for f in read])
    np.testing.assert_allclose(steps, 1e9 / 30, rtol=1e-6)
    assert sum(f.stat().st_size for f in STREET.iterdir()) < 300_000


def test_reading_recordings_needs_neither_torch_nor_ros():
    code = (
        "import sys; from key2mesh_core.recordings.open import open_recording;"
        "next(iter(open_recording(sys.argv[1])));"
        "bad = {'torch', 'rclpy', 'onnxruntime'} & set(sys.modules); assert not bad, bad"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(STREET)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
