# SPDX-License-Identifier: Apache-2.0
"""The node as a process: it configures itself, ends on signals, and reports errors."""

import signal
import time
from pathlib import Path

import pytest
from helpers_ros import allowed_s, client, node_process, people, standing
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message

from key2mesh_ros.msg import BodyMeshArray
from key2mesh_ros.process import NAME, OLD_NAME, PROFILE, make_room_for_meshes

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_signal_ends_a_working_node_cleanly(tmp_path, bundle):
    with node_process(tmp_path / "log", model=bundle) as process:
        with client() as probe:
            probe.wait_for_node()
            probe.exchange(people(standing()))
            assert probe.state() == "active"
        code, seconds = process.end(signal.SIGTERM)
        assert code == 0, process.log
        assert seconds < allowed_s()
        assert "Traceback" not in process.log


def test_a_signal_ends_a_node_that_could_not_configure(tmp_path):
    with node_process(tmp_path / "log", model=tmp_path / "nothing") as process:
        process.wait_for_log("configure failed")
        assert str(tmp_path / "nothing") in process.log
        with client() as probe:
            assert probe.state() == "unconfigured"  # alive, and answers
        code, seconds = process.end(signal.SIGINT)
        assert (code, seconds < allowed_s()) == (0, True), process.log
        assert "Traceback" not in process.log


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(("-m", "key2mesh_ros.mesh_node"), id="one node"),
        pytest.param((str(EXAMPLES / "one_process.py"),), id="two nodes", marks=pytest.mark.long),
    ],
)
def test_a_second_ctrl_c_changes_nothing(tmp_path, bundle, program):
    """Whenever it comes until the process is gone."""
    with node_process(tmp_path / "log", program, model=bundle) as process:
        with client() as probe:
            probe.wait_for_node()
            probe.exchange(people(standing()))
        process.signal()
        while process.running():
            process.signal()
            time.sleep(0.005)
        assert process.wait() == 0, process.log
        assert "Traceback" not in process.log
        assert "Error" not in process.log


def test_a_signal_in_the_midst_of_the_start_is_heard(tmp_path, bundle):
    with node_process(tmp_path / "log", model=bundle) as process:
        process.wait_for_log("runs on")  # the engine is there, configuring is not over
        code, _ = process.end(signal.SIGTERM)
        assert code == 0, process.log
        assert "Traceback" not in process.log


def test_without_autostart_the_node_waits_to_be_told(tmp_path, bundle):
    with node_process(tmp_path / "log", model=bundle, autostart=False), client() as probe:
        assert probe.state() == "unconfigured"
        probe.bring("configure", "inactive")
        probe.bring("activate", "active")
        probe.wait_for_node()
        assert len(probe.exchange(people(standing())).bodies) == 1


def test_meshes_of_many_people_reach_best_effort_subscribers(tmp_path, bundle):
    """Messages of 830 kB, as ten people of a full mesh make, which Fast DDS's defaults lose."""
    crowd = people(*[standing()] * 500)
    node = node_process(tmp_path / "log", model=bundle, max_people=500)
    with node as process, client() as probe:
        probe.wait_for_node()
        probe.exchange(crowd)
        received = []
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        probe.create_subscription(BodyMeshArray, "/mesh_node/meshes", received.append, newest)
        probe.wait(lambda: (probe.exchange_again(crowd), received)[1], "the subscription")
        received.clear()
        probe.meshes.clear()
        for _ in range(10):
            before = len(probe.meshes)
            probe.keypoints.publish(crowd)
            probe.wait(lambda before=before: len(probe.meshes) > before, "meshes")
            probe.spin(0.2)
        assert len(received) >= 9, process.log
        assert len(serialize_message(received[0])) > 800_000


def test_the_users_own_middleware_settings_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PROFILE.is_file()
    for name in (OLD_NAME, NAME, "FASTDDS_BUILTIN_TRANSPORTS"):
        environment = {name: "mine"}
        assert not make_room_for_meshes(environment)
        assert environment == {name: "mine"}
    for name in ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml"):
        (tmp_path / name).touch()
        assert not make_room_for_meshes({})
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("distribution", "names"),
    [
        ("jazzy", {OLD_NAME}),
        ("kilted", {NAME}),
        ("lyrical", {NAME}),
        ("", {OLD_NAME, NAME}),  # nobody says which
    ],
)
def test_the_profile_has_the_name_that_the_distribution_reads(
    tmp_path, monkeypatch, distribution, names
):
    monkeypatch.chdir(tmp_path)
    given = {"ROS_DISTRO": distribution}
    environment = dict(given)
    assert make_room_for_meshes(environment)
    assert environment == {**given, **dict.fromkeys(names, str(PROFILE))}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("horizontal_fov_deg", 60, "DOUBLE"),  # what rclpy refuses
        ("backend", "abacus", "auto, onnx"),  # what we do
    ],
)
def test_a_wrong_parameter_ends_the_start_and_is_named(tmp_path, name, value, said):
    with node_process(tmp_path / "log", **{name: value}) as process:
        assert process.wait() == 1
        assert name in process.log
        assert said in process.log
        assert "Traceback" not in process.log
