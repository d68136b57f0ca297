# SPDX-License-Identifier: Apache-2.0
"""Who publishes keypoints to a node at a fixed rate, and notes when its meshes come."""

from __future__ import annotations

import time
from array import array
from collections import defaultdict
from collections.abc import Sequence
from struct import pack_into

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_ros.msg import BodyMeshArray, PersonKeypoints, PersonKeypointsArray
from key2mesh_ros.qos import NEWEST

WIDTH, HEIGHT = 1280, 720
CAMERA = Intrinsics(900.0, 900.0, WIDTH / 2, HEIGHT / 2)
PATIENCE_S = 60.0

# Somebody upright who faces the camera: x, y in units of the body's height, from its middle.
_STANDING = np.array(
    [
        (0.00, -0.43), (0.00, -0.33), (-0.10, -0.33), (-0.14, -0.16), (-0.15, -0.02),
        (0.10, -0.33), (0.14, -0.16), (0.15, -0.02), (-0.06, 0.00), (-0.06, 0.24),
        (-0.06, 0.47), (0.06, 0.00), (0.06, 0.24), (0.06, 0.47), (-0.02, -0.45),
        (0.02, -0.45), (-0.05, -0.44), (0.05, -0.44),
    ]
)  # fmt: skip


def standing_people(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 18, 3) people side by side, each a little different."""
    random = np.random.default_rng(seed)
    heights = random.uniform(300.0, 420.0, count)[:, None, None]
    middles = np.stack(
        [WIDTH * (np.arange(count) + 0.5) / count, np.full(count, HEIGHT / 2)], axis=-1
    )
    pixels = _STANDING * heights + middles[:, None] + random.normal(0.0, 1.5, (count, 18, 2))
    return np.concatenate([pixels, np.full((count, 18, 1), 0.9)], axis=-1).astype(np.float32)


def keypoint_message(keypoints: NDArray[np.float32]) -> bytes:
    """(N, 18, 3) keypoints as a serialised PersonKeypointsArray without a stamp.

    What rclpy needs to make bytes of a message is the detector's time, not the node's.
    """
    message = PersonKeypointsArray(
        layout="openpose_coco_18", image_width=WIDTH, image_height=HEIGHT
    )
    message.header.frame_id = "camera"
    for number, person in enumerate(keypoints):
        x, y, confidence = (array("f", person[:, axis].tolist()) for axis in range(3))
        message.people.append(PersonKeypoints(id=str(number), x=x, y=y, confidence=confidence))
    return serialize_message(message)


def camera_info() -> CameraInfo:
    """Of the camera that sees the people."""
    result = CameraInfo(width=WIDTH, height=HEIGHT)
    result.header.frame_id = "camera"
    result.k = [CAMERA.fx, 0.0, CAMERA.cx, 0.0, CAMERA.fy, CAMERA.cy, 0.0, 0.0, 1.0]
    return result


class Probe(Node):
    """Publishes keypoints and receives meshes, in one thread.

    Args:
        context: an initialised one.
        nodes: names of those that it talks to.

    Attributes:
        times: for each node, of every mesh [ns]: keypoints published; mesh received by this
            process's middleware; seen in Python.
        diagnostics: the newest.
    """

    def __init__(self, context: rclpy.Context, nodes: Sequence[str]) -> None:
        # Without services of its own: what the executor waits for costs time on every wake-up.
        super().__init__(
            "latency_probe", context=context, start_parameter_services=False, enable_rosout=False
        )
        self.times: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        self.diagnostics: dict[str, str] = {}
        self._out = {}
        for name in nodes:
            self._out[name] = self.create_publisher(
                PersonKeypointsArray, f"/{name}/keypoints", NEWEST
            )
            self._listen(name)
        self._camera_info = self.create_publisher(CameraInfo, f"/{nodes[0]}/camera_info", NEWEST)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)

    def _listen(self, name: str) -> None:
        def on_meshes(message: BodyMeshArray, info: dict[str, int]) -> None:
            now, stamp = time.time_ns(), message.header.stamp
            sent = stamp.sec * 1_000_000_000 + stamp.nanosec
            self.times[name].append((sent, info["received_timestamp"], now))

        # Reliable: ten meshes are 830 kB, and what the middleware loses of them is sent again.
        self.create_subscription(BodyMeshArray, f"/{name}/meshes", on_meshes, 5)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics = {
            value.key: value.value for status in message.status for value in status.values
        }

    def spin_until(self, moment: float) -> None:
        """Listen until a moment of time.monotonic()."""
        while (left := moment - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for(self, name: str, message: bytes) -> None:
        """Until a node answers, with the camera known to it.

        Raises:
            TimeoutError: it does not, within a minute.
        """
        limit = time.monotonic() + PATIENCE_S
        while not self.times[name]:
            if time.monotonic() > limit:
                raise TimeoutError(f"{name} published no mesh within {PATIENCE_S:g} s: see its log")
            self._send(name, message)
            self._camera_info.publish(camera_info())
            self.spin_until(time.monotonic() + 0.1)
        self.spin_until(time.monotonic() + 0.5)

    def stream(
        self, name: str, message: bytes, rate_hz: float, seconds: float
    ) -> tuple[int, NDArray[np.int64]]:
        """A node's answers to a stream of messages: how many were sent, and `times` of those that
        came back, (M, 3)."""
        self.times[name].clear()
        frames, tick = int(rate_hz * seconds), time.monotonic()
        for _ in range(frames):
            self._send(name, message)
            tick += 1 / rate_hz
            self.spin_until(tick)
        self.spin_until(time.monotonic() + 0.3)  # the last one
        return frames, np.array(self.times[name], dtype=np.int64).reshape(-1, 3)

    def converse(self, name: str, message: bytes, seconds: float) -> NDArray[np.int64]:
        """The same without pauses: the next message is sent when the answer is here. Every
        answer's `times`, (M, 3)."""
        times = self.times[name]
        times.clear()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answered = len(times)
            self._send(name, message)
            limit = time.monotonic() + 1.0  # what is lost on the way never comes
            while len(times) == answered and time.monotonic() < limit:
                self._executor.spin_once(timeout_sec=0.1)
        return np.array(times, dtype=np.int64).reshape(-1, 3)

    def _send(self, name: str, message: bytes) -> None:
        """Publish with the time of now, in the place where such a message has its stamp."""
        stamped = bytearray(message)
        pack_into("<iI", stamped, 4, *divmod(time.time_ns(), 1_000_000_000))
        self._out[name].publish(bytes(stamped))

    def close(self) -> None:
        self._executor.shutdown()
        self.destroy_node()
