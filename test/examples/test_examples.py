# SPDX-License-Identifier: Apache-2.0
"""The app that stops a robot: its rules, and the real one over DDS, alone and with the node."""

from __future__ import annotations

import importlib.util
import math
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

needs_ros = pytest.mark.skipif(
    importlib.util.find_spec("rclpy") is None, reason="needs ROS: run it through tools/with-ros"
)
pytestmark = needs_ros


@pytest.fixture(scope="module")
def app():
    """The example's module."""
    spec = importlib.util.spec_from_file_location("safety_stop", EXAMPLES / "safety_stop.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def guard(app):
    return app.Guard(stop_distance=1.0, release_distance=1.5, release_time=0.5, timeout=0.4)


def told(guard, *events: tuple[float, float | None]) -> list[bool]:
    """What is decided at each time; None is no message."""
    result = []
    for now, distance in events:
        if distance is not None:
            guard.saw(distance, now)
        result.append(guard.decide(now))
    return result


def test_it_stands_until_the_way_has_been_clear_for_a_while(guard):
    events = [(0.0, None), (0.1, math.inf), (0.4, math.inf), (0.7, math.inf)]
    assert told(guard, *events) == [True, True, True, False]


def test_it_stops_at_once_and_goes_on_only_beyond_the_release_distance(guard):
    assert not told(guard, (0.0, 3.0), (0.3, 3.0), (0.6, 3.0))[-1]
    assert told(guard, (0.7, 1.2), (0.8, 0.99), (0.9, 1.2), (1.2, 1.3)) == [False, True, True, True]
    # Neither clear nor near: it stays as it is, however long.
    assert told(guard, *[(1.2 + 0.3 * i, 1.4) for i in range(10)])[-1]
    assert told(guard, (4.0, 1.6), (4.3, 1.6), (4.6, 1.6)) == [True, True, False]


def test_no_news_is_bad_news(guard):
    assert not told(guard, (0.0, 3.0), (0.3, 3.0), (0.6, 3.0))[-1]
    assert told(guard, (0.9, None), (1.01, None)) == [False, True]
    assert told(guard, (1.1, 3.0), (1.4, 3.0), (1.7, 3.0)) == [True, True, False]


@pytest.mark.parametrize("distance", [float("nan"), 0.0, -1.0])
def test_what_makes_no_sense_stops(guard, distance):
    assert not told(guard, (0.0, 3.0), (0.3, 3.0), (0.6, 3.0))[-1]
    assert told(guard, (0.7, distance), (0.8, 3.0)) == [True, True]


# Over DDS.


class Robot:
    """Publishes meshes, and hears what the robot is told."""

    def __init__(self) -> None:
        from geometry_msgs.msg import Twist
        from helpers_ros import LATCHED
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from rclpy.qos import qos_profile_sensor_data
        from std_msgs.msg import Bool

        from key2mesh_ros.msg import BodyMeshArray, BodyTopology

        self.node = Node("robot")
        self.meshes = self.node.create_publisher(
            BodyMeshArray, "/mesh_node/meshes", qos_profile_sensor_data
        )
        self.topology = self.node.create_publisher(BodyTopology, "/mesh_node/topology", LATCHED)
        self.stop: bool | None = None
        self.standstills = 0
        self.node.create_subscription(Bool, "/safety_stop/stop", self._on_stop, 1)
        self.node.create_subscription(Twist, "/cmd_vel", self._on_velocity, 1)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def _on_stop(self, message) -> None:
        self.stop = message.data

    def _on_velocity(self, message) -> None:
        assert message.linear.x == message.angular.z == 0
        self.standstills += 1

    def see(
        self,
        *depths: float,
        age: float = 0.0,
        hand: float = 0.0,
        without_body: int = 0,
        metric: bool = True,
    ) -> None:
        """Bodies whose nearest vertex is so deep; their hands are elsewhere."""
        from builtin_interfaces.msg import Time

        from key2mesh_ros.msg import BodyMesh, BodyMeshArray

        message = BodyMeshArray(metric=metric, people_without_body=without_body)
        message.people_seen = len(depths) + without_body
        now = time.time() - age
        message.header.stamp = Time(sec=int(now), nanosec=int(now % 1 * 1e9))
        for depth in depths:
            joints = np.zeros((24, 3), np.float32)
            joints[:, 2] = hand or depth
            vertices = np.float32([[0, 0, depth + 1], [0, 0, depth], [5, 0, depth]])
            message.bodies.append(BodyMesh(joints=joints.ravel(), vertices=vertices.ravel()))
        self.meshes.publish(message)

    def until(self, stop: bool, seconds: float = 15.0, **seen) -> None:
        """Publish this until the robot's command matches."""
        depths = seen.pop("depths", None)
        limit = time.monotonic() + seconds
        self.stop = None
        while self.stop is not stop:
            assert time.monotonic() < limit, f"was not told stop={stop} within {seconds} s"
            if depths is not None:
                self.see(*depths, **seen)
            self.executor.spin_once(timeout_sec=0.05)

    def never(self, stop: bool, seconds: float, **seen) -> None:
        limit = time.monotonic() + seconds
        depths = seen.pop("depths")
        while time.monotonic() < limit:
            self.see(*depths, **seen)
            self.executor.spin_once(timeout_sec=0.05)
            assert self.stop is not stop

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture(scope="module", autouse=True)
def ros():
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    if rclpy.ok():
        yield
        return
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()


@pytest.fixture
def robot():
    result = Robot()
    yield result
    result.close()


def started(path: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(path), "--ros-args", *arguments])


