# SPDX-License-Identifier: Apache-2.0
"""Detectors' messages, of the definitions that their projects publish and out of their bytes: every
keypoint under its name, in pixels of a known image and frame; refusals with a cause."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers_detectors import (
    EARLIER_NAMES,
    YOLO,
    ZED,
    camera_info_of,
    carried,
    header,
    hri_message,
    make,
    store,
    yolo_message,
    zed_message,
)

from key2mesh_core.camera.choose import NOTHING_STATED, CameraOptions, choose_camera
from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.keypoints.layouts import LAYOUTS, to_network
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS, REQUIRED
from key2mesh_core.people.messages import BY_TYPE, DETECTORS, MessageRefused, StreamResolution


def reader(name: str) -> Any:
    """A detector's reader, for messages without CameraInfo of whose camera nothing is stated."""
    read = DETECTORS[name].read
    return lambda message, info=None, options=NOTHING_STATED: read(message, info, options)


read_hri, read_person_keypoints, read_yolo, read_zed = map(
    reader, ("hri", "key2mesh", "yolo", "zed")
)
STAMP = 1_000_000_002


def sized(width: int, height: int) -> CameraOptions:
    return CameraOptions(image_size=(width, height))


def named(people: Any) -> list[dict[str, tuple[float, float, float]]]:
    """What each person shows: network keypoint -> x, y, confidence; the unseen left out."""
    clean = sanitise(to_network(people.layout, people.keypoints)).round(4).tolist()
    return [
        {n: tuple(p) for n, p in zip(NETWORK_KEYPOINTS, person, strict=True) if p[2]}
        for person in clean
    ]


def yolo(*detections: dict) -> Any:
    """A DetectionArray of {keypoint id: (x, y, score)}."""
    found = []
    for points in detections:
        keypoints = [
            make(
                "yolo_msgs/msg/KeyPoint2D",
                id=key,
                point=make("yolo_msgs/msg/Point2D", x=float(p[0]), y=float(p[1])),
                score=float(p[2]),
            )
            for key, p in points.items()
            if isinstance(key, int)
        ]
        size = {"width": points.get("width", 0), "height": points.get("height", 0)}
        found.append(
            make(
                "yolo_msgs/msg/Detection",
                class_name=points.get("class", "person"),
                id=points.get("id", ""),
                mask=make("yolo_msgs/msg/Mask", **size),
                keypoints=make("yolo_msgs/msg/KeyPoint2DArray", data=keypoints),
            )
        )
    return carried(make(YOLO, header=header(STAMP), detections=found))


def test_yolo_counts_keypoints_from_one_and_leaves_out_the_unsure() -> None:
    people = read_yolo(yolo({1: (10, 20, 0.9), 11: (30, 40, 0.8), 17: (50, 60, 0.7), "id": "7"}))
    assert people.ids == ("7",)
    assert (people.width, people.height) == (0, 0)
    (person,) = named(people)
    assert person == {
        "nose": (10, 20, pytest.approx(0.9)),
        "right_wrist": (30, 40, pytest.approx(0.8)),
        "right_ankle": (50, 60, pytest.approx(0.7)),
    }


def test_yolo_things_are_no_persons_but_a_person_without_keypoints_is_one() -> None:
    people = read_yolo(yolo({"class": "chair"}, {}, {3: (1, 2, 0.5)}))
    assert people.keypoints.shape == (2, 17, 3)
    assert not people.keypoints[0].any()
    assert people.keypoints[1, 2].tolist() == [1, 2, 0.5]


def test_yolo_takes_the_image_size_of_a_mask() -> None:
    people = read_yolo(yolo({1: (1, 2, 0.5), "width": 320, "height": 240}), options=sized(640, 480))
    assert (people.width, people.height) == (320, 240)


@pytest.mark.parametrize("key", [0, 18, -1])
def test_yolo_keypoints_of_another_model_are_refused(key: int) -> None:
    with pytest.raises(MessageRefused, match=f"id {key}") as refused:
        read_yolo(yolo({key: (1, 2, 0.5)}))
    assert refused.value.cause == "keypoint_count"


def hri(points: list[tuple[float, float, float]]) -> Any:
    return carried(hri_message(STAMP, np.array(points).reshape(-1, 3)))


