# SPDX-License-Identifier: Apache-2.0
"""The node: transitions, topics, parameters, overload, failing engines."""

import shutil
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers_bundle import FakeEngine, damage, estimator_on, rewrite_manifest, standing_person
from helpers_ros import QUICK, camera_info, client, node_here, people, standing

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.engines.onnx import OnnxEngine
from key2mesh_core.model.estimator import Estimator
from key2mesh_ros import mesh_node, publishers
from key2mesh_ros.msg import BodyMeshArray


def topics(node):
    """Every topic that the node publishes or subscribes, once for each time."""
    return sorted(each.topic_name for each in (*node.publishers, *node.subscriptions))


@pytest.mark.parametrize("file", ["pose.onnx", "mesh.onnx", "topology.npz", "model.json"])
def test_a_truncated_bundle_fails_configure_by_name_and_a_good_one_mends_it(tmp_path, bundle, file):
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    damage(broken / file, "truncate")
    with node_here(model=str(broken), **QUICK) as node, client() as probe:
        before = topics(node)
        assert not probe.change_state("configure")
        assert probe.state() == "unconfigured"
        status = probe.fresh_status()
        assert status.level == DiagnosticStatus.ERROR
        assert str(broken / file) in status.message
        assert "again" in status.message  # what to do
        assert topics(node) == before
        assert probe.set_parameters(model=str(bundle)) == [(True, "")]
        assert probe.change_state("configure")
        assert probe.change_state("activate")
        assert probe.fresh_status().level != DiagnosticStatus.ERROR


def test_a_bundle_of_another_version_fails_configure_by_name(tmp_path, bundle):
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    rewrite_manifest(other, lambda manifest: manifest.update(format=99))
    with node_here(model=str(other), **QUICK), client() as probe:
        assert not probe.change_state("configure")
        message = probe.fresh_status().message
        assert str(other / "model.json") in message
        assert "99" in message


def test_configure_undoes_what_it_had_made_when_a_later_step_fails(bundle, monkeypatch):
    """Fails the 1st, 2nd, 3rd... thing that configuring makes."""
    with node_here(model=str(bundle), **QUICK) as node, client() as probe:
        before = topics(node)
        publish, subscribe = node.create_publisher, node.create_subscription
        latched = node.create_lifecycle_publisher
        for failing in range(1, 7):
            calls = []

            def counted(make, calls=calls, failing=failing):
                def call(*arguments, **options):
                    calls.append(arguments)
                    if len(calls) == failing:
                        raise RuntimeError(f"call {failing} fails")
                    return make(*arguments, **options)

                return call

            monkeypatch.setattr(node, "create_publisher", counted(publish))
            monkeypatch.setattr(node, "create_subscription", counted(subscribe))
            monkeypatch.setattr(node, "create_lifecycle_publisher", counted(latched))
            if failing == 6:  # nothing is left to fail
                assert probe.change_state("configure")
                assert len(calls) == 5
            else:
                assert not probe.change_state("configure")
                assert f"call {failing} fails" in probe.fresh_status().message
                assert topics(node) == before


def test_an_inactive_node_publishes_no_meshes(active):
    _, probe = active
    probe.exchange(people(standing()))
    assert probe.change_state("deactivate")
    probe.meshes.clear()
    for _ in range(5):
        probe.keypoints.publish(people(standing()))
        probe.spin(0.05)
    assert probe.meshes == []
    assert "not active" in probe.fresh_status().message
    assert probe.change_state("activate")
    assert probe.exchange(people(standing()))


def test_meshes_are_the_estimators_in_the_messages_frame(active, bundle):
    _, probe = active
    estimator = Estimator(load_bundle(bundle))
    keypoints = np.concatenate([standing_person((200.0, 240.0)), standing_person((450.0, 200.0))])
    info = camera_info(fx=700.0)

    def with_camera():
        probe.camera.publish(info)
        probe.exchange(people(*keypoints))
        return probe.values.get("camera") == "CameraInfo"

    probe.wait(with_camera, "the camera to be used")
    sent = people(*keypoints)
    sent.people[0].id, sent.people[1].id = "anna", ""
    message = probe.exchange(sent)
    expected = estimator.estimate(keypoints, Intrinsics(700.0, 700.0, 320.0, 240.0))
    assert message.header == sent.header
    assert message.body_model == estimator.body_model
    assert [body.id for body in message.bodies] == ["anna", "track_1"]
    for number, body in enumerate(message.bodies):
        place = [body.position.x, body.position.y, body.position.z]
        np.testing.assert_allclose(place, expected.translation[number], rtol=1e-6)
        np.testing.assert_array_equal(body.betas, expected.betas[number])
        np.testing.assert_array_equal(body.joints, expected.joints[number].ravel())
        np.testing.assert_array_equal(body.vertices, expected.vertices[number].ravel())
        rotations = axis_angle_to_matrix(body.pose.reshape(24, 3).astype(np.float64))
        np.testing.assert_allclose(rotations, expected.rotations[number], atol=1e-6)
        assert body.quality == expected.quality[number]
        assert body.reprojection_error == expected.reprojection_error[number]