def test_the_program_stops_the_robot_and_lets_it_go(robot):
    process = started(EXAMPLES / "safety_stop.py", "-p", "timeout:=1.0", "-p", "release_time:=0.2")
    try:
        robot.until(True)  # nothing was seen yet
        while not robot.standstills:  # the time-out is the test's
            robot.executor.spin_once(timeout_sec=0.1)
        robot.until(False, depths=())  # nobody in view
        robot.until(False, depths=(3.0, 4.0))
        robot.until(True, depths=(3.0, 0.9))
        robot.until(False, depths=(3.0,))
        robot.until(True)  # the meshes end
        robot.until(False, depths=())
        robot.until(True, depths=(), age=5.0)  # they are old
        robot.until(False, depths=())
        robot.until(True, depths=(), age=-5.0)  # a clock is wrong
        robot.until(False, depths=(3.0,))
        robot.until(True, depths=(3.0,), without_body=1)  # somebody is too near to be whole
        robot.until(False, depths=(3.0,))
        robot.until(True, depths=(3.0,), metric=False)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert time.monotonic() - begin < 5
    finally:
        process.kill()
        process.wait()


def test_only_the_parts_asked_for_count(robot, app):
    import threading

    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    from key2mesh_ros.msg import BodyTopology

    names = [f"joint_{i}" for i in range(23)] + ["left_hand"]
    values = [Parameter("parts", value=["left_hand"]), Parameter("timeout", value=2.0)]
    node = app.SafetyStop(parameter_overrides=values)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        robot.until(True, depths=())
        robot.never(False, 1.5, depths=(3.0,), hand=3.0)  # no topology: it does not know the hand
        robot.topology.publish(BodyTopology(joint_names=names))
        robot.until(False, depths=(0.5,), hand=3.0)
        robot.until(True, depths=(3.0,), hand=0.5)
    finally:
        executor.shutdown()
        thread.join(10)
        node.destroy_node()


def standing_joints(height: float, distance: float) -> np.ndarray:
    """(24, 3) the default body's joints, so tall and upright so far in front of the camera [m]."""
    from key2mesh_core.body.files import load_body

    body = load_body("default")
    joints = body.joint_regressor @ body.template
    joints = (joints - joints[0]) * height / np.ptp(body.template[:, 1])
    return joints * [1, -1, -1] + [0, 0, distance]


def covariance(deviation: float) -> np.ndarray:
    return np.diag([1e-6, 1e-6, deviation**2]).ravel()


def test_the_height_of_a_body_is_found_from_its_joints(app):
    for height in (1.0, 1.69, 2.0):
        assert app.height_of(standing_joints(height, 3.0)) == pytest.approx(height, rel=0.02)


