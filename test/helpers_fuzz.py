# SPDX-License-Identifier: Apache-2.0
"""Arbitrary messages of every input type, by hypothesis.

Drawing every number of a skeleton by itself would be slow and find less: hypothesis draws what a
message is made of (texts, lengths, ids, formats, and the few numbers that its keypoints are taken
from), a generator that it seeds lays them out, and `variants` spoils the bytes of what comes out.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from helpers_ros import standing
from hypothesis import strategies as st
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from key2mesh_core.keypoints.layouts import LAYOUTS
from key2mesh_ros.msg import PersonKeypoints, PersonKeypointsArray

NASTY = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 100.0, 640.0, 1e4, 1e5, 1e7, -1e7, 1e-30, 1e-45, 3.4e38, -3.4e38),
    *(float("nan"), float("inf"), float("-inf")),
)
"""Numbers that programs trip over."""

_int32 = st.integers(-(2**31), 2**31 - 1)
_uint32 = st.one_of(
    st.sampled_from([0, 1, 640, 480, 1280, 2**16, 2**32 - 1]), st.integers(0, 2**32 - 1)
)
_text = st.one_of(st.sampled_from(["", "a", "0", "camera"]), st.text(max_size=12))
_numbers = st.lists(
    st.one_of(st.sampled_from(NASTY), st.floats(width=32), st.floats(0, 1280, width=32)),
    min_size=1,
    max_size=6,
)
_seed = st.integers(0, 2**32 - 1)

headers = st.builds(
    lambda seconds, nanoseconds, frame: (
        Header(frame_id=_sendable(frame))
        if seconds is None
        else stamped(seconds, nanoseconds, _sendable(frame))
    ),
    st.one_of(st.none(), _int32, st.integers(0, 200)),
    st.one_of(st.integers(0, 999_999_999), _uint32),
    _text,
)


def stamped(seconds: int, nanoseconds: int, frame: str) -> Header:
    result = Header(frame_id=frame)
    result.stamp.sec, result.stamp.nanosec = seconds, nanoseconds
    return result


def _sendable(text: str) -> str:
    """A string that a message can hold: no zeros, nothing that UTF-8 lacks."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _places(count: int, pool: list[float], seed: int) -> NDArray[np.float32]:
    """(count, 3) x, y, confidence: somebody, in whom some or all numbers are of the pool."""
    random = np.random.default_rng(seed)
    body = standing(*random.uniform(0, 640, 2), random.uniform(5, 600))
    result = np.resize(body, (count, 3)).astype(np.float32)
    with np.errstate(over="ignore"):
        values = random.choice(np.array(pool, np.float32), (count, 3))
    spoilt = random.random((count, 3)) < random.choice([0.0, 0.05, 0.5, 1.0])
    return np.where(spoilt, values, result)


# Ours.

_known = st.sampled_from([*LAYOUTS])
_layouts = st.one_of(_known, _known, _known, _known, _text)
_sizes = st.one_of(st.sampled_from([480, 640]), st.sampled_from([480, 640]), _uint32)


@st.composite
def ours(draw: Callable[..., Any]) -> PersonKeypointsArray:
    """Most of a known layout and its number of keypoints; the rest is anything."""
    layout = draw(_layouts)
    right = len(LAYOUTS[layout]) if layout in LAYOUTS else 18
    message = PersonKeypointsArray(
        header=draw(headers),
        layout=_sendable(layout),
        image_width=draw(_sizes),
        image_height=draw(_sizes),
    )
    pool = draw(_numbers)
    random = np.random.default_rng(draw(_seed))
    odd = draw(st.sampled_from([False, False, True]))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 2, 3, 4, 8, 40]))):
        count = int(random.integers(0, 140)) if odd and random.random() < 0.5 else right
        x, y, confidence = _places(count, pool, int(random.integers(2**32))).T
        if odd and random.random() < 0.3:
            x = x[: int(random.integers(0, count + 1))]
        message.people.append(
            PersonKeypoints(
                id=random.choice(["", "a", "b", str(random.integers(1000))]),
                x=array("f", x.tolist()),
                y=array("f", y.tolist()),
                confidence=array("f", confidence.tolist()),
            )
        )
    return message


# The camera, which the node hears beside any detector.


@st.composite
def cameras(draw: Callable[..., Any]) -> CameraInfo:
    random = np.random.default_rng(draw(_seed))
    pool = np.array(draw(_numbers), np.float64)
    width, height = draw(_uint32), draw(_uint32)
    info = CameraInfo(header=draw(headers), width=width, height=height)
    info.distortion_model = draw(
        st.sampled_from(["", "plumb_bob", "rational_polynomial", "equidistant", "fisheye?"])
    )
    good = np.array([600.0, 0, 320, 0, 600, 240, 0, 0, 1])
    share = draw(st.sampled_from([0.0, 0.1, 1.0]))
    info.k = np.where(random.random(9) < share, random.choice(pool, 9), good)
    info.p = np.where(
        random.random(12) < share, random.choice(pool, 12), np.insert(good, [3, 6, 9], 0)
    )
    info.d = array("d", random.choice(pool, draw(st.integers(0, 14))).tolist())
    return info


