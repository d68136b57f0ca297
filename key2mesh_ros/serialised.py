# SPDX-License-Identifier: Apache-2.0
"""Reads our keypoint message from the bytes that the middleware carries.

rclpy sets the fields of a message one by one. Reading the bytes directly takes 0.15 ms less for one
person at 30 Hz, and 0.2 to 0.3 ms less for ten.
"""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message

from key2mesh_core.people.messages import MessageRefused

from .msg import PersonKeypointsArray

_PLAIN_LITTLE_ENDIAN = b"\x00\x01"  # the first bytes of CDR as every ROS middleware writes it


class Stamp(NamedTuple):
    """A builtin_interfaces/Time."""

    sec: int
    nanosec: int


class Header(NamedTuple):
    """A std_msgs/Header."""

    stamp: Stamp
    frame_id: str


class Person(NamedTuple):
    """A key2mesh_ros/PersonKeypoints; the arrays are (K,) float32 and read-only."""

    id: str
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    confidence: NDArray[np.float32]


class Message(NamedTuple):
    """A key2mesh_ros/PersonKeypointsArray."""

    header: Header
    layout: str
    image_width: int
    image_height: int
    people: list[Person]


def read_person_keypoints_array(data: bytes) -> Any:
    """The message in the bytes: a `Message`, or rclpy's own for another encoding than CDR's plain
    little-endian one.

    Raises:
        MessageRefused: `malformed`, bytes that are not such a message.
    """
    if data[:2] != _PLAIN_LITTLE_ENDIAN:
        return deserialize_message(data, PersonKeypointsArray)
    try:
        return _read(data)
    except (StructError, ValueError) as error:
        raise MessageRefused(
            "malformed",
            f"{len(data)} bytes are not a whole PersonKeypointsArray ({error}): build the "
            "detector and the node with the same version of key2mesh_ros",
        ) from error


def _read(data: bytes) -> Message:
    # Everything but the characters of strings has 4 bytes and lies at a multiple of 4.
    seconds, nanoseconds = unpack_from("<iI", data, 4)
    frame, at = _text(data, 12)
    layout, at = _text(data, at)
    width, height, count = unpack_from("<3I", data, at)
    at += 12
    people = []
    for _ in range(count):
        name, at = _text(data, at)
        x, at = _numbers(data, at)
        y, at = _numbers(data, at)
        confidence, at = _numbers(data, at)
        people.append(Person(name, x, y, confidence))
    header = Header(Stamp(seconds, nanoseconds), frame)
    return Message(header, layout, width, height, people)


def _text(data: bytes, at: int) -> tuple[str, int]:
    """The string at an offset, and the offset behind it: length, characters and a zero."""
    (length,) = unpack_from("<I", data, at)
    begin, end = at + 4, at + 4 + length
    if end > len(data):
        raise ValueError("a string goes beyond the message")
    return data[begin : max(begin, end - 1)].decode(errors="replace"), (end + 3) & ~3


def _numbers(data: bytes, at: int) -> tuple[NDArray[np.float32], int]:
    """The float32[] at an offset, and the offset behind it: length, then numbers."""
    (length,) = unpack_from("<I", data, at)
    return np.frombuffer(data, "<f4", length, at + 4), at + 4 + 4 * length
