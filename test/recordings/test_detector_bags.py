# SPDX-License-Identifier: Apache-2.0
"""Bags of other detectors, decoded from the definitions in the bag; broken ones refused."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from helpers_detectors import (
    HRI,
    YOLO,
    ZED,
    hri_message,
    store,
    write_foreign_bag,
    yolo_message,
    zed_message,
)
from write_bags import camera_recording, keypoint_recording, write_bag

from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.lens import distort_pixels, read_distortion
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BagError, TargetError
from key2mesh_core.keypoints.layouts import LAYOUTS
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.people.stamps import MOST_LATE
from key2mesh_core.recordings.numbering import JUMP, frame_numbers
from key2mesh_core.recordings.targets import TargetKeypoints, load_targets

WIDTH, HEIGHT = 640, 480
RATE = 33_333_333
START = 1_700_000_000_000_000_000
IMAGES = 5
STORAGES = pytest.mark.parametrize("storage", ["mcap", "sqlite3"])

COCO = LAYOUTS["coco_17"].keypoint_names
HRI_NAMES = LAYOUTS["hri_18"].keypoint_names


def truth(person: int, image: int) -> dict[str, tuple[float, float]]:
    """Where each of the network's keypoints is [px]; the neck between the shoulders."""
    random = np.random.default_rng(10 * person)
    points = random.uniform(0, 200, (18, 2)) + np.array([100 * person + 2 * image, 100])
    found = {n: tuple(p) for n, p in zip(NETWORK_KEYPOINTS, points.round(2), strict=True)}
    shoulders = np.array([found["left_shoulder"], found["right_shoulder"]])
    return found | {"neck": tuple(shoulders.mean(axis=0))}


def points(names: tuple[str, ...], person: int, image: int) -> np.ndarray:
    """(K, 3) in a layout's order; what the network does not know lies far away."""
    found = truth(person, image)
    return np.array([(*found.get(name, (5000.0, 5000.0)), 0.9) for name in names])


def stamps() -> list[int]:
    return [START + image * RATE for image in range(IMAGES)]


def yolo_bag(path: Path, storage: str = "mcap") -> Path:
    messages = [
        (s, yolo_message(s, [(str(p), points(COCO, p, i)) for p in range(3)]))
        for i, s in enumerate(stamps())
    ]
    return write_foreign_bag(path, {"/yolo/detections": (YOLO, messages)}, storage)


def hri_bag(path: Path, storage: str = "mcap") -> Path:
    topics = {
        f"/humans/bodies/{'abc'[p]}/skeleton2d": (
            HRI,
            [
                (s, hri_message(s, points(HRI_NAMES, p, i) / [WIDTH, HEIGHT, 1]))
                for i, s in enumerate(stamps())
            ],
        )
        for p in range(3)
    }
    return write_foreign_bag(path, topics, storage)


def zed_bag(path: Path, storage: str = "mcap", layout: str = "zed_38") -> Path:
    names = LAYOUTS[layout].keypoint_names
    number = {"openpose_coco_18": 0, "zed_34": 1, "zed_38": 2}[layout]
    messages = [
        (s, zed_message(s, [(p, points(names, p, i)[:, :2]) for p in range(3)], number))
        for i, s in enumerate(stamps())
    ]
    return write_foreign_bag(path, {"/zed/body_trk/skeletons": (ZED, messages)}, storage)


def assert_truth(targets: TargetKeypoints, atol: float) -> None:
    """Every image of the three persons, in their sequences."""
    assert len(targets) == 3 * IMAGES
    assert targets.left_out == {}
    assert len(targets.names) == 3
    for row in range(len(targets)):
        person, image = divmod(row, IMAGES)
        assert targets.frame[row] == image
        expected = np.array([truth(person, image)[n] for n in NETWORK_KEYPOINTS])
        np.testing.assert_allclose(targets.keypoints[row, :, :2], expected, atol=atol)
        assert (targets.keypoints[row, :, 2] > 0.5).all()