def test_hri_is_scaled_by_the_image_and_its_eyes_are_not_openposes() -> None:
    points = [(0.0, 0.0, 0.0)] * 18
    points[0] = (0.5, 0.25, 0.9)
    points[14] = (0.75, 0.5, 0.8)
    points[17] = (0.25, 1.0, 0.7)
    people = read_hri(hri(points), options=sized(640, 480))
    assert people.ids == ("",)
    assert named(people) == [
        {
            "nose": (320, 120, pytest.approx(0.9)),
            "left_eye": (480, 240, pytest.approx(0.8)),
            "right_ear": (160, 480, pytest.approx(0.7)),
        }
    ]


def test_hri_with_an_empty_skeleton_is_nobody() -> None:
    people = read_hri(hri([]), options=sized(640, 480))
    assert people.ids == ()
    assert people.keypoints.shape[:1] == (0,)


@pytest.mark.parametrize(
    ("points", "size", "cause"),
    [
        ([(0.5, 0.5, 1.0)] * 18, (0, 0), "no_image_size"),
        ([(0.5, 0.5, 1.0)] * 17, (640, 480), "keypoint_count"),
        ([(320.0, 240.0, 1.0)] * 18, (640, 480), "not_normalised"),
    ],
)
def test_hri_refusals(points: list, size: tuple[int, int], cause: str) -> None:
    with pytest.raises(MessageRefused) as refused:
        read_hri(hri(points), options=sized(*size))
    assert refused.value.cause == cause


def test_hri_outliers_that_are_not_seen_do_not_refuse_the_rest() -> None:
    points = [(0.5, 0.5, 1.0)] * 18
    points[3] = (500.0, 0.5, 0.01)
    points[4] = (math.nan, 0.5, 1.0)
    (person,) = named(read_hri(hri(points), options=sized(640, 480)))
    assert len(person) == 16


def zed(*bodies: dict) -> Any:
    """An ObjectsStamped of bodies whose keypoint i lies at (100 + i, 200 + i)."""
    people, formats = [], []
    for body in bodies:
        count = body.get("count", 38)
        places = np.array([(100 + i, 200 + i) for i in range(count)], np.float32)
        for place, value in body.get("points", {}).items():
            places[place] = value
        people.append((body.get("id", 3), places))
        formats.append(body.get("format", {18: 0, 34: 1, 38: 2}[count]))
    message = zed_message(STAMP, people, 0)
    for each, body, kind in zip(message.objects, bodies, formats, strict=True):
        each.body_format = kind
        each.confidence = body.get("confidence", 80.0)
        each.tracking_available = body.get("tracking", True)
        each.skeleton_available = body.get("skeleton", True)
    return carried(message)


@pytest.mark.parametrize(
    ("count", "places"),
    [
        (18, {"nose": 0, "neck": 1, "right_wrist": 4, "right_eye": 14, "left_ear": 17}),
        (34, {"nose": 27, "left_wrist": 7, "right_hip": 22, "left_ear": 29, "right_ankle": 24}),
        (38, {"nose": 5, "left_eye": 6, "right_shoulder": 13, "left_hip": 18, "right_ankle": 23}),
    ],
)
def test_zed_keypoints_of_every_format_arrive_under_their_names(count: int, places: dict) -> None:
    people = read_zed(zed({"count": count}), options=sized(1280, 720))
    assert (people.ids, people.width, people.height) == (("3",), 1280, 720)
    assert len(LAYOUTS[people.layout]) == count
    (person,) = named(people)
    assert set(NETWORK_KEYPOINTS[:REQUIRED]) <= set(person)
    for name, place in places.items():
        assert person[name] == (100 + place, 200 + place, pytest.approx(0.8))


def test_zed_keypoints_outside_its_sight_are_unseen() -> None:
    unseen = {5: (math.nan, math.nan), 6: (-1, -1), 7: (0, 0), 12: (100, -3)}
    (person,) = named(read_zed(zed({"points": unseen})))
    hidden = {"nose", "left_eye", "right_eye", "left_shoulder", "neck"}  # the neck: of shoulders
    assert set(NETWORK_KEYPOINTS[:REQUIRED]) - set(person) == hidden


