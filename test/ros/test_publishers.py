# SPDX-License-Identifier: Apache-2.0
"""Bodies to messages: the numbers survive serialisation."""

import numpy as np
import pytest
from helpers_bundle import make_bundle
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from key2mesh_core import Camera, Intrinsics
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame
from key2mesh_ros.msg import BodyMeshArray, BodyTopology
from key2mesh_ros.publishers import body_mesh_array, body_topology


def some_bodies(count, vertices=7):
    random = np.random.default_rng(3)
    poses = random.normal(size=(count, 24, 3))
    return Bodies(
        betas=random.normal(size=(count, 10)).astype(np.float32),
        rotations=axis_angle_to_matrix(poses).astype(np.float32),
        translation=random.normal(size=(count, 3)).astype(np.float32),
        poses=poses.reshape(count, 72).astype(np.float32),
        joints=random.normal(size=(count, 24, 3)).astype(np.float32),
        reprojection_error=random.uniform(0, 9, count).astype(np.float32),
        quality=random.uniform(0, 1, count).astype(np.float32),
        vertices=random.normal(size=(count, vertices, 3)).astype(np.float32),
        position_covariance=random.normal(size=(count, 3, 3)).astype(np.float32),
    )


def header():
    result = Header(frame_id="camera")
    result.stamp.sec, result.stamp.nanosec = 12, 34
    return result


def frame(ids, left_out=0, metric=True):
    camera = Camera(Intrinsics(500.0, 500.0, 320.0, 240.0), metric=metric)
    keypoints = np.zeros((len(ids), 18, 3), np.float32)
    return PersonFrame(tuple(ids), keypoints, NETWORK_LAYOUT, camera=camera, left_out=left_out)


def sent(*arguments, **options):
    """`body_mesh_array` as a subscriber gets it."""
    message = body_mesh_array(*arguments, **options)
    return deserialize_message(serialize_message(message), BodyMeshArray)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_bodies_survive_the_way_over_the_wire(count):
    bodies, ids = some_bodies(count), [f"id{number}" for number in range(count)]
    message = sent(header(), frame(ids, left_out=2), bodies, "body@0")
    assert message.header == header()
    assert (message.people_seen, message.people_without_body) == (count + 2, 2)
    assert message.metric
    assert message.body_model == "body@0"
    assert [body.id for body in message.bodies] == ids
    for n, body in enumerate(message.bodies):
        np.testing.assert_array_equal(body.betas, bodies.betas[n])
        np.testing.assert_array_equal(body.joints.reshape(24, 3), bodies.joints[n])
        np.testing.assert_array_equal(np.reshape(body.vertices, (-1, 3)), bodies.vertices[n])
        matrices = axis_angle_to_matrix(body.pose.reshape(24, 3).astype(np.float64))
        np.testing.assert_allclose(matrices, bodies.rotations[n], atol=2e-6)
        place = (body.position.x, body.position.y, body.position.z)
        assert place == tuple(bodies.translation[n].tolist())
        covariance = body.position_covariance.reshape(3, 3)
        np.testing.assert_array_equal(covariance, bodies.position_covariance[n])
        assert body.quality == bodies.quality[n]
        assert body.reprojection_error == bodies.reprojection_error[n]


def test_vertices_are_sent_only_when_wanted_and_there():
    bodies = some_bodies(2)
    nowhere = Bodies(**{**vars(bodies), "vertices": None})
    for message in (
        sent(header(), frame("ab"), bodies, "", vertices=False),
        sent(header(), frame("ab"), nowhere, "", vertices=True),
    ):
        assert [len(body.vertices) for body in message.bodies] == [0, 0]
        np.testing.assert_array_equal(message.bodies[1].joints, bodies.joints[1].ravel())


def test_quality_is_cut_to_what_the_camera_allows():
    bodies = some_bodies(20)
    message = sent(header(), frame("a" * 20, metric=False), bodies, "")
    assert not message.metric
    qualities = [body.quality for body in message.bodies]
    np.testing.assert_array_equal(qualities, np.minimum(bodies.quality, 0.5))
    assert max(qualities) == 0.5


def test_arrays_of_other_strides_arrive_in_order():
    bodies = some_bodies(1)
    turned = np.asfortranarray(bodies.vertices)
    assert not turned[0].flags["C_CONTIGUOUS"]
    message = sent(header(), frame("a"), Bodies(**{**vars(bodies), "vertices": turned}), "")
    np.testing.assert_array_equal(message.bodies[0].vertices, bodies.vertices.ravel())


def test_the_topology_survives_the_way_over_the_wire(tmp_path):
    bundle = make_bundle(tmp_path)
    message = deserialize_message(serialize_message(body_topology(bundle)), BodyTopology)
    assert message.body_model == bundle.body_model
    np.testing.assert_array_equal(np.reshape(message.triangles, (-1, 3)), bundle.triangles)
    assert list(message.parents) == bundle.parents.tolist()
    assert message.parents[0] == -1
    assert tuple(message.joint_names) == bundle.joint_names