def test_who_comes_late_gets_the_topology_once(active, bundle):
    _, first = active
    with client() as late:
        late.wait(lambda: late.topologies, "the topology")
        late.spin(0.2)
        assert len(late.topologies) == 1
        topology, expected = late.topologies[0], load_bundle(bundle)
        assert topology.body_model == expected.body_model
        np.testing.assert_array_equal(topology.triangles, expected.triangles.ravel())
        np.testing.assert_array_equal(topology.parents, expected.parents)
        assert tuple(topology.joint_names) == expected.joint_names
    assert len(first.topologies) == 1


def test_live_parameters_change_the_next_frame(active):
    _, probe = active
    crowd = [standing(), standing(100.0, height=100.0), standing(500.0, height=200.0)]
    assert len(probe.exchange(people(*crowd)).bodies[0].vertices) > 0
    assert probe.set_parameters(publish_vertices=False, max_people=2) == [(True, "")] * 2
    message = probe.exchange(people(*crowd))
    assert [len(body.vertices) for body in message.bodies] == [0, 0]
    assert [body.id for body in message.bodies] == ["0", "2"]


def test_parameters_that_need_a_new_configuration_are_refused_with_the_way_out(active, bundle):
    _, probe = active
    ((changed, reason),) = probe.set_parameters(model="/elsewhere")
    assert not changed
    assert "clean it up" in reason
    ((changed, reason),) = probe.set_parameters(autostart=False)
    assert not changed  # read-only
    assert probe.set_parameters(model=str(bundle)) == [(True, "")]  # what it is already


def test_faster_than_the_engine_the_newest_frame_counts_and_the_rest_are_counted(
    bundle, monkeypatch
):
    def slow(given, backend, threads, gpu):
        pose = OnnxEngine(given.pose_path)

        def run(inputs):
            time.sleep(0.04)
            return pose.run(inputs)

        return estimator_on(given, FakeEngine(run), OnnxEngine(given.mesh_path))

    monkeypatch.setattr(mesh_node, "Estimator", slow)
    with node_here(model=str(bundle), **QUICK) as _, client() as probe:
        assert probe.change_state("configure")
        assert probe.change_state("activate")
        probe.wait_for_node()
        probe.exchange(people(standing()))  # now it listens: from here on everything counts
        probe.fresh_status()
        frames, dropped = probe.number("frames"), probe.number("dropped")
        sent = [people(standing()) for _ in range(100)]
        for message in sent:
            probe.keypoints.publish(message)
            probe.spin(0.008)
        last = sent[-1].header.stamp
        probe.wait(lambda: [m for m in probe.meshes if m.header.stamp == last], "the newest frame")
        probe.fresh_status()
        seen = probe.number("frames") - frames
        assert seen + probe.number("dropped") - dropped == 100
        assert seen < 90  # a busy machine sends more slowly
        stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in probe.meshes]
        assert stamps == sorted(set(stamps))


def test_a_failing_engine_is_reported_and_does_not_end_the_node(bundle, monkeypatch):
    engines = []

    def failing(given, backend, threads, gpu):
        pose = OnnxEngine(given.pose_path)
        engines.append(FakeEngine(pose.run, fails_at=3))  # warm-up, one frame, then no more
        return estimator_on(given, engines[-1], OnnxEngine(given.mesh_path))

    monkeypatch.setattr(mesh_node, "Estimator", failing)
    with node_here(model=str(bundle), **QUICK) as _, client() as probe:
        assert probe.change_state("configure")
        assert probe.change_state("activate")
        probe.wait_for_node()
        probe.exchange(people(standing()))
        probe.send_until_counted(people(standing()), "refused.engine_failed")
        engines[-1].fails_at = None
        assert len(probe.exchange(people(standing())).bodies) == 1


def test_an_unforeseen_error_is_reported_and_does_not_end_the_node(active, monkeypatch):
    _, probe = active
    right = publishers.body_mesh_array

    def wrong(*arguments, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(publishers, "body_mesh_array", wrong)
    probe.send_until_counted(people(standing()), "refused.failed")
    monkeypatch.setattr(publishers, "body_mesh_array", right)
    assert isinstance(probe.exchange(people(standing())), BodyMeshArray)


def test_markers_are_made_only_while_somebody_subscribes_and_taken_away_at_the_end(
    active, monkeypatch
):
    _, probe = active
    made = []
    right = publishers.mesh_markers
    monkeypatch.setattr(
        publishers, "mesh_markers", lambda *arguments: made.append(1) or right(*arguments)
    )
    probe.exchange(people(standing()))
    assert made == []
    probe.watch_markers()
    shown = probe.wait(
        lambda: (probe.exchange_again(people(standing())), probe.markers)[1], "markers"
    )[0].markers[0]
    assert made
    assert len(shown.points) == 3 * 184
    probe.markers.clear()
    assert probe.change_state("deactivate")
    deletion = [3]  # DELETEALL; markers of the last frame may come before it
    probe.wait(
        lambda: probe.markers and [m.action for m in probe.markers[-1].markers] == deletion,
        "the deletion",
    )