def test_zed_bodies_without_tracking_have_no_names() -> None:
    message = zed({"tracking": False}, {"id": -1}, {"id": 0}, {"confidence": 2.0})
    people = read_zed(message)
    assert people.ids == ("", "", "0", "3")
    assert len(named(people)[3]) >= REQUIRED  # the SDK saw them: a weak body's are weak, not unseen


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (zed({"skeleton": False}), "no_keypoints"),
        (zed({"format": 3}), "unknown_layout"),
        (zed({"count": 18}, {"count": 38}), "unknown_layout"),
    ],
)
def test_zed_refusals(message: Any, cause: str) -> None:
    with pytest.raises(MessageRefused) as refused:
        read_zed(message)
    assert refused.value.cause == cause


def test_zed_with_nobody_in_view_is_empty() -> None:
    people = read_zed(zed())
    assert people.ids == ()
    assert sanitise(to_network(people.layout, people.keypoints)).shape[:1] == (0,)


JOINTS = np.random.default_rng(3).uniform([2.5, -0.9, -0.9], [3.5, 0.3, 0.8], (38, 3))
"""A body in `zed_left_camera_frame` [m]: x forward, y left, z up."""
OPTICAL = np.stack([-JOINTS[:, 1], -JOINTS[:, 2], JOINTS[:, 0]], axis=1)


def grabbed(
    width: int, height: int, focal: float, joints: np.ndarray = JOINTS, noise: float = 0.0
) -> Any:
    """What the wrapper publishes of the body, seen in the resolution that the ZED grabs."""
    camera = Intrinsics(focal, focal, width / 2, height / 2)
    pixels = project(OPTICAL, camera)
    joints = joints + np.random.default_rng(4).normal(0, noise, joints.shape)
    message = zed_message(STAMP, [(3, pixels, joints)], 2, "zed_left_camera_frame")
    return carried(message)


@pytest.mark.parametrize(
    "optical", ["zed_left_camera_optical_frame", "zed_left_camera_frame_optical"]
)
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize(
    ("grab", "published"),
    [
        ((1280, 720), (640, 360)),  # pub_downscale_factor: 2.0
        ((1280, 720), (1280, 720)),  # pub_resolution: NATIVE
        ((2208, 1242), (1104, 621)),
        ((1920, 1200), (640, 400)),
        ((672, 376), (336, 188)),
        ((1500, 1000), (1000, 667)),  # of no camera that we know
    ],
)
def test_zed_pixels_find_the_camera_that_saw_them(grab, published, noise, optical) -> None:
    message = grabbed(*grab, 530.0, noise=noise)
    info = camera_info_of(*published, 530.0 * published[0] / grab[0], optical)
    frame = read_zed(message, info)
    assert frame.frame_id == optical
    assert frame.warnings == ()
    np.testing.assert_allclose(
        (frame.width, frame.height), grab, rtol=0.02 if grab[0] == 1500 else 0
    )
    camera = choose_camera(
        info,
        CameraOptions(rectified=True),
        width=frame.width,
        height=frame.height,
        frame_id=frame.frame_id,
    )
    assert camera.warnings == ()
    off = project(OPTICAL, camera.intrinsics) - frame.keypoints[0, :, :2]
    assert np.abs(off).max() < (20.0 if grab[0] == 1500 else 1.0)


def test_zed_joints_that_are_optical_already_are_understood() -> None:
    info = camera_info_of(640, 360, 265.0, "zed_left_camera_frame_optical")
    frame = read_zed(grabbed(1280, 720, 530.0, OPTICAL), info)
    assert (frame.width, frame.height) == (1280, 720)


@pytest.mark.parametrize(
    "joints",
    [np.zeros((38, 3)), np.full((38, 3), np.nan), -JOINTS, JOINTS[::-1]],
    ids=["zeros", "nan", "behind", "of others"],
)
def test_zed_without_depths_takes_camera_info_and_says_so(joints: np.ndarray) -> None:
    message, info = grabbed(1280, 720, 530.0, joints), camera_info_of(640, 360, 265.0, "eye")
    frame = read_zed(message, info)
    assert (frame.width, frame.height) == (640, 360)
    assert frame.warnings == ("unknown_resolution",)
    assert "640 x 360" in frame.reasons[0]
    stated = read_zed(message, info, sized(1280, 720))  # the way out
    assert (stated.width, stated.height, stated.warnings) == (1280, 720, ())