@STORAGES
@pytest.mark.parametrize("single_file", [False, True])
def test_yolo(tmp_path: Path, storage: str, single_file: bool) -> None:
    bag = yolo_bag(tmp_path / "bag", storage)
    if single_file:
        (bag,) = [p for p in bag.iterdir() if p.suffix in (".mcap", ".db3")]
    targets = load_targets([f"bag:{bag}"], topic="/yolo/detections")
    assert_truth(targets, 1e-3)
    assert targets.names == ("/yolo/detections 0", "/yolo/detections 1", "/yolo/detections 2")
    assert not targets.image_size.any()
    ends = np.ceil(targets.keypoints[..., :2].max(axis=(0, 1)))
    np.testing.assert_allclose(targets.intrinsics[:, 2:], [ends / 2] * len(targets))
    assert not targets.metric.any()


@STORAGES
def test_hri_with_one_topic_per_person(tmp_path: Path, storage: str) -> None:
    bag = hri_bag(tmp_path / "bag", storage)
    options = f"topic=/humans/bodies/*/skeleton2d&width={WIDTH}&height={HEIGHT}"
    targets = load_targets([f"bag:{bag}?{options}"])
    assert_truth(targets, 1e-3)
    assert [name.split()[-1] for name in targets.names] == ["a", "b", "c"]
    assert (targets.image_size == [WIDTH, HEIGHT]).all()
    (one,) = load_targets([f"bag:{bag}?{options.replace('*', 'b')}"]).names
    assert one == "/humans/bodies/b/skeleton2d"


@STORAGES
@pytest.mark.parametrize("layout", ["openpose_coco_18", "zed_34", "zed_38"])
def test_zed(tmp_path: Path, storage: str, layout: str) -> None:
    bag = zed_bag(tmp_path / "bag", storage, layout)
    targets = load_targets([f"bag:{bag}?topic=/zed/body_trk/skeletons"])
    assert_truth(targets, 1e-3)
    np.testing.assert_allclose(targets.keypoints[..., 2], 0.75)


def test_several_bags_are_one_target(tmp_path: Path) -> None:
    targets = load_targets(
        [
            f"bag:{yolo_bag(tmp_path / 'yolo')}?topic=/yolo/detections",
            f"bag:{zed_bag(tmp_path / 'zed')}?topic=/zed/body_trk/skeletons",
        ]
    )
    assert len(targets) == 6 * IMAGES
    assert len(targets.names) == 6
    half = len(targets) // 2
    np.testing.assert_allclose(
        targets.keypoints[:half, :, :2], targets.keypoints[half:, :, :2], atol=1e-3
    )


def our_bag(path: Path, keypoints: np.ndarray, layout: str = "coco_17") -> Path:
    """One person (K, 3) in two images."""
    frames = [
        PersonFrame(("a",), keypoints[None].astype(np.float32), layout, s, "eye")
        for s in stamps()[:2]
    ]
    camera = Camera(Intrinsics(500.0, 500.0, 320.0, 240.0), WIDTH, HEIGHT)
    recordings = [keypoint_recording("/keypoints", frames)]
    write_bag(path, [*recordings, camera_recording("/camera_info", camera, "eye", stamps()[:2])])
    return path


def test_the_image_size_of_the_only_camera_stands_in_for_a_missing_one(tmp_path: Path) -> None:
    bag = our_bag(tmp_path / "bag", points(COCO, 0, 0))
    assert (load_targets([f"bag:{bag}"]).image_size == [WIDTH, HEIGHT]).all()
    mine = load_targets([f"bag:{bag}?width=320&height=240"])
    assert (mine.image_size == [320, 240]).all()


# The camera.

LENS = (-0.3, 0.1, 0.001, -0.002, 0.0)
RAW, RECTIFIED = Intrinsics(500.0, 510.0, 330.0, 250.0), Intrinsics(450.0, 450.0, 320.0, 240.0)


