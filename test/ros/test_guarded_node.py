# SPDX-License-Identifier: Apache-2.0
"""No exception in a callback ends the node: it is counted, and the next frame is processed."""

import pytest
from helpers_ros import QUICK, camera_info, client, node_here, people, standing

from key2mesh_ros import parameters as node_parameters
from key2mesh_ros import publishers
from key2mesh_ros.srv import LoadModel


def fail(*arguments, **options):
    raise ZeroDivisionError("a bug")


def send_camera_info(probe, node):
    probe.camera.publish(camera_info())


def set_parameter(probe, node):
    ((changed, reason),) = probe.set_parameters(max_people=3)
    assert not changed
    assert "a bug" in reason


def load_model(probe, node):
    assert not probe.ask(LoadModel, "load_model", LoadModel.Request(path="default")).ok


def send_keypoints(probe, node):
    probe.keypoints.publish(people(standing()))


def nothing(probe, node):
    """The timers tick by themselves."""


CALLBACKS = {
    "camera_info": (lambda node: (node._worker, "release"), send_camera_info),
    "keypoints": (lambda node: (node._statistics, "arrived"), send_keypoints),
    "a frame's bytes": (lambda node: (publishers, "body_mesh_array"), send_keypoints),
    "diagnostics": (lambda node: (node._statistics, "status"), nothing),
    "looking for detectors": (lambda node: (node, "get_publishers_info_by_topic"), nothing),
    "checking parameters": (lambda node: (node_parameters, "change"), set_parameter),
    "load_model": (lambda node: (node._loader, "_owner"), load_model),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_failing_callback_is_counted_and_the_next_frame_is_answered(active, monkeypatch, name):
    node, probe = active
    find, trigger = CALLBACKS[name]
    target, attribute = find(node)
    cause = "refused.failed" if name == "a frame's bytes" else "warning.callback_failed"
    if name == "looking for detectors":  # which it does only while nobody publishes keypoints
        probe.destroy_publisher(probe.keypoints)
    with monkeypatch.context() as broken:
        broken.setattr(target, attribute, fail)
        counted = node._statistics.totals
        probe.wait(
            lambda: (trigger(probe, node), probe.spin(0.05), counted[cause.split(".")[1]])[2],
            "the count",
        )
    if name == "looking for detectors":
        probe.keypoints = probe.create_publisher(
            type(people()), f"{probe.node}/keypoints", probe.keypoints.qos_profile
        )
    assert len(probe.exchange(people(standing())).bodies) == 1
    probe.wait(lambda: probe.number(cause), "the diagnostics")


@pytest.mark.parametrize("order", [("good", "bad", "good"), ("bad", "good", "bad")])
def test_good_and_bad_models_in_any_order_leave_the_node_alive(bundle, tmp_path, order):
    paths = {"good": str(bundle), "bad": str(tmp_path / "nothing")}
    with node_here(model=str(bundle), **QUICK), client() as probe:
        assert probe.change_state("configure")
        assert probe.change_state("activate")
        for each in order:
            answer = probe.ask(LoadModel, "load_model", LoadModel.Request(path=paths[each]))
            assert answer.ok == (each == "good")
            assert len(probe.exchange(people(standing())).bodies) == 1


def test_a_missing_package_is_named_at_configure_not_with_every_frame(bundle, monkeypatch):
    def without_scipy():
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr("key2mesh_core.people.tracking.warm_up", without_scipy)
    with node_here(model=str(bundle), **QUICK), client() as probe:
        assert not probe.change_state("configure")
        assert probe.state() == "unconfigured"
        assert "scipy" in probe.fresh_status().message
