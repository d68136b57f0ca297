# SPDX-License-Identifier: Apache-2.0
"""Keypoint messages from their bytes: what rclpy finds in them, and no more trust than it has."""

from array import array
from struct import pack

import numpy as np
import pytest
from helpers_ros import people, standing
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message

from key2mesh_core.people.messages import MessageRefused
from key2mesh_ros.msg import PersonKeypoints, PersonKeypointsArray
from key2mesh_ros.outputs import message_header
from key2mesh_ros.serialised import Message, read_person_keypoints_array

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
numbers = st.lists(st.floats(width=32), max_size=5).map(lambda values: array("f", values))
persons = st.builds(PersonKeypoints, id=texts, x=numbers, y=numbers, confidence=numbers)
messages = st.builds(
    PersonKeypointsArray,
    layout=texts,
    image_width=st.integers(0, 2**32 - 1),
    image_height=st.integers(0, 2**32 - 1),
    people=st.lists(persons, max_size=4),
)


def same(found, expected):
    assert message_header(found.header) == expected.header
    for name in ("layout", "image_width", "image_height"):
        assert getattr(found, name) == getattr(expected, name)
    assert [each.id for each in found.people] == [each.id for each in expected.people]
    for one, other in zip(found.people, expected.people, strict=True):
        for name in ("x", "y", "confidence"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(deadline=None)
@given(messages, texts, st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
def test_it_is_the_message_that_was_sent(message, frame_id, seconds, nanoseconds):
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
    found = read_person_keypoints_array(serialize_message(message))
    assert isinstance(found, Message)
    same(found, message)


def test_a_message_that_is_cut_off_anywhere_is_refused():
    whole = serialize_message(people(standing(), standing(200.0)))
    assert len(read_person_keypoints_array(whole).people) == 2
    for end in range(2, len(whole)):
        with pytest.raises(MessageRefused, match=f"{end} bytes") as refused:
            read_person_keypoints_array(whole[:end])
        assert refused.value.cause == "malformed"


@settings(deadline=None)
@given(st.integers(2, 300), st.binary(min_size=1, max_size=8))
def test_damaged_bytes_end_in_a_message_or_an_error(at, damage):
    whole = bytearray(serialize_message(people(standing())))
    whole[at : at + len(damage)] = damage
    try:
        found = read_person_keypoints_array(bytes(whole))
    except MessageRefused:
        return
    if isinstance(found, Message):
        assert sum(each.x.nbytes for each in found.people) < len(whole)


def test_another_encoding_is_left_to_rclpy():
    message = people(standing())
    found = read_person_keypoints_array(big_endian(message))
    assert not isinstance(found, Message)
    same(found, message)


def big_endian(message):
    """The same message as a processor of the other byte order would send it."""
    out = bytearray(b"\x00\x00\x00\x00")

    def text(value):
        nonlocal out
        out += pack(">I", len(value) + 1) + value.encode() + b"\0"
        out += bytes(-len(out) % 4)

    out += pack(">iI", message.header.stamp.sec, message.header.stamp.nanosec)
    text(message.header.frame_id)
    text(message.layout)
    out += pack(">3I", message.image_width, message.image_height, len(message.people))
    for each in message.people:
        text(each.id)
        for values in (each.x, each.y, each.confidence):
            out += pack(">I", len(values)) + pack(f">{len(values)}f", *values)
    return bytes(out)


def test_what_is_read_is_not_written_to():
    found = read_person_keypoints_array(serialize_message(people(standing())))
    with pytest.raises(ValueError, match="read-only"):
        found.people[0].x[0] = 0.0