K_SMALL = np.array([490.0, 0, 320, 0, 490, 240, 0, 0, 1])


def filmed_bag(
    path: Path, cameras: dict[str, str], by_topic: dict | None = None, **changes: object
) -> Path:
    """Our keypoints in the frame "eye" as a bent lens sees them; CameraInfo topics by frame."""
    bent = points(COCO, 0, 0)
    lens = read_distortion("plumb_bob", LENS)
    bent[:, :2] = distort_pixels(bent[:, :2], RAW, lens)
    frames = [
        PersonFrame(("a",), bent[None].astype(np.float32), "coco_17", s, "eye", WIDTH, HEIGHT)
        for s in stamps()
    ]
    recordings = [keypoint_recording("/keypoints", frames)]
    for topic, frame in cameras.items():
        recording = camera_recording(topic, Camera(RAW, WIDTH, HEIGHT), frame, stamps()[:2])
        at = RECTIFIED
        projection = [at.fx, 0.0, at.cx, 0.0, 0.0, at.fy, at.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        described = {"d": np.array(LENS), "p": np.array(projection)} | changes
        described |= (by_topic or {}).get(topic, {})
        for message in recording.messages:
            for name, value in described.items():
                object.__setattr__(message.value, name, value)
        recordings.append(recording)
    write_bag(path, recordings)
    return path


def pixels(targets: TargetKeypoints) -> np.ndarray:
    """(IMAGES, 17, 2), without the neck, which is nobody's measurement."""
    return np.delete(targets.keypoints[..., :2], NETWORK_KEYPOINTS.index("neck"), axis=1)


def straight() -> np.ndarray:
    """(17, 2) where they are without a lens."""
    found = truth(0, 0)
    return np.array([found[n] for n in NETWORK_KEYPOINTS if n != "neck"])


def test_the_recorded_camera_is_known_and_its_lens_undone(tmp_path: Path) -> None:
    bag = filmed_bag(tmp_path / "bag", {"/camera_info": "eye"})
    found = load_targets([f"bag:{bag}"])
    np.testing.assert_allclose(pixels(found), np.tile(straight(), (IMAGES, 1, 1)), atol=0.1)
    np.testing.assert_array_equal(found.intrinsics, np.tile(RAW.as_array(), (IMAGES, 1)))


def test_a_rectified_image_has_another_camera_and_no_lens(tmp_path: Path) -> None:
    bag = filmed_bag(tmp_path / "bag", {"/camera_info": "eye"})
    found = load_targets([f"bag:{bag}?rectified=true"])
    assert np.abs(pixels(found) - straight()).max() > 1
    np.testing.assert_array_equal(found.intrinsics, np.tile(RECTIFIED.as_array(), (IMAGES, 1)))
    with pytest.raises(TargetError, match="rectified is 'yes'"):
        load_targets([f"bag:{bag}?rectified=yes"])


def test_of_several_cameras_the_one_with_the_keypoints_frame_counts(tmp_path: Path) -> None:
    bag = filmed_bag(tmp_path / "one", {"/left/camera_info": "eye", "/right/camera_info": "ear"})
    assert (load_targets([f"bag:{bag}"]).intrinsics == RAW.as_array()).all()
    with pytest.raises(BagError, match=r"none has the keypoints' frame 'eye'.*camera_info="):
        load_targets([f"bag:{filmed_bag(tmp_path / 'none', {'/a': 'ear', '/b': 'ear'})}"])


def test_camera_infos_that_say_the_same_are_one_camera(tmp_path: Path) -> None:
    """As a RealSense's of the colour image and of the depth aligned to it."""
    topics = {"/aligned/camera_info": "eye", "/color/camera_info": "eye"}
    bag = filmed_bag(tmp_path / "bag", topics)
    assert (load_targets([f"bag:{bag}"]).intrinsics == RAW.as_array()).all()


def test_camera_infos_of_one_frame_that_differ_must_be_chosen_from(tmp_path: Path) -> None:
    """A field of view states the camera just as well."""
    topics = {"/color/camera_info": "eye", "/small/camera_info": "eye"}
    bag = filmed_bag(tmp_path / "bag", topics, {"/small/camera_info": {"k": K_SMALL}})
    with pytest.raises(BagError, match=r"/color/camera_info, /small/camera_info.*camera_info="):
        load_targets([f"bag:{bag}"])
    found = load_targets([f"bag:{bag}?camera_info=/color/camera_info"])
    assert (found.intrinsics == RAW.as_array()).all()
    found = load_targets([f"bag:{bag}?camera_info=/small/camera_info"])
    assert (found.intrinsics[:, 0] == K_SMALL[0]).all()
    stated = load_targets([f"bag:{bag}?fov=90"])
    np.testing.assert_allclose(stated.intrinsics[:, 0], WIDTH / 2, rtol=1e-6)
    with pytest.raises(BagError, match="no CameraInfo on '/other'"):
        load_targets([f"bag:{bag}?camera_info=/other"])


def test_a_lens_of_an_unknown_model_is_left_as_it_is(tmp_path: Path) -> None:
    """As the node leaves it: the model is to learn from what it will see."""
    bag = filmed_bag(tmp_path / "bag", {"/camera_info": "eye"}, distortion_model="bottle")
    found = load_targets([f"bag:{bag}"])
    np.testing.assert_array_equal(found.intrinsics, np.tile(RAW.as_array(), (IMAGES, 1)))
    bent = distort_pixels(straight(), RAW, read_distortion("plumb_bob", LENS))
    np.testing.assert_allclose(pixels(found), np.tile(bent, (IMAGES, 1, 1)), atol=0.01)


@pytest.mark.parametrize("changes", [{"k": np.zeros(9)}, {"k": np.full(9, np.nan)}])
def test_a_camera_that_cannot_be_used_is_not_known(tmp_path: Path, changes: dict) -> None:
    found = load_targets(
        [f"bag:{filmed_bag(tmp_path / 'bag', {'/camera_info': 'eye'}, **changes)}"]
    )
    assert not found.metric.any()
    assert np.abs(pixels(found) - straight()).max() > 1


# What is of no use is refused with the reason.


@STORAGES
def test_a_thousand_messages_and_nobody_usable(tmp_path: Path, storage: str) -> None:
    """Each refused or left out for its own cause; all are counted, none is silent."""
    person = points(COCO, 0, 0).astype(np.float32)
    few = person * [1, 1, 0]
    few[:5, 2] = 0.9
    kinds = {
        "nobody": np.zeros((0, 17, 3)),
        "nan": np.full((1, 17, 3), np.nan),
        "few": few[None],
        "layout": np.stack([person, person]),
    }
    frames = [
        PersonFrame(
            stamp_ns=START + i * RATE,
            frame_id="eye",
            layout="cocoa" if kind == "layout" else "coco_17",
            width=WIDTH,
            height=HEIGHT,
            ids=tuple("ab"[: len(people)]),
            keypoints=people.astype(np.float32),
        )
        for i, (kind, people) in enumerate(list(kinds.items()) * 250)
    ]
    write_bag(tmp_path / "bag", [keypoint_recording("/keypoints", frames)], storage=storage)
    with pytest.raises(TargetError) as refused:
        load_targets([f"bag:{tmp_path / 'bag'}"])
    for cause in ("nobody_in_image", "no_keypoints", "too_few_keypoints", "unknown_layout"):
        assert f"250 x {cause} (first: " in str(refused.value)


def test_a_bag_without_a_usable_person_tells_the_causes(tmp_path: Path) -> None:
    some = points(COCO, 0, 0)
    some[5:, 2] = 0.0
    with pytest.raises(TargetError, match=r"2 x too_few_keypoints.*with 5"):
        load_targets([f"bag:{our_bag(tmp_path / 'few', some)}"])
    with pytest.raises(TargetError, match=r"2 x no_keypoints"):
        load_targets([f"bag:{our_bag(tmp_path / 'none', np.full((17, 3), np.nan))}"])
    some = np.full((17, 3), 9.0)
    with pytest.raises(TargetError, match=r"2 x all_on_one_spot"):
        load_targets([f"bag:{our_bag(tmp_path / 'spot', some)}"])
    with pytest.raises(TargetError, match=r"2 x unknown_layout.*known: openpose_coco_18"):
        load_targets([f"bag:{our_bag(tmp_path / 'layout', some, 'cocoa')}"])
    with pytest.raises(TargetError, match=r"2 x keypoint_count.*25 keypoints.*has 17"):
        load_targets([f"bag:{our_bag(tmp_path / 'count', some, 'openpose_body_25')}"])


def test_a_hundred_messages_of_nobody_are_refused(tmp_path: Path) -> None:
    messages = [(s, yolo_message(s, [])) for s in range(1, 101)]
    bag = write_foreign_bag(tmp_path / "bag", {"/keypoints": (YOLO, messages)})
    with pytest.raises(TargetError, match=r"100 images.*100 x nobody_in_image"):
        load_targets([f"bag:{bag}"])


def test_hri_without_an_image_size_is_refused_with_the_way_out(tmp_path: Path) -> None:
    bag = hri_bag(tmp_path / "bag")
    with pytest.raises(TargetError, match=r"15 x no_image_size"):
        load_targets([f"bag:{bag}?topic=/humans/bodies/*/skeleton2d"])


def test_a_wrong_topic_lists_those_that_can_be_read(tmp_path: Path) -> None:
    bag = hri_bag(tmp_path / "bag")
    with pytest.raises(BagError) as refused:
        load_targets([f"bag:{bag}?topic=/keypoints"])
    assert "no topic '/keypoints'" in str(refused.value)
    assert "/humans/bodies/b/skeleton2d (hri_msgs/msg/Skeleton2D, 5 messages)" in str(refused.value)
    with pytest.raises(BagError, match="no topic '/dogs/\\*'"):
        load_targets([f"bag:{bag}?topic=/dogs/*"])


def test_a_topic_of_another_type_names_the_types(tmp_path: Path) -> None:
    bag = our_bag(tmp_path / "bag", points(COCO, 0, 0))
    with pytest.raises(BagError, match=r"sensor_msgs/msg/CameraInfo; .*hri_msgs/msg/Skel"):
        load_targets([f"bag:{bag}"], topic="/camera_info")


def test_an_old_recording_without_definitions_says_so(tmp_path: Path) -> None:
    bag = yolo_bag(tmp_path / "bag", "sqlite3")
    with sqlite3.connect(next(bag.glob("*.db3"))) as database:
        assert database.execute("DELETE FROM message_definitions").rowcount > 0
    with pytest.raises(BagError, match=r"no definition of yolo_msgs.*before ROS 2 Iron.*convert"):
        load_targets([f"bag:{bag}?topic=/yolo/detections"])


def test_a_message_of_that_name_with_other_fields_is_refused(tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    other = get_typestore(Stores.ROS2_JAZZY)
    other.register(get_types_from_msg("std_msgs/Header header\nuint8 count", YOLO))
    header = store().types["std_msgs/msg/Header"]
    time = store().types["builtin_interfaces/msg/Time"]
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/keypoints", YOLO, typestore=other)
        value = other.types[YOLO](header=header(stamp=time(1, 2), frame_id=""), count=3)
        writer.write(topic, 1, other.serialize_cdr(value, YOLO))
    with pytest.raises(BagError, match=r"message 0 on /keypoints .*yolo_msgs.*detec"):
        load_targets([f"bag:{tmp_path / 'bag'}"])


@STORAGES
def test_a_truncated_recording_is_refused(tmp_path: Path, storage: str) -> None:
    bag = yolo_bag(tmp_path / "bag", storage)
    (file,) = [p for p in bag.iterdir() if p.suffix in (".mcap", ".db3")]
    whole = file.read_bytes()
    for part in (0, 0.3, 0.6):
        file.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(BagError, match="bag"):
            load_targets([f"bag:{bag}?topic=/yolo/detections"])


def test_a_recording_that_contradicts_its_metadata_is_refused(tmp_path: Path) -> None:
    bag = yolo_bag(tmp_path / "bag")
    messages = [(s, yolo_message(s, [])) for s in stamps()[:2]]
    other = write_foreign_bag(tmp_path / "other", {"/yolo/detections": (YOLO, messages)})
    shutil.copy(other / "other.mcap", bag / "bag.mcap")
    with pytest.raises(BagError, match=r" 5 messages .* 2;"):
        load_targets([f"bag:{bag}?topic=/yolo/detections"])


# Numbers of images.


def test_images_are_numbered_by_their_stamps() -> None:
    assert frame_numbers([]).tolist() == []
    assert frame_numbers([7]).tolist() == [0]
    assert frame_numbers([0, 0, 0]).tolist() == [0, 1, 2]
    tenths = [0, 100, 201, 299, 600, 700]
    assert frame_numbers(tenths).tolist() == [0, 1, 2, 3, 6, 7]
    assert frame_numbers([100, 200, 300, 0, 100]).tolist() == [0, 1, 2, 2 + JUMP, 3 + JUMP]


def test_a_gap_in_time_is_a_gap_in_the_numbers(tmp_path: Path) -> None:
    messages = [
        (s, yolo_message(s, [("1", points(COCO, 0, i))])) for i, s in enumerate(stamps()) if i != 2
    ]
    bag = write_foreign_bag(tmp_path / "bag", {"/keypoints": (YOLO, messages)})
    assert load_targets([f"bag:{bag}"]).frame.tolist() == [0, 1, 3, 4]


def test_late_images_are_dropped_and_tear_no_track(tmp_path: Path) -> None:
    """Of a detector with several threads; a bag that begins again is read again."""
    order = [0, 1, 3, 2, 4, *range(40, 43), 0, 1]
    messages = [
        (START + n * RATE, yolo_message(START + i * RATE, [("", points(COCO, 0, i))]))
        for n, i in enumerate(order)
    ]
    bag = write_foreign_bag(tmp_path / "bag", {"/keypoints": (YOLO, messages)})
    targets = load_targets([f"bag:{bag}"])
    assert targets.left_out == {"late": 1}
    later = 42 + JUMP
    assert targets.frame.tolist() == [0, 1, 3, 4, 40, 41, 42, later, later + 1]
    assert targets.sequence.tolist() == [0] * 4 + [1] * 3 + [2] * 2


def test_a_loop_of_less_than_a_second_is_not_late_for_ever(tmp_path: Path) -> None:
    messages = [
        (START + n * RATE, yolo_message(START + n % 20 * RATE, [("", points(COCO, 0, n % 20))]))
        for n in range(40)
    ]
    bag = write_foreign_bag(tmp_path / "bag", {"/keypoints": (YOLO, messages)})
    targets = load_targets([f"bag:{bag}"])
    assert targets.left_out == {"late": MOST_LATE}
    assert np.bincount(targets.sequence).tolist() == [20, 20 - MOST_LATE]


def test_stamps_that_nobody_set_give_way_to_the_time_of_recording(tmp_path: Path) -> None:
    messages = [
        (s, yolo_message(0, [("1", points(COCO, 0, i))])) for i, s in enumerate(stamps()) if i != 2
    ]
    bag = write_foreign_bag(tmp_path / "bag", {"/keypoints": (YOLO, messages)})
    assert load_targets([f"bag:{bag}"]).frame.tolist() == [0, 1, 3, 4]
