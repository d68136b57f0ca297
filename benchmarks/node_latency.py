# SPDX-License-Identifier: Apache-2.0
"""What the node adds to the engine: keypoints published to mesh received, over DDS.

The node runs in a process of its own, started by its entry point; this one publishes at a fixed
rate and receives the meshes, as a robot's program would, in Python. Stamps of the headers are
this machine's monotonic clock, so each mesh brings the time at which its keypoints were sent.

    tools/with-ros python -m benchmarks.node_latency [BUNDLE]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from key2mesh_core.bundle import load_bundle
from key2mesh_core.camera import Intrinsics
from key2mesh_core.estimator import Estimator
from key2mesh_ros.msg import BodyMeshArray, PersonKeypoints, PersonKeypointsArray

WIDTH, HEIGHT = 1280, 720
CAMERA = Intrinsics(900.0, 900.0, WIDTH / 2, HEIGHT / 2)

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


@dataclass
class Received:
    """When which mesh came [ns]: sent; received by this process's middleware; seen in Python."""

    times: list[tuple[int, int, int]] = field(default_factory=list)
    diagnostics: dict[str, str] = field(default_factory=dict)


class Probe(Node):
    """Publishes keypoints and receives meshes, in one thread."""

    def __init__(self, context: rclpy.Context, received: Received) -> None:
        # Without services of its own: what the executor waits for costs time on every wake-up.
        super().__init__(
            "latency_probe", context=context, start_parameter_services=False, enable_rosout=False
        )
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.keypoints = self.create_publisher(PersonKeypointsArray, "/mesh_node/keypoints", newest)
        self.camera_info = self.create_publisher(CameraInfo, "/mesh_node/camera_info", newest)
        # Reliable: ten meshes are 830 kB, more than the middleware's shared memory takes at once;
        # what it loses of them is sent again.
        self.create_subscription(BodyMeshArray, "/mesh_node/meshes", self._on_meshes, 5)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._received = received

    def _on_meshes(self, message: BodyMeshArray, info: dict[str, int]) -> None:
        now, stamp = time.time_ns(), message.header.stamp
        sent = stamp.sec * 1_000_000_000 + stamp.nanosec
        self._received.times.append((sent, info["received_timestamp"], now))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._received.diagnostics = {
            value.key: value.value for status in message.status for value in status.values
        }

    def send(self, message: PersonKeypointsArray) -> None:
        """Publish with the time of now; its people are those of the message."""
        now = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 1_000_000_000)
        self.keypoints.publish(message)


def keypoint_message(keypoints: NDArray[np.float32]) -> PersonKeypointsArray:
    """(N, 18, 3) keypoints as a message without a stamp."""
    message = PersonKeypointsArray(
        layout="openpose_coco_18", image_width=WIDTH, image_height=HEIGHT
    )
    message.header.frame_id = "camera"
    for number, person in enumerate(keypoints):
        x, y, confidence = (array("f", person[:, axis].tolist()) for axis in range(3))
        message.people.append(PersonKeypoints(id=str(number), x=x, y=y, confidence=confidence))
    return message


@contextmanager
def running_node(bundle: str, domain: int) -> Iterator[None]:
    """The node in a process of its own, ended cleanly."""
    command = [sys.executable, "-m", "key2mesh_ros.mesh_node", "--ros-args"]
    command += ["-p", f"model:={bundle}", "--log-level", "warn"]
    process = subprocess.Popen(command, env={**os.environ, "ROS_DOMAIN_ID": str(domain)})
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure_engine(bundle: str, count: int, rate_hz: float, frames: int = 90) -> dict[str, float]:
    """p50 of the same frames' estimation, called in this process at the same rate and without a
    pause between calls (processors are slower to wake than to go on) [ms]."""
    estimator = Estimator(load_bundle(bundle))
    keypoints = standing_people(count)
    results = {}
    for name, pause in (("engine_ms_p50", 1 / rate_hz), ("engine_back_to_back_ms_p50", 0.0)):
        times = []
        for number in range(frames + 5):
            begin = time.perf_counter()
            estimator.estimate(keypoints, CAMERA)
            times.append(time.perf_counter() - begin)
            if number < 5:  # settling
                times.clear()
            time.sleep(max(0.0, pause - (time.perf_counter() - begin)))
        results[name] = round(1e3 * float(np.median(times)), 3)
    estimator.close()
    return results


