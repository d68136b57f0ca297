# SPDX-License-Identifier: Apache-2.0
"""A line to a node in a process of its own: publish a message over DDS, wait until it was read.

Faster than the tests' client (no executor), and exact: the node acknowledges every message.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo

from benchmarks.reliability.acknowledging_node import VARIABLE
from key2mesh_ros.msg import BodyMeshArray, PersonKeypointsArray

PATIENCE_S = 30.0
"""Long enough for a loaded machine; only a failure waits so long."""

KEYPOINTS = "/mesh_node/keypoints"
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


class NoAnswer(AssertionError):
    """The node said nothing within `PATIENCE_S`, or is gone."""


class Link:
    """A running node and its topics.

    Args:
        model: its bundle.
        log: file for what it prints.
        parameters: of the node.

    Attributes:
        meshes: what it published, as far as `drain` has taken it.
        values: its newest diagnostics.
    """

    def __init__(self, model: str, log: Path, **parameters: Any) -> None:
        self._read, write = os.pipe()
        arguments = []
        values = {"model": model, "diagnostics_period": 0.2} | parameters
        for name, value in values.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            arguments += ["-p", f"{name}:={text}"]
        module = "benchmarks.reliability.acknowledging_node"
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--ros-args", *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                pass_fds=(write,),
                env={**os.environ, "RCUTILS_COLORIZED_OUTPUT": "0", VARIABLE: str(write)},
            )
        os.close(write)
        self._log = log
        self.meshes: list[BodyMeshArray] = []
        self.values: dict[str, str] = {}
        self.node = Node("link", start_parameter_services=False, enable_rosout=False)
        self._publishers: dict[str, Any] = {}
        self._outputs = {
            "meshes": self.node.create_subscription(
                BodyMeshArray, "/mesh_node/meshes", lambda _: None, RELIABLE
            ),
            "diagnostics": self.node.create_subscription(
                DiagnosticArray, "/diagnostics", lambda _: None, RELIABLE
            ),
        }

    # What goes in.

    def publisher(self, kind: Any, topic: str = KEYPOINTS, wait: bool = True) -> Any:
        """Of a topic; with `wait`, once it is heard."""
        if topic not in self._publishers:
            # Serves subscriptions of either reliability.
            quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
            self._publishers[topic] = self.node.create_publisher(kind, topic, quality)
        result = self._publishers[topic]
        if wait:
            self.wait(result.get_subscription_count, f"a listener on {topic}")
        return result

    def send(self, publisher: Any, message: Any, seconds: float = 0.5) -> bool:
        """Publish a message or its bytes; whether the node dealt with it.

        Sensor data may be lost on the way, so silence is no fault by itself.
        """
        while select.select([self._read], [], [], 0)[0]:
            self._acknowledged()  # of a message that had been given up
        publisher.publish(message)
        if not select.select([self._read], [], [], seconds)[0]:
            return False
        self._acknowledged()
        return True

    def _acknowledged(self) -> None:
        if not os.read(self._read, 1):
            raise NoAnswer(f"the node ended ({self.process.wait(5)}): {self.log[-3000:]}")

    def exchange(
        self, publisher: Any, message: Any, stamp: Any = None, seconds: float = 0.0
    ) -> BodyMeshArray | None:
        """Send until meshes of the message's stamp (or another) come; those, or None behind
        `seconds` if that is given."""
        stamp = message.header.stamp if stamp is None else stamp
        self.drain()
        self.meshes.clear()
        data = message if isinstance(message, bytes) else serialize_message(message)
        limit = time.monotonic() + (seconds or PATIENCE_S)
        while time.monotonic() < limit:
            # Not sent again needlessly: to a filter that would be another frame.
            read = self.send(publisher, data, seconds or 2.0)
            pause = time.monotonic() + (seconds or 5.0 if read else 0.3)
            while time.monotonic() < pause:
                self.drain()
                for each in reversed(self.meshes):
                    if each.header.stamp == stamp:
                        return each
                time.sleep(0.0005)
        if seconds:
            return None
        raise NoAnswer(f"no meshes within {PATIENCE_S} s: {self.log[-3000:]}")

    def camera(self, width: int = 640, height: int = 480, fx: float = 600.0) -> CameraInfo:
        """The camera that sees `standing`."""
        info = CameraInfo(width=width, height=height)
        info.header.frame_id = "camera"
        info.k = [fx, 0.0, width / 2, 0.0, fx, height / 2, 0.0, 0.0, 1.0]
        return info

    # What comes out.

    def drain(self) -> int:
        """Take what has arrived; how many meshes."""
        count = 0
        for name, subscription in self._outputs.items():
            with subscription.handle:
                while taken := subscription.handle.take_message(subscription.msg_type, False):
                    message = taken[0]
                    if name == "meshes":
                        self.meshes.append(message)
                        count += 1
                    else:
                        self.values = {v.key: v.value for v in message.status[0].values}
        return count

    def number(self, key: str) -> int:
        """A count of the newest diagnostics; what is not listed has not happened."""
        return int(self.values.get(key, "0"))

    def fresh_values(self) -> dict[str, str]:
        """Diagnostics of after this call."""
        for _ in range(2):  # the first may have been on its way
            self.values = {}
            self.wait(lambda: self.drain() * 0 or self.values, "diagnostics")
        return self.values

    def wait(self, condition: Any, what: str) -> Any:
        """Until `condition` holds; its value."""
        limit = time.monotonic() + PATIENCE_S
        while not (result := condition()):
            if time.monotonic() > limit or not self.running():
                raise NoAnswer(f"waited for {what}: {self.log[-3000:]}")
            time.sleep(0.01)
        return result

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    # The process.

    def running(self) -> bool:
        return self.process.poll() is None

    def resident_bytes(self) -> int:
        """Memory of the node's process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * PAGE

    def processor_seconds(self) -> float:
        """What the process has computed so far [s]."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(text[11]) + int(text[12])) / TICK

    def close(self) -> None:
        if self.running():
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._read)
        self.node.destroy_node()


@contextmanager
def link(model: str, folder: Path, **parameters: Any) -> Iterator[Link]:
    """A node and the line to it, ended afterwards."""
    result = Link(model, folder / "node.log", **parameters)
    try:
        yield result
    finally:
        result.close()


def ready(result: Link) -> Any:
    """Publisher of our own keypoints, once meshes come back and the camera is known."""
    from helpers_ros import people, standing

    keypoints = result.publisher(PersonKeypointsArray)
    camera = result.publisher(CameraInfo, "/mesh_node/camera_info")
    result.wait(lambda: result.send(camera, result.camera()), "the camera to be heard")
    result.exchange(keypoints, people(standing()))
    return keypoints


def numbers(message: BodyMeshArray) -> NDArray[np.float64]:
    """Every number that is published about bodies."""
    parts = [np.zeros(0)]
    for body in message.bodies:
        at = body.position
        parts.append(np.array([body.quality, body.reprojection_error, at.x, at.y, at.z]))
        parts += [np.asarray(each) for each in (body.betas, body.pose, body.joints, body.vertices)]
    return np.concatenate(parts)
