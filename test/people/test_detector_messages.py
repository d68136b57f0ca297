# SPDX-License-Identifier: Apache-2.0
"""Other detectors' messages: every keypoint under its name, in pixels; refusals with a cause."""

from __future__ import annotations

import math
from types import SimpleNamespace as Message
from typing import Any

import numpy as np
import pytest

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.keypoints.layouts import LAYOUTS, to_network
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.people.messages import (
    DETECTORS,
    MessageRefused,
)

read_hri, read_person_keypoints, read_yolo, read_zed = (
    DETECTORS[name].read for name in ("hri", "key2mesh", "yolo", "zed")
)
HEADER = Message(stamp=Message(sec=1, nanosec=2), frame_id="eye")


def sized(width, height):
    return CameraOptions(image_size=(width, height))


def named(people: Any) -> list[dict[str, tuple[float, float, float]]]:
    """What each person shows: network keypoint -> x, y, confidence; the unseen left out."""
    clean = sanitise(to_network(people.layout, people.keypoints)).round(4).tolist()
    return [
        {n: tuple(p) for n, p in zip(NETWORK_KEYPOINTS, person, strict=True) if p[2]}
        for person in clean
    ]


def yolo(*detections: dict) -> Message:
    """A DetectionArray of {keypoint id: (x, y, score)}."""
    return Message(
        header=HEADER,
        detections=[
            Message(
                class_name=points.get("class", "person"),
                id=points.get("id", ""),
                mask=Message(width=points.get("width", 0), height=points.get("height", 0)),
                keypoints=Message(
                    data=[
                        Message(id=key, point=Message(x=p[0], y=p[1]), score=p[2])
                        for key, p in points.items()
                        if isinstance(key, int)
                    ]
                ),
            )
            for points in detections
        ],
    )


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
    people = read_yolo(yolo({"class": "chair"}, {}, {3: (1, 2, 0.5)}), options=sized(640, 480))
    assert people.keypoints.shape == (2, 17, 3)
    assert not people.keypoints[0].any()
    assert people.keypoints[1, 2].tolist() == [1, 2, 0.5]
    assert (people.width, people.height) == (640, 480)


def test_yolo_takes_the_image_size_of_a_mask() -> None:
    people = read_yolo(yolo({1: (1, 2, 0.5), "width": 320, "height": 240}), options=sized(640, 480))
    assert (people.width, people.height) == (320, 240)


@pytest.mark.parametrize("key", [0, 18, -1])
def test_yolo_keypoints_of_another_model_are_refused(key: int) -> None:
    with pytest.raises(MessageRefused, match=f"id {key}") as refused:
        read_yolo(yolo({key: (1, 2, 0.5)}))
    assert refused.value.cause == "keypoint_count"


def hri(points: list[tuple[float, float, float]]) -> Message:
    return Message(header=HEADER, skeleton=[Message(x=x, y=y, c=c) for x, y, c in points])


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
    assert people.keypoints.shape == (0, 18, 3)


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


def zed(*bodies: dict) -> Message:
    """An ObjectsStamped of bodies whose keypoint i lies at (100 + i, 200 + i)."""
    objects = []
    for body in bodies:
        count = body.get("count", 38)
        places = [np.array([100 + i, 200 + i], np.float32) for i in range(count)]
        places += [np.zeros(2, np.float32)] * (70 - count)
        for place, value in body.get("points", {}).items():
            places[place] = np.array(value, np.float32)
        objects.append(
            Message(
                label_id=body.get("id", 3),
                confidence=body.get("confidence", 80.0),
                tracking_available=body.get("tracking", True),
                skeleton_available=body.get("skeleton", True),
                body_format=body.get("format", {18: 0, 34: 1, 38: 2}[count]),
                skeleton_2d=Message(keypoints=[Message(kp=p) for p in places]),
                **body.get("more", {}),
            )
        )
    return Message(header=HEADER, objects=objects)


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
    assert len(person) == 18
    for name, place in places.items():
        assert person[name] == (100 + place, 200 + place, pytest.approx(0.8))


def test_zed_keypoints_outside_its_sight_are_unseen() -> None:
    unseen = {5: (math.nan, math.nan), 6: (-1, -1), 7: (0, 0), 12: (100, -3)}
    (person,) = named(read_zed(zed({"points": unseen})))
    hidden = {"nose", "left_eye", "right_eye", "left_shoulder", "neck"}  # the neck: of shoulders
    assert set(NETWORK_KEYPOINTS) - set(person) == hidden


def test_zed_bodies_without_tracking_have_no_names() -> None:
    message = zed({"tracking": False}, {"id": -1}, {"id": 0}, {"confidence": 2.0})
    people = read_zed(message)
    assert people.ids == ("", "", "0", "3")
    assert len(named(people)[3]) == 18  # the SDK saw them: a weak body's are weak, not unseen


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (zed({"skeleton": False}), "no_keypoints"),
        (zed({"format": 3}), "unknown_layout"),
        (zed({"count": 18}, {"count": 38}), "unknown_layout"),
    ],
)
def test_zed_refusals(message: Message, cause: str) -> None:
    with pytest.raises(MessageRefused) as refused:
        read_zed(message)
    assert refused.value.cause == cause


def test_zed_with_nobody_in_view_is_empty() -> None:
    people = read_zed(zed())
    assert people.ids == ()
    assert sanitise(to_network(people.layout, people.keypoints)).shape == (0, 18, 3)


def test_our_own_size_counts_before_the_callers() -> None:
    person = Message(id="a", x=[10.0] * 17, y=[20.0] * 17, confidence=[0.5] * 17)
    message = Message(
        header=HEADER, layout="coco_17", image_width=320, image_height=240, people=[person]
    )
    people = read_person_keypoints(message, options=sized(640, 480))
    assert (people.width, people.height) == (320, 240)
    person.y = [20.0] * 16
    with pytest.raises(MessageRefused) as refused:
        read_person_keypoints(message)
    assert refused.value.cause == "unequal_lengths"
    message.layout = "cocoa"
    with pytest.raises(MessageRefused) as refused:
        read_person_keypoints(message)
    assert refused.value.cause == "unknown_layout"