def test_a_message_without_depths_takes_the_resolution_of_those_before_it() -> None:
    info = camera_info_of(640, 360, 265.0, "eye")
    stream = StreamResolution()
    without = read_zed(grabbed(1280, 720, 530.0, np.zeros((38, 3))), info)
    nobody = read_zed(carried(zed_message(STAMP, [], 2, "zed_left_camera_frame")), info)
    assert [stream.settle(each) for each in (without, nobody)] == [without, nobody]
    found = stream.settle(read_zed(grabbed(1280, 720, 530.0), info))
    assert (found.width, found.warnings) == (1280, ())
    for frame in (without, nobody):
        settled = stream.settle(frame)
        assert (settled.width, settled.height, settled.warnings) == (1280, 720, ())


def test_zed_without_camera_info_has_its_own_optical_frame_and_no_size() -> None:
    frame = read_zed(grabbed(1280, 720, 530.0))
    assert frame.frame_id == "zed_left_camera_frame_optical"
    assert (frame.width, frame.height, frame.warnings) == (0, 0, ())
    assert (frame.stamp_ns, frame.ids) == (STAMP, ("3",))


def test_a_frame_that_is_not_the_wrapper_s_is_left_as_it_is() -> None:
    info = camera_info_of(640, 360, 265.0, "zed_left_camera_frame_optical")
    assert read_zed(zed({}), info).frame_id == "eye"


@pytest.mark.parametrize("kind", [YOLO, ZED])
def test_messages_under_their_earlier_names_are_read_alike(kind: str) -> None:
    package = kind.split("/")[0]
    earlier = kind.replace(package, EARLIER_NAMES[package])
    assert BY_TYPE[earlier] is BY_TYPE[kind]
    point = np.array([[10.0, 20.0, 0.5]] * 17)
    message = {YOLO: yolo_message(STAMP, [("1", point)]), ZED: zed({})}[kind]
    data = store().serialize_cdr(message, kind)
    frame = BY_TYPE[earlier].read(store().deserialize_cdr(data, earlier), None, NOTHING_STATED)
    np.testing.assert_array_equal(
        frame.keypoints, BY_TYPE[kind].read(message, None, NOTHING_STATED).keypoints
    )


@pytest.mark.parametrize("detector", DETECTORS.values(), ids=lambda detector: detector.name)
def test_the_table_names_every_type_once(detector: Any) -> None:
    assert all(BY_TYPE[each] is detector for each in detector.types)
    assert detector.topic_types
    assert bool(detector.list_type) == bool(detector.list_topic)


@pytest.mark.parametrize("detector", DETECTORS.values(), ids=lambda detector: detector.name)
def test_the_page_of_detectors_has_each_with_its_messages(detector: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "robot.md").read_text()
    packages = [each.split("/")[0] for each in detector.types]
    name = detector.types[0].replace("/msg/", "/")
    for word in (f"`{detector.name}`", f"`{name}`", *packages):
        assert word in page


@pytest.mark.parametrize("scale", [1.0, 2.0])  # OpenPose's keypoint_scale 3 and 4
def test_normalised_coordinates_are_refused_where_pixels_are_expected(scale: float) -> None:
    points = np.random.default_rng(0).uniform(0, 1, (17, 2)) * scale - (scale - 1)
    person = np.concatenate([points, np.ones((17, 1))], axis=1)
    with pytest.raises(MessageRefused) as refused:
        read_yolo(carried(yolo_message(STAMP, [("", np.full((17, 3), 0.0)), ("1", person)])))
    assert refused.value.cause == "normalised"
    person[:, :2] *= 100
    assert len(read_yolo(carried(yolo_message(STAMP, [("1", person)])))) == 1


def test_our_own_size_counts_before_the_callers() -> None:
    person = SimpleNamespace(id="a", x=[10.0] * 17, y=[20.0] * 17, confidence=[0.5] * 17)
    size = {"image_width": 320, "image_height": 240}
    message = SimpleNamespace(header=header(STAMP), layout="coco_17", people=[person], **size)
    people = read_person_keypoints(message, options=sized(640, 480))
    assert (people.width, people.height, people.frame_id) == (320, 240, "eye")
    person.y = [20.0] * 16
    with pytest.raises(MessageRefused) as refused:
        read_person_keypoints(message)
    assert refused.value.cause == "unequal_lengths"
    message.layout = "cocoa"
    with pytest.raises(MessageRefused) as refused:
        read_person_keypoints(message)
    assert refused.value.cause == "unknown_layout"
