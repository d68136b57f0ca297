#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stops a robot while any part of a person is near: an example app that uses the meshes.

    ros2 run key2mesh_ros safety_stop --ros-args -p stop_distance:=1.2 -p release_distance:=1.5

Publishes `~/stop` (std_msgs/Bool) continuously, and a zero `cmd_vel` (geometry_msgs/Twist) while
the robot must stop: give that topic the highest priority in your velocity multiplexer.

It stops when in doubt: until the first meshes arrive; when none arrive for a while (detector,
camera or node stopped); when their stamps are older or newer than `timeout`; when a person was seen
who got no body (too near, cut off by the image's edge); and when distances are not metric (no
CameraInfo). Pixels do not tell how tall a person is: a 1 m child at 3 m looks like an adult at 5 m.
Every person therefore counts as near as a person of height `smallest_person` would be, minus two
standard deviations of the position. The robot is released only after the way has been clear for a
moment.

It cannot see people whom the detector misses: behind furniture, outside the image, or too near to
look like a person. This is an example, not a certified safety device: keep the robot's own safety
functions.
"""

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Twist
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from std_msgs.msg import Bool

from key2mesh_ros.msg import BodyMesh, BodyMeshArray, BodyTopology

PERIOD_S = 0.05
HEIGHT_OF_CHAIN = 1.14
"""Ratio of a standing person's height to the length of the chain ankle, knee, hip, pelvis, spine,
neck, head."""
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass
class Guard:
    """Decides whether to stop, without ROS.

    Attributes:
        stop_distance: closer than this [m] is too near.
        release_distance: the way is clear when everybody is farther than this [m]...
        release_time: ...for this time [s].
        timeout: stop after this time without meshes [s].
    """

    stop_distance: float
    release_distance: float
    release_time: float
    timeout: float
    stopped: bool = True
    reason: str = ""
    _heard: float | None = None
    _clear_since: float | None = None

    def saw(self, distance: float, now: float) -> None:
        """Record the distance [m] of the nearest part of any person; infinity if nobody is in
        view."""
        self._heard = now
        if not distance > self.stop_distance:  # NaN is too near
            self.stop(f"somebody is {distance:.2f} m away")
        elif distance <= self.release_distance:
            self._clear_since = None
        elif self._clear_since is None:
            self._clear_since = now

    def decide(self, now: float) -> bool:
        """Whether the robot must stop."""
        if self._heard is None or now - self._heard > self.timeout:
            self.stop("no meshes arrive")
        elif self._clear_since is not None and now - self._clear_since >= self.release_time:
            self.stopped, self.reason = False, "the way is clear"
        return self.stopped

    def stop(self, reason: str) -> None:
        """Stop for a reason, such as a message that does not say where people are."""
        self.stopped, self.reason, self._clear_since = True, reason, None


def nearest(
    points: np.ndarray,
    joints: np.ndarray,
    covariance: np.ndarray,
    robot: np.ndarray,
    smallest: float,
) -> float:
    """Conservative distance [m] of the nearest of `points` (P, 3) from `robot` (3,).

    A smaller person with the same image is nearer, on the same rays. The points are therefore moved
    towards the camera to where a person of height `smallest` [m] would stand (0: the size is
    known), and then by two standard deviations of the position.

    Args:
        joints: (24, 3) joints of the body [m], from which its height follows.
        covariance: (9,) covariance of the pelvis's position [m^2].
    """
    share = min(1.0, smallest / max(height_of(joints), 1e-6)) if smallest > 0 else 1.0
    away = np.linalg.norm(joints[0])
    deviation = np.sqrt(np.linalg.eigvalsh(np.reshape(covariance, (3, 3)))[-1])
    share *= max(0.0, 1.0 - 2.0 * deviation / away) if away > 0 else 0.0
    return float(np.linalg.norm(points * share - robot, axis=1).min())


def height_of(joints: np.ndarray) -> float:
    """Height of a body [m], from the lengths of a leg, the trunk and the neck."""
    chain = joints[[7, 4, 1, 0, 3, 6, 9, 12, 15]]
    return HEIGHT_OF_CHAIN * float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())


class SafetyStop(Node):
    """Watches `/mesh_node/meshes`; `options` are a Node's (parameter_overrides, namespace...)."""

    def __init__(self, **options: Any) -> None:
        super().__init__("safety_stop", **options)
        value = {
            name: self.declare_parameter(name, default).value
            for name, default in {
                "stop_distance": 1.0,
                "release_distance": 1.3,
                "release_time": 0.5,
                "timeout": 0.5,
            }.items()
        }
        # Height [m] of the smallest person about; 0 where a depth image, the floor or a known
        # height sets the scale of the node's bodies.
        self._smallest = self.declare_parameter("smallest_person", 1.0).value
        if not 0 < value["stop_distance"] <= value["release_distance"]:
            raise ValueError(
                "release_distance must not be below stop_distance, and both above 0: got "
                f"{value['release_distance']} and {value['stop_distance']} m"
            )
        # The robot's position in the camera's frame [m], and the joints that count (none: all).
        self._robot = np.array(self.declare_parameter("robot", [0.0, 0.0, 0.0]).value)
        self._parts = self.declare_parameter("parts", [""]).value
        self._joints: list[int] | None = None
        self._guard = Guard(**value)
        self._told = ""
        self._stop = self.create_publisher(Bool, "~/stop", 1)
        self._velocity = self.create_publisher(Twist, "cmd_vel", 1)
        meshes, topology = "/mesh_node/meshes", "/mesh_node/topology"
        self.create_subscription(BodyMeshArray, meshes, self._on_meshes, qos_profile_sensor_data)
        self.create_subscription(BodyTopology, topology, self._on_topology, LATCHED)
        # A steady clock: the timer must also run while simulated time is paused.
        self.create_timer(PERIOD_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_topology(self, message: BodyTopology) -> None:
        names = list(message.joint_names)
        unknown = [part for part in self._parts if part and part not in names]
        if unknown:
            self.get_logger().error(f"no parts {unknown}; there are {names}")
        else:
            self._joints = [names.index(part) for part in self._parts if part]

    def _on_meshes(self, message: BodyMeshArray) -> None:
        stamp = rclpy.time.Time.from_msg(message.header.stamp, self.get_clock().clock_type)
        age = (self.get_clock().now() - stamp).nanoseconds * 1e-9
        if abs(age) > self._guard.timeout:
            when = f"{age:.1f} s old" if age > 0 else f"{-age:.1f} s in the future"
            self._guard.stop(f"meshes are {when}: set use_sim_time, or synchronise the clocks")
        elif message.people_without_body:
            self._guard.stop(f"{message.people_without_body} people were seen without a body")
        elif message.bodies and not message.metric:
            self._guard.stop("distances are not metric: the node has no CameraInfo")
        elif any(self._parts) and self._joints is None:
            self._guard.stop(f"the position of {self._parts} is unknown: no topology received")
        else:
            distances = [self._distance(body) for body in message.bodies]
            self._guard.saw(min(distances, default=np.inf), time.monotonic())

    def _distance(self, body: BodyMesh) -> float:
        """Distance of the nearest point that counts [m]. Poorly seen people also count."""
        joints = np.asarray(body.joints).reshape(-1, 3)
        points = joints if not len(body.vertices) else np.asarray(body.vertices).reshape(-1, 3)
        if self._joints:
            points = joints[self._joints]
        return nearest(points, joints, body.position_covariance, self._robot, self._smallest)

    def _tick(self) -> None:
        stop = self._guard.decide(time.monotonic())
        if stop:
            self._velocity.publish(Twist())
        self._stop.publish(Bool(data=stop))
        if self._told != (told := "stop" if stop else "go"):
            self._told = told
            self.get_logger().info(f"{told}: {self._guard.reason}")


def main() -> None:
    rclpy.init()
    try:
        rclpy.spin(SafetyStop())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        with suppress(RuntimeError):  # rclpy's own signal thread may be doing the same
            rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
