# SPDX-License-Identifier: Apache-2.0
"""Meshes as visualization_msgs/MarkerArray, for RViz.

A marker stores each triangle as three Points: 41,328 Python objects per body, which take 280 ms.
The message is therefore serialised with two placeholder points per marker, which are then replaced
in the bytes; this takes 2.3 ms.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from key2mesh_core.people.bodies import Bodies

NAMESPACE = "bodies"
UNCERTAINTY = "position_uncertainty"

LIFETIME = Duration(sec=1)
"""After this time, RViz removes the markers of a node that died or was disconnected."""

_PLACEHOLDER = Point(x=-7.1e-201, y=3.3e-187, z=-1.9e-211)  # not a plausible coordinate
_PLACEHOLDERS = 2
_PLACEHOLDER_BYTES = struct.pack("<3d", _PLACEHOLDER.x, _PLACEHOLDER.y, _PLACEHOLDER.z)


def mesh_markers(
    header: Header,
    bodies: Bodies,
    triangles: NDArray[np.int32],
    color: Sequence[float],
    previous: int = 0,
) -> bytes:
    """A serialised MarkerArray, for `Publisher.publish`.

    Each body is a TRIANGLE_LIST and, if the covariance of its position is known, a line through the
    pelvis that extends one standard deviation to either side in the least certain direction.

    Args:
        bodies: N bodies with vertices, in the header's frame.
        triangles: (F, 3).
        color: red, green, blue, opacity, each within 0..1.
        previous: number of bodies in the last message; markers beyond N are deleted.
    """
    vertices = bodies.vertices
    if len(vertices) == 0:
        return no_markers(header)
    red, green, blue, alpha = (float(value) for value in color)
    message = MarkerArray()
    for number in range(len(vertices)):
        marker = Marker(header=header, ns=NAMESPACE, id=number, type=Marker.TRIANGLE_LIST)
        marker.color = ColorRGBA(r=red, g=green, b=blue, a=alpha)
        marker.scale.x = marker.scale.y = marker.scale.z = 1.0
        marker.lifetime = LIFETIME
        marker.points = [_PLACEHOLDER] * _PLACEHOLDERS
        message.markers.append(marker)
    if bodies.position_covariance is not None:
        message.markers += _uncertainty_lines(header, bodies)
    for number in range(len(vertices), previous):
        for ns in (NAMESPACE, UNCERTAINTY):
            message.markers.append(Marker(header=header, ns=ns, id=number, action=Marker.DELETE))
    corners = triangles.reshape(-1)
    return _with_points(serialize_message(message), [points[corners] for points in vertices])


def _uncertainty_lines(header: Header, bodies: Bodies) -> list[Marker]:
    values, directions = np.linalg.eigh(bodies.position_covariance.astype(np.float64))
    reach = np.sqrt(np.maximum(values[:, -1:], 0)) * directions[..., -1]
    lines = []
    for number, (middle, half) in enumerate(zip(bodies.translation, reach, strict=True)):
        line = Marker(header=header, ns=UNCERTAINTY, id=number, type=Marker.LINE_STRIP)
        line.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=0.8)
        line.scale.x = 0.01
        line.lifetime = LIFETIME
        ends = (middle - half, middle + half)
        line.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in ends]
        lines.append(line)
    return lines


def no_markers(header: Header) -> bytes:
    """The serialised message that deletes every marker."""
    delete = Marker(header=header, ns=NAMESPACE, action=Marker.DELETEALL)
    return serialize_message(MarkerArray(markers=[delete]))


def _with_points(message: bytes, points: Sequence[NDArray[np.float32]]) -> bytes:
    """`message` (CDR, little endian) with each run of placeholders replaced by (P, 3) points.

    In CDR, a sequence of doubles is its length as uint32, padding to a multiple of 8, and the
    numbers. A point has 24 bytes, so what follows keeps its alignment.
    """
    run = _PLACEHOLDER_BYTES * _PLACEHOLDERS
    length = struct.pack("<I", _PLACEHOLDERS)
    parts, start = [], 0
    for each in points:
        first = message.index(run, start)
        # The length is right before the numbers, or before 4 bytes of padding.
        at = first - 4 if message[first - 4 : first] == length else first - 8
        parts += [message[start:at], struct.pack("<I", len(each)), message[at + 4 : first]]
        parts.append(np.ascontiguousarray(each, dtype="<f8").tobytes())
        start = first + len(run)
    return b"".join([*parts, message[start:]])