# Other detectors: classes of packages that are imported when they are needed.


@st.composite
def yolo(draw: Callable[..., Any]) -> Any:
    """A yolo_msgs/DetectionArray: ids outside 1 to 17, several of one id, none."""
    from yolo_msgs.msg import Detection, DetectionArray, KeyPoint2D

    message = DetectionArray(header=draw(headers))
    pool, random = draw(_numbers), np.random.default_rng(draw(_seed))
    odd = draw(st.booleans())
    for _ in range(draw(st.sampled_from([0, 1, 2, 5]))):
        detection = Detection(
            class_name=random.choice(["person", "dog", ""]), id=random.choice(["", "1", "x"])
        )
        points = _places(17, pool, int(random.integers(2**32)))
        for place, (x, y, score) in enumerate(points.astype(float).tolist()):
            point = KeyPoint2D(id=place + 1, score=score)
            if odd and random.random() < 0.1:
                point.id = int(random.integers(-(2**31), 2**31))
            point.point.x, point.point.y = x, y
            if random.random() < 0.9:
                detection.keypoints.data.append(point)
        if random.random() < 0.3:
            detection.mask.width = int(random.integers(-(2**31), 2**31))
            detection.mask.height = int(random.integers(-5, 1000))
        message.detections.append(detection)
    return message


@st.composite
def zed(draw: Callable[..., Any]) -> Any:
    """A zed_msgs/ObjectsStamped of any body format, with objects that are no bodies."""
    from zed_msgs.msg import Object, ObjectsStamped

    message = ObjectsStamped(header=draw(headers))
    pool, random = draw(_numbers), np.random.default_rng(draw(_seed))
    body_format = draw(st.sampled_from([0, 1, 2, 3, -128, 127]))
    for _ in range(draw(st.sampled_from([0, 1, 2]))):
        each = Object(
            label_id=int(random.integers(-2, 40)),
            body_format=int(random.choice([body_format, body_format, 1])),
            skeleton_available=bool(random.random() < 0.9),
            tracking_available=bool(random.random() < 0.5),
            confidence=float(np.float32(random.choice(pool))),
        )
        points = _places(70, pool, int(random.integers(2**32)))[:, :2]
        for keypoint, place in zip(each.skeleton_2d.keypoints, points, strict=True):
            keypoint.kp = place
        message.objects.append(each)
    return message


@st.composite
def skeletons(draw: Callable[..., Any]) -> Any:
    """A hri_msgs/Skeleton2D."""
    from hri_msgs.msg import NormalizedPointOfInterest2D, Skeleton2D

    message = Skeleton2D(header=draw(headers))
    points = _places(18, draw(_numbers), draw(_seed))
    points[:, :2] /= np.float32(draw(st.sampled_from([640.0, 640.0, 1.0])))
    message.skeleton = [
        NormalizedPointOfInterest2D(x=x, y=y, c=c) for x, y, c in points.astype(float).tolist()
    ]
    return message


@st.composite
def bodies(draw: Callable[..., Any]) -> Any:
    """A hri_msgs/IdsList: bodies, and names that are none."""
    from hri_msgs.msg import IdsList

    good, odd = st.sampled_from(["a", "b", "c"]), st.sampled_from(["0", "1a", "é", "x" * 300])
    names = st.one_of(good, good, odd, _text)
    ids = [_sendable(each) for each in draw(st.lists(names, max_size=4))]
    return IdsList(header=draw(headers), ids=ids)


def variants(message: Any, count: int, seed: int) -> list[bytes]:
    """The message's bytes as they are, and `count` - 1 times with something spoilt: a number in
    place of others, a bit turned over, the end missing."""
    data = serialize_message(message)
    random = np.random.default_rng(seed)
    result = [data]
    for how in random.choice(["numbers", "numbers", "bits", "cut"], count - 1):
        spoilt = bytearray(data)
        if how == "cut":
            del spoilt[int(random.integers(1, len(data))) :]
        elif how == "bits":
            for at in random.integers(4, len(data), int(random.integers(1, 4))).tolist():
                spoilt[at] ^= 1 << int(random.integers(8))
        else:
            words = len(data) // 4
            for at in random.integers(1, words, int(random.integers(1, 6))).tolist():
                spoilt[4 * at : 4 * at + 4] = struct.pack("<f", random.choice(NASTY))
        result.append(bytes(spoilt))
    return result