def measure_node(bundle: str, count: int, rate_hz: float, seconds: float) -> dict[str, Any]:
    """Latency of `count` persons at `rate_hz` over DDS."""
    domain, received, context = 60 + os.getpid() % 40, Received(), rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    probe = Probe(context, received)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(probe)
    message = keypoint_message(standing_people(count))
    info = CameraInfo(width=WIDTH, height=HEIGHT)
    info.header.frame_id = message.header.frame_id
    info.k = [CAMERA.fx, 0.0, CAMERA.cx, 0.0, CAMERA.fy, CAMERA.cy, 0.0, 0.0, 1.0]

    def spin_until(moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left)

    try:
        with running_node(bundle, domain):
            limit = time.monotonic() + 60
            while not received.times:
                if time.monotonic() > limit:
                    raise TimeoutError("the node published no mesh within 60 s: see its log")
                probe.send(message)
                probe.camera_info.publish(info)
                spin_until(time.monotonic() + 0.1)
            spin_until(time.monotonic() + 0.5)
            received.times.clear()
            frames, tick = int(rate_hz * seconds), time.monotonic()
            for _ in range(frames):
                probe.send(message)
                tick += 1 / rate_hz
                spin_until(tick)
            spin_until(time.monotonic() + 1.2)  # the last mesh, and the diagnostics after it
    finally:
        executor.shutdown()
        probe.destroy_node()
        context.try_shutdown()
    sent, came, seen = np.array(received.times, dtype=np.int64).T
    latency = (came - sent) / 1e6
    first, last = np.array_split(latency, 4)[0], np.array_split(latency, 4)[-1]
    slope = np.polyfit((sent - sent[0]) / 1e9, latency, 1)[0]
    return {
        "people": count,
        "rate_hz": rate_hz,
        "frames": frames,
        "meshes": len(latency),
        "latency_ms_p50": round(float(np.percentile(latency, 50)), 3),
        "latency_ms_p99": round(float(np.percentile(latency, 99)), 3),
        "seen_in_python_ms_p50": round(float(np.median((seen - sent) / 1e6)), 3),
        "latency_ms_p50_first_quarter": round(float(np.median(first)), 3),
        "latency_ms_p50_last_quarter": round(float(np.median(last)), 3),
        "growth_ms_per_s": round(float(slope), 4),
        "engine_in_node_ms_p50": float(received.diagnostics.get("engine_ms_p50", "nan")),
        "dropped": int(received.diagnostics.get("dropped", "-1")),
    }


def run(
    bundle: str = "default",
    people: Sequence[int] = (1, 10),
    rate_hz: float = 30.0,
    seconds: float = 10.0,
) -> dict[str, Any]:
    """Latency for each number of people, the engine's time for the same frames beside it.

    Latency is from just before keypoints are published until the meshes have reached the
    subscriber's process; `seen_in_python_ms_p50` until its callback runs, which depends on what
    else the subscriber does. `overhead_ms_p50` is latency less the engine's time at the same rate:
    middleware, the node's executor, and what the node does around the engine.
    """
    rows = []
    for count in people:
        row = measure_node(bundle, count, rate_hz, seconds)
        row |= measure_engine(bundle, count, rate_hz)
        row["overhead_ms_p50"] = round(row["latency_ms_p50"] - row["engine_ms_p50"], 3)
        rows.append(row)
    return {"node_latency": rows}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:2]), indent=2))
