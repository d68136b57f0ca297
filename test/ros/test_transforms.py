# SPDX-License-Identifier: Apache-2.0
"""Bodies' frames in TF: REP-155's axes, and only where tf2_msgs is."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_ros import client, node_here, people, standing
from helpers_scenes import scaled
from helpers_scenes import standing as body_standing
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from key2mesh_ros import transforms
from key2mesh_ros.transforms import body_transforms

HEADER = Header(frame_id="camera")


def axes(transform):
    """Columns: the frame's x, y and z in the camera's frame."""
    q = transform.transform.rotation
    return Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()


def test_who_faces_the_camera_looks_at_it_with_the_head_up():
    body = body_standing(0.0, (0.3, 0.1, 3.0))
    (found,) = body_transforms(HEADER, ("7",), body, "body_")
    assert (found.header.frame_id, found.child_frame_id) == ("camera", "body_7")
    # x forward is towards the camera, y to the person's left is the image's right, z is up.
    np.testing.assert_allclose(
        axes(found), np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]]).T, atol=1e-6
    )
    place = found.transform.translation
    hips = body.joints[0, [1, 2]].mean(axis=0)
    np.testing.assert_allclose([place.x, place.y, place.z], hips, rtol=1e-6)


def test_any_rotation_is_a_unit_quaternion_of_it():
    turns = Rotation.random(500, random_state=1).as_matrix()
    # Half turns and none, where a formula by the trace alone divides by nothing.
    turns[:4] = [np.eye(3), *(np.diag(d) for d in ([1, -1, -1], [-1, 1, -1], [-1, -1, 1]))]
    body = body_standing(0.0, (0.0, 0.0, 3.0))
    many = scaled(body, 1.0).select(np.zeros(500, int))
    rotations = many.rotations.copy()
    rotations[:, 0] = turns
    found = body_transforms(HEADER, [""] * 500, replace(many, rotations=rotations), "body_")
    smpl_axes = turns[:, :, [2, 0, 1]]  # SMPL: z forward, x left, y up
    np.testing.assert_allclose([axes(each) for each in found], smpl_axes, atol=1e-6)
    norms = [q.x**2 + q.y**2 + q.z**2 + q.w**2 for q in (each.transform.rotation for each in found)]
    np.testing.assert_allclose(norms, 1.0, atol=1e-12)
    assert [each.child_frame_id for each in found[:2]] == ["body_0", "body_1"]


def test_a_name_that_is_no_frames_name_is_made_one():
    body = body_standing(0.0, (0.0, 0.0, 3.0))
    (found,) = body_transforms(HEADER, ("Anna K./2",), body, "b_")
    assert found.child_frame_id == "b_Anna_K__2"


def published(node):
    """Topics that a node publishes: the graph may still hold those of a killed process."""
    return {each.topic_name for each in node.publishers}


@pytest.fixture
def tf_installed(interfaces, monkeypatch):
    from tf2_msgs.msg import TFMessage

    from key2mesh_ros import mesh_node

    monkeypatch.setattr(transforms, "TFMessage", TFMessage)
    monkeypatch.setattr(mesh_node, "TFMessage", TFMessage)
    return TFMessage


@pytest.mark.parametrize(
    ("namespace", "prefix", "expected"),
    [
        ("/", "body_", "body_"),
        ("/left", "body_", "left/body_"),
        ("/robot/left", "person_", "robot/left/person_"),
        ("/left", "/body_", "body_"),
    ],
)
def test_frames_of_two_namespaces_have_two_names(namespace, prefix, expected):
    assert transforms.frame_prefix(namespace, prefix) == expected


@pytest.mark.parametrize("prefix", ["body_", "person_", ""])
def test_the_node_publishes_frames_of_everybody_at_the_stamps_of_the_meshes(
    bundle, tf_installed, prefix
):
    with node_here(model=str(bundle), tf_prefix=prefix) as node, client() as probe:
        for step in ("configure", "activate"):
            assert probe.change_state(step)
        probe.wait_for_node()
        received = []
        probe.create_subscription(tf_installed, "/tf", received.append, 10)
        if not prefix:
            probe.exchange(people(standing()))
            assert "/tf" not in published(node)
            return
        assert "/tf" in published(node)
        message = people(standing(200.0), standing(450.0))

        def sent():
            probe.exchange_again(message)
            return received

        probe.wait(sent, "frames")
        found = received[0].transforms
        assert [each.child_frame_id for each in found] == [f"{prefix}0", f"{prefix}1"]
        assert all(each.header == message.header for each in found)
        meshes = probe.meshes[-1]
        for each, body in zip(found, meshes.bodies, strict=True):
            hips = np.array(body.joints).reshape(24, 3)[[1, 2]].mean(axis=0)
            place = each.transform.translation
            np.testing.assert_allclose([place.x, place.y, place.z], hips, rtol=1e-5)
        # Nobody is no message.
        nobody = people()
        probe.exchange(nobody)
        probe.spin(0.1)
        stamps = [each.header.stamp for m in received for each in m.transforms]
        assert nobody.header.stamp not in stamps
        assert all(message.transforms for message in received)


def test_without_tf2_msgs_there_is_no_tf(bundle, monkeypatch):
    from key2mesh_ros import mesh_node

    monkeypatch.setattr(mesh_node, "TFMessage", None)
    with node_here(model=str(bundle)) as node, client() as probe:
        for step in ("configure", "activate"):
            assert probe.change_state(step)
        probe.wait_for_node()
        probe.exchange(people(standing()))
        assert "/tf" not in published(node)