def test_a_child_who_looks_like_an_adult_far_away_counts_as_near(app):
    # 1 m tall at 3 m: an adult of 1.69 m on the same rays stands at 5.07 m.
    child, adult = standing_joints(1.0, 3.0), standing_joints(1.69, 5.07)
    robot = np.zeros(3)
    true = np.linalg.norm(child, axis=1).min()
    found = app.nearest(adult, adult, covariance(0.07 * 5.07), robot, smallest=1.0)
    assert 0.8 * true < found <= true
    # Where the size is known, only the position's own deviation counts.
    known = app.nearest(adult, adult, covariance(0.03 * 5.07), robot, smallest=0.0)
    assert known == pytest.approx(0.94 * np.linalg.norm(adult, axis=1).min(), rel=0.01)


@pytest.mark.parametrize("height", [1.0, 1.69])
def test_whoever_walks_up_to_the_camera_stops_the_robot_before_the_stop_distance(app, height):
    """Until head and shoulders are left, in front of the default network; the pelvis is 0.9 m above
    to 0.3 m below the camera."""
    from helpers_scenes import CAMERA, SIZE, estimator, keypoints_of, scaled, standing

    from key2mesh_core.keypoints.arrays import person_sizes, sanitise, usable
    from key2mesh_core.people.position_uncertainty import with_position_covariance

    share, stopped, cut_off = height / 1.69, 0, 0
    places = product((-0.9, -0.5, 0.0, 0.3), (4.0, 2.5, 2.0, 1.5, 1.2, 1.0, 0.8, 0.6), (0.0, 1.2))
    for below, away, yaw in places:
        person = scaled(standing(0.0, (0.0, below / share, away / share), yaw), share)
        keypoints = keypoints_of(person)
        inside = (keypoints[..., :2] >= 0) & (keypoints[..., :2] < SIZE)
        keypoints = sanitise(np.where(inside.all(-1, keepdims=True), keypoints, 0))
        if not usable(keypoints)[0]:  # the message says that somebody has no body
            continue
        sizes = person_sizes(keypoints)
        bodies = estimator().estimate_poses(keypoints, CAMERA, sizes)
        bodies = with_position_covariance(bodies, keypoints, sizes, CAMERA.fx, True)
        (vertices,), (joints,) = estimator().add_vertices(bodies).vertices, bodies.joints
        covariance = bodies.position_covariance.ravel()
        found = app.nearest(vertices, joints, covariance, np.zeros(3), smallest=1.0)
        if np.linalg.norm(person.vertices, axis=-1).min() < 1.0:
            assert found < 1.0, (below, away, yaw)
            stopped += 1
            cut_off += (keypoints[..., 2] > 0).sum() <= 9
    assert stopped > 10
    assert cut_off > 2


def test_distances_that_contradict_each_other_are_refused(app):
    from rclpy.parameter import Parameter

    with pytest.raises(ValueError, match=r"got 0.5 and 1.0 m"):
        app.SafetyStop(parameter_overrides=[Parameter("release_distance", value=0.5)])


def test_in_one_process_with_the_node(robot, tmp_path):
    from helpers_bundle import make_bundle
    from helpers_ros import camera_info, client, people, standing

    model = make_bundle(tmp_path / "bundle").path
    arguments = ("-p", f"model:={model}", "-p", "timeout:=2.0", "-p", "stop_distance:=2.5")
    arguments += ("-p", "release_distance:=3.0", "-p", "smallest_person:=0.0")
    process = started(EXAMPLES / "one_process.py", *arguments)
    try:
        with client() as camera:
            camera.wait_for_node()
            near, far = standing(height=470.0), standing(height=60.0)

            def seen(person, stop: bool) -> None:
                limit = time.monotonic() + 20
                robot.stop = None
                while robot.stop is not stop:
                    assert time.monotonic() < limit, f"not told stop={stop}"
                    camera.camera.publish(camera_info())  # without it distances are a guess
                    camera.keypoints.publish(people(person))
                    camera.spin(0.05)
                    robot.executor.spin_once(timeout_sec=0.05)

            seen(far, False)
            seen(near, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
