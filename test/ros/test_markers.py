# SPDX-License-Identifier: Apache-2.0
"""Markers are written into serialised bytes: rclpy must read back the exact values."""

import time

import numpy as np
import pytest
from geometry_msgs.msg import Point
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from key2mesh_core.people.bodies import Bodies
from key2mesh_ros.markers import NAMESPACE, UNCERTAINTY, mesh_markers, no_markers

COLOR = (0.25, 0.5, 0.75, 1.0)


def read(message):
    return deserialize_message(message, MarkerArray).markers


def bodies_of(vertices, covariance=None):
    none = np.zeros((len(vertices), 0), np.float32)
    return Bodies(
        betas=none,
        rotations=none,
        translation=np.tile(np.float32([0, 0, 4]), (len(vertices), 1)),
        poses=none,
        joints=none,
        reprojection_error=none,
        quality=none,
        vertices=vertices,
        position_covariance=covariance,
    )


def mesh(count, triangles=5, seed=0):
    random = np.random.default_rng(seed)
    vertices = random.normal(size=(count, 9, 3)).astype(np.float32)
    return vertices, random.integers(0, 9, (triangles, 3)).astype(np.int32)


# The frame's length moves every field behind it, so that each alignment comes up.
@given(frame_id=st.text(max_size=20), count=st.integers(1, 4), triangles=st.integers(1, 6))
def test_every_corner_of_every_triangle_arrives(frame_id, count, triangles):
    vertices, faces = mesh(count, triangles)
    header = Header(frame_id=frame_id.replace("\x00", ""))
    header.stamp.sec = 5
    markers = read(mesh_markers(header, bodies_of(vertices), faces, COLOR))
    assert len(markers) == count
    for number, marker in enumerate(markers):
        assert marker.header == header
        assert (marker.type, marker.action, marker.id) == (
            Marker.TRIANGLE_LIST,
            Marker.ADD,
            number,
        )
        assert (marker.color.r, marker.color.g, marker.color.b, marker.color.a) == COLOR
        assert (marker.scale.x, marker.pose.orientation.w) == (1.0, 1.0)
        points = [(point.x, point.y, point.z) for point in marker.points]
        np.testing.assert_array_equal(points, vertices[number][faces.ravel()])
        assert len(marker.colors) == 0
        assert marker.lifetime.sec > 0  # gone by itself if the node dies


@pytest.mark.parametrize("previous", [0, 2, 3, 7])
def test_markers_of_persons_who_left_are_deleted(previous):
    vertices, faces = mesh(2)
    markers = read(mesh_markers(Header(), bodies_of(vertices), faces, COLOR, previous))
    assert [marker.action for marker in markers[:2]] == [Marker.ADD] * 2
    deleted = {(marker.ns, marker.id) for marker in markers if marker.action == Marker.DELETE}
    gone = range(2, previous)
    assert deleted == {(ns, number) for ns in (NAMESPACE, UNCERTAINTY) for number in gone}


def test_a_line_shows_where_else_a_body_may_stand():
    vertices, faces = mesh(2)
    covariance = np.tile(np.diag(np.float32([0.01, 0.01, 0.25])), (2, 1, 1))
    markers = read(mesh_markers(Header(), bodies_of(vertices, covariance), faces, COLOR))
    meshes = [marker for marker in markers if marker.ns == NAMESPACE]
    lines = [marker for marker in markers if marker.ns == UNCERTAINTY]
    assert [len(marker.points) for marker in meshes] == [15, 15]
    assert [line.type for line in lines] == [Marker.LINE_STRIP] * 2
    for line in lines:
        ends = sorted((point.x, point.y, point.z) for point in line.points)
        depths = sorted(z for _, _, z in ends)
        np.testing.assert_allclose(depths, [3.5, 4.5], atol=1e-6)


def test_nobody_deletes_all():
    vertices, faces = mesh(0)
    for message in (
        mesh_markers(Header(), bodies_of(vertices), faces, COLOR, 3),
        no_markers(Header()),
    ):
        assert [marker.action for marker in read(message)] == [Marker.DELETEALL]


def test_a_full_mesh_is_far_cheaper_than_its_points_one_by_one():
    random = np.random.default_rng(0)
    vertices = random.normal(size=(1, 6890, 3)).astype(np.float32)
    faces = random.integers(0, 6890, (13776, 3)).astype(np.int32)

    def one_by_one():
        corners = vertices[0][faces.ravel()].tolist()
        points = [Point(x=x, y=y, z=z) for x, y, z in corners]
        return serialize_message(MarkerArray(markers=[Marker(points=points)]))

    def seconds(work):
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        return min(times)

    assert 5 * seconds(lambda: mesh_markers(Header(), bodies_of(vertices), faces, COLOR)) < seconds(
        one_by_one
    )
