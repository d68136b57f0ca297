# SPDX-License-Identifier: Apache-2.0
"""Messages to frames, on plain objects of a message's shape."""

from array import array
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from helpers_ros import standing
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Header

from key2mesh_core.camera.choose import NOTHING_STATED
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.keypoints.arrays import person_sizes, usable
from key2mesh_core.keypoints.layouts import LAYOUTS
from key2mesh_core.people.messages import DETECTORS, MessageRefused
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame
from key2mesh_ros.stream import (
    FUTURE_TOLERANCE_NS,
    header_of,
    header_warnings,
    select_people,
)


def header(stamp=1_000_000_000, frame_id="camera"):
    sec, nanosec = divmod(stamp, 1_000_000_000)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


def read_person_keypoints(given):
    return DETECTORS["key2mesh"].read(given, None, NOTHING_STATED).in_network_order()


def person(x, y, confidence, name="a"):
    return SimpleNamespace(
        id=name, x=array("f", x), y=array("f", y), confidence=array("f", confidence)
    )


def message(*people, layout="openpose_coco_18"):
    return SimpleNamespace(
        header=header(), layout=layout, image_width=640, image_height=480, people=list(people)
    )


def frame(*keypoints):
    return PersonFrame(
        ids=tuple(f"id{number}" for number in range(len(keypoints))),
        keypoints=np.array(keypoints, dtype=np.float32).reshape(-1, 18, 3),
        layout=NETWORK_LAYOUT,
    )


def test_everything_of_a_message_arrives():
    keypoints = standing()
    given_message = message(person(*keypoints.T, name="x"), person(*(keypoints.T + 1), name=""))
    result = read_person_keypoints(given_message)
    assert header_of(result) == Header(stamp=Time(sec=1), frame_id="camera")
    assert (result.width, result.height, result.ids) == (640, 480, ("x", ""))
    assert result.keypoints.dtype == np.float32
    np.testing.assert_array_equal(result.keypoints[0], np.where(keypoints[:, 2:], keypoints, 0))


def test_nobody_is_a_frame_of_nobody():
    result = read_person_keypoints(message())
    assert result.keypoints.shape == (0, 18, 3)
    assert result.ids == ()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_every_layout_puts_its_right_wrist_where_the_network_has_it(layout):
    count = len(layout)
    x = [0.0] * count
    x[layout.keypoint_names.index("right_wrist")] = 7.0
    result = read_person_keypoints(
        message(person(x, [1.0] * count, [1.0] * count), layout=layout.name)
    )
    assert result.keypoints[0, 4].tolist() == [7.0, 1.0, 1.0]
    assert (result.keypoints[0, :, 0] == 7.0).sum() == 1


@given(lengths=st.tuples(*[st.integers(0, 30)] * 3).filter(lambda lengths: lengths != (18, 18, 18)))
def test_wrong_lengths_are_refused_with_both_numbers(lengths):
    bad = message(person(*([1.0] * 18,) * 3), person(*([1.0] * length for length in lengths)))
    with pytest.raises(MessageRefused) as caught:
        read_person_keypoints(bad)
    error = caught.value
    assert isinstance(error, Key2MeshError)
    assert "person 1" in str(error)
    if len(set(lengths)) > 1:
        assert error.cause == "unequal_lengths"
        assert all(str(length) in str(error) for length in lengths)
    else:
        assert error.cause == "keypoint_count"
        assert str(lengths[0]) in str(error)
        assert "18" in str(error)


def test_an_unknown_layout_is_refused_with_the_known_ones():
    with pytest.raises(MessageRefused, match=r"'centaur'.*openpose_body_25") as caught:
        read_person_keypoints(message(layout="centaur"))
    assert caught.value.cause == "unknown_layout"


anything = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(anything, anything, anything), min_size=18, max_size=18))
def test_any_numbers_give_finite_keypoints_and_only_persons_that_can_be_estimated(rows):
    x, y, confidence = zip(*rows, strict=True)
    result = read_person_keypoints(message(person(x, y, confidence)))
    assert np.isfinite(result.keypoints).all()
    chosen, sizes, left_out = select_people(result, 6, 10)
    assert usable(chosen.keypoints).all()
    np.testing.assert_array_equal(sizes, person_sizes(chosen.keypoints))
    assert len(chosen.ids) == len(chosen.keypoints) == 1 - sum(left_out.values())


def seen(count):
    keypoints = standing()
    keypoints[count:] = 0.0
    return keypoints


def test_persons_with_fewer_keypoints_than_asked_for_are_left_out():
    people = frame(seen(18), seen(5), seen(6), seen(9), seen(10))
    chosen, _, left_out = select_people(people, 6, 10)
    assert chosen.ids == ("id0", "id2", "id3", "id4")
    assert left_out == {"too_few_keypoints": 1}
    chosen, _, left_out = select_people(people, 10, 10)
    assert chosen.ids == ("id0", "id4")
    assert left_out == {"too_few_keypoints": 3}
    spot = seen(18)
    spot[:, :2] = [0.4, 0.7]
    assert select_people(frame(spot, seen(5)), 6, 10)[2] == {
        "too_few_keypoints": 1,
        "all_on_one_spot": 1,
    }
    np.testing.assert_array_equal(chosen.keypoints[1], seen(10))


@given(
    heights=st.lists(st.integers(20, 400), min_size=0, max_size=12, unique=True),
    most=st.integers(1, 12),
)
def test_the_largest_are_taken_in_the_messages_order(heights, most):
    people = frame(*(standing(height=height) for height in heights))
    chosen, sizes, left_out = select_people(people, 6, most)
    largest = sorted(heights, reverse=True)[:most]
    expected = [f"id{n}" for n, height in enumerate(heights) if height in largest]
    assert list(chosen.ids) == expected
    np.testing.assert_array_equal(sizes, person_sizes(chosen.keypoints))
    assert left_out.get("over_max_people", 0) == max(0, len(heights) - most)


@pytest.mark.parametrize(
    ("stamp", "frame_id", "now", "expected"),
    [
        (10, "camera", 10, []),
        (10 + FUTURE_TOLERANCE_NS, "camera", 10, []),
        (11 + FUTURE_TOLERANCE_NS, "camera", 10, ["future_stamp"]),
        (5_000_000_000, "camera", 0, []),  # simulated time has not begun
        (0, "camera", 10, ["zero_stamp"]),
        (0, "", 0, ["empty_frame_id", "zero_stamp"]),
        (3_700_000_001, "", 10, ["empty_frame_id", "future_stamp"]),
    ],
)
def test_odd_headers_are_named(stamp, frame_id, now, expected):
    given = message()
    given.header = header(stamp, frame_id)
    result = read_person_keypoints(given)
    assert header_warnings(result, now) == expected
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    assert header_of(result) == Header(
        stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id
    )
