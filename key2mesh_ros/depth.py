# SPDX-License-Identifier: Apache-2.0
"""Keeps the last few depth images or point clouds and finds the one that belongs to a frame."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2, PointField

from key2mesh_core.camera.depth import Lookup, cloud_lookup, image_lookup
from key2mesh_core.camera.lens import distort_pixels
from key2mesh_core.people.messages import MessageRefused
from key2mesh_core.people.person_frame import PersonFrame, stamp_ns_of

KEPT = 8
"""Number of depth messages kept: enough for a detector that takes a quarter of a second."""

CLOUD_RADIUS_PX = 6.0
"""A point counts for a pixel within this distance, in an image 640 px wide."""

CLOUD_POINTS = 30_000
"""From a denser cloud, only every n-th point is used."""

_QUALITY = QoSProfile(depth=KEPT, reliability=ReliabilityPolicy.BEST_EFFORT)
_METRES = {"16UC1": (np.uint16, 1e-3), "mono16": (np.uint16, 1e-3), "32FC1": (np.float32, 1.0)}


class DepthSource:
    """The configured node's subscription to `~/depth` ("image") or `~/points` ("cloud"), which
    `resources` destroys."""

    def __init__(self, node: Any, resources: Any, kind: str) -> None:
        self._kept: deque[Any] = deque(maxlen=KEPT)
        message_type, topic = (Image, "~/depth") if kind == "image" else (PointCloud2, "~/points")
        subscription = node.create_subscription(message_type, topic, self._keep, _QUALITY)
        resources.callback(node.destroy_subscription, subscription)
        self._lookup_of = _image if kind == "image" else _cloud
        self.topic = subscription.topic_name

    def _keep(self, message: Any) -> None:
        self._kept.append(message)

    def lookup(self, frame: PersonFrame, most_age: float) -> Lookup:
        """Measured depths at the pixels of a frame.

        Raises:
            MessageRefused: `no_depth`, no message within `most_age` s of the frame's stamp;
                `depth_frame`, a message with another frame_id; `depth_encoding`.
        """
        stamp = frame.stamp_ns

        def age(message: Any) -> int:
            return abs(stamp_ns_of(message.header) - stamp)

        message = min(self._kept, key=age, default=None)
        if message is None or age(message) > most_age * 1e9:
            raise MessageRefused("no_depth", f"no message on {self.topic} within {most_age} s")
        if message.header.frame_id != frame.frame_id:
            raise MessageRefused(
                "depth_frame",
                f"{self.topic} is of '{message.header.frame_id}', not of '{frame.frame_id}'",
            )
        return self._lookup_of(message, frame)


def _image(message: Image, frame: PersonFrame) -> Lookup:
    depth = image_metres(message)
    size = np.array([frame.width or message.width, frame.height or message.height])
    scale = np.array([message.width, message.height]) / size

    def to_pixels(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        seen = distort_pixels(pixels, frame.camera.intrinsics, frame.camera.lens)
        return (seen + 0.5) * scale - 0.5

    return image_lookup(depth, to_pixels)


def _cloud(message: PointCloud2, frame: PersonFrame) -> Lookup:
    points = cloud_points(message)
    points = points[:: max(1, len(points) // CLOUD_POINTS)]
    radius = CLOUD_RADIUS_PX * max(1.0, (frame.width or 640) / 640)
    return cloud_lookup(points, frame.camera.intrinsics, radius)


def image_metres(message: Image) -> NDArray[np.floating]:
    """(H, W) float32 [m] from a depth sensor_msgs/Image; raises MessageRefused `depth_encoding`."""
    if message.encoding not in _METRES:
        raise MessageRefused(
            "depth_encoding",
            f"depth image has encoding '{message.encoding}'; known: {', '.join(_METRES)}",
        )
    kind, unit = _METRES[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    rows, step = message.height, message.step
    if step < message.width * dtype.itemsize or len(message.data) < rows * step:
        raise MessageRefused(
            "depth_encoding",
            f"{len(message.data)} bytes, {step} a row, for {message.width} x {message.height} px",
        )
    raw = np.frombuffer(message.data, np.uint8, rows * step).reshape(rows, step)
    pixels = raw[:, : message.width * dtype.itemsize]
    values = np.ascontiguousarray(pixels).view(dtype)
    return values.astype(np.float32) * np.float32(unit)


def cloud_points(message: PointCloud2) -> NDArray[np.float32]:
    """(P, 3) [m] from a sensor_msgs/PointCloud2; raises MessageRefused `depth_encoding`."""
    known = {each.name: each for each in message.fields if each.datatype == PointField.FLOAT32}
    if not set("xyz") <= set(known):
        names = sorted(each.name for each in message.fields)
        raise MessageRefused(
            "depth_encoding", f"point cloud has fields {names}; x, y, z must be 32-bit floats"
        )
    order = ">" if message.is_bigendian else "<"
    try:
        offsets = [known[name].offset for name in "xyz"]
        layout = {"names": [*"xyz"], "formats": [f"{order}f4"] * 3, "offsets": offsets}
        dtype = np.dtype({**layout, "itemsize": message.point_step})
        points = np.frombuffer(message.data, dtype, message.width * message.height)
    except ValueError as error:
        raise MessageRefused("depth_encoding", f"inconsistent point cloud: {error}") from error
    return np.stack([points[name] for name in "xyz"], axis=-1).astype(np.float32)
