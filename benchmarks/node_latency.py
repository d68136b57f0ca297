# SPDX-License-Identifier: Apache-2.0
"""Measures what the node adds to the engine: from published keypoints to received meshes, over DDS.

The node runs in a separate process, started by its entry point. This process publishes at a fixed
rate and receives the meshes, like a robot's program in Python; alternating with it, the engine
alone is called here at the same rate. Then both run back to back, with warm caches.

    tools/with-ros python -m benchmarks.node_latency --people 1 10 --seconds 600
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import pack_into
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo

from benchmarks.people import camera, people
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_ros.msg import BodyMeshArray, PersonKeypoints, PersonKeypointsArray
from tools.domain import claim_domain

NODE = "/mesh_node"
TURNS, SHORT_TURNS = 2, 10
"""Alternating measurements of node and engine, at a camera's rate and back to back."""
PATIENCE_S = 60.0


def run(
    model: str = "default",
    people: tuple[int, ...] = (1, 10),
    rate_hz: float = 30.0,
    seconds: float = 20.0,
) -> list[dict[str, Any]]:
    """Measure the node for each number of persons.

    Latency [ms] is from just before keypoints are published until the meshes have reached the
    subscriber's process; `overhead` is latency less the engine's time at the same rate: middleware,
    rclpy's executor, what the node does around the engine.

    Args:
        model: the bundle.
        people: numbers of persons in a frame.
        rate_hz: of the frames.
        seconds: of streaming, for each number of persons.
    """
    return [measure(model, count, rate_hz, seconds) for count in people]


def measure(model: str, count: int, rate_hz: float, seconds: float) -> dict[str, Any]:
    """Latencies of the node and times of the engine for `count` persons."""
    domain, context = claim_domain(), rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    keypoints = people(count)
    estimator = Estimator(load_bundle(model), threads=2)
    probe = Probe(context, keypoints)
    streamed, back_to_back, engine, fast_engine = [], [], [], []
    frames = 0
    try:
        with running_node(model):
            probe.wait_for_meshes()
            for _ in range(TURNS):
                frames += round(rate_hz * seconds / TURNS)
                streamed.append(probe.stream(rate_hz, seconds / TURNS))
                engine += engine_times(estimator, keypoints, 1 / rate_hz, seconds / 2 / TURNS)
            said = probe.fresh_diagnostics()
            for _ in range(SHORT_TURNS):
                back_to_back.append(probe.converse(seconds / 4 / SHORT_TURNS))
                fast_engine += engine_times(estimator, keypoints, 0.0, seconds / 4 / SHORT_TURNS)
    finally:
        probe.close()
        context.try_shutdown()
        estimator.close()
    latency, quick = np.concatenate(streamed), np.concatenate(back_to_back)
    found = {
        "latency_ms_p50": np.median(latency),
        "latency_ms_p99": np.percentile(latency, 99),
        "latency_ms_max": latency.max(),
        "engine_ms_p50": np.median(engine),
        "overhead_ms_p50": np.median(latency) - np.median(engine),
        "back_to_back_ms_p50": np.median(quick),
        "back_to_back_engine_ms_p50": np.median(fast_engine),
    }
    return {
        "people": count,
        "rate_hz": rate_hz,
        "frames": frames,
        "meshes": len(latency),
        **{name: round(float(value), 3) for name, value in found.items()},
        "node_says": {k: v for k, v in said.items() if k.endswith("_ms_p50") or k == "dropped"},
    }


@contextmanager
def running_node(model: str) -> Iterator[None]:
    """The node in a separate process, shut down cleanly."""
    command = [sys.executable, "-m", "key2mesh_ros.mesh_node", "--ros-args", "--log-level", "warn"]
    environment = dict(os.environ)
    environment.setdefault("ROS_LOG_DIR", str(Path(tempfile.gettempdir()) / "key2mesh_bench_logs"))
    process = subprocess.Popen([*command, "-p", f"model:={model}"], env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def engine_times(
    estimator: Estimator, keypoints: NDArray[np.float32], pause_s: float, seconds: float
) -> list[float]:
    """Times [ms] of estimations, one every `pause_s`, or without a pause for 0."""
    times: list[float] = []
    for number in range(5 + round(seconds / max(pause_s, 0.02))):
        begin = time.perf_counter()
        estimator.estimate(keypoints, camera())
        if number >= 5:  # the first ones warm up
            times.append(1e3 * (time.perf_counter() - begin))
        time.sleep(max(0.0, pause_s - (time.perf_counter() - begin)))
    return times


class Probe:
    """Publishes keypoints and receives meshes, in one thread.

    Args:
        context: an initialised one.
        keypoints: (N, K, 3), what every message holds.
    """

    def __init__(self, context: rclpy.Context, keypoints: NDArray[np.float32]) -> None:
        # Without services, because everything that the executor waits for costs time on every
        # wake-up.
        self._node = Node(
            "latency_probe", context=context, start_parameter_services=False, enable_rosout=False
        )
        self._message = _serialised(keypoints)
        self._latencies: list[float] = []
        self._diagnostics: dict[str, str] = {}
        newest = qos_profile_sensor_data
        self._keypoints = self._node.create_publisher(
            PersonKeypointsArray, f"{NODE}/keypoints", newest
        )
        self._camera = self._node.create_publisher(CameraInfo, f"{NODE}/camera_info", newest)
        # Reliable, so that the middleware resends lost parts of ten meshes, which take 830 kB.
        self._node.create_subscription(BodyMeshArray, f"{NODE}/meshes", self._on_meshes, 5)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)

    def _on_meshes(self, message: BodyMeshArray, info: dict[str, int]) -> None:
        stamp = message.header.stamp
        sent = stamp.sec * 1_000_000_000 + stamp.nanosec
        self._latencies.append((info["received_timestamp"] - sent) / 1e6)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._diagnostics = {v.key: v.value for status in message.status for v in status.values}

    def _spin_until(self, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for_meshes(self) -> None:
        """Until the node answers, with the camera known to it.

        Raises:
            TimeoutError: it does not within a minute.
        """
        limit = time.monotonic() + PATIENCE_S
        while not self._latencies:
            if time.monotonic() > limit:
                raise TimeoutError(f"{NODE} published no mesh within {PATIENCE_S:g} s: see its log")
            self._camera.publish(_camera_info())
            self._send()
            self._spin_until(time.monotonic() + 0.1)
        self._spin_until(time.monotonic() + 0.5)

    def fresh_diagnostics(self) -> dict[str, str]:
        """Diagnostics that know of every frame so far."""
        self._spin_until(time.monotonic() + 2.2)
        return dict(self._diagnostics)

    def stream(self, rate_hz: float, seconds: float) -> NDArray[np.float64]:
        """Publish at a fixed rate; latencies (M,) [ms] of the answers."""
        self._latencies.clear()
        tick = time.monotonic()
        for _ in range(round(rate_hz * seconds)):
            self._send()
            tick += 1 / rate_hz
            self._spin_until(tick)
        self._spin_until(time.monotonic() + 0.3)  # the last one
        return np.array(self._latencies)

    def converse(self, seconds: float) -> NDArray[np.float64]:
        """Publish as soon as the last answer arrives; latencies (M,) [ms] of the answers."""
        self._latencies.clear()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answered = len(self._latencies)
            self._send()
            limit = time.monotonic() + 1.0  # sensor data may be lost on the way
            while len(self._latencies) == answered and time.monotonic() < limit:
                self._executor.spin_once(timeout_sec=0.1)
        return np.array(self._latencies)

    def _send(self) -> None:
        # The stamp is the first field of a serialised message, behind four bytes of encoding.
        stamped = bytearray(self._message)
        pack_into("<iI", stamped, 4, *divmod(time.time_ns(), 1_000_000_000))
        self._keypoints.publish(bytes(stamped))

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()


def _serialised(keypoints: NDArray[np.float32]) -> bytes:
    """A PersonKeypointsArray without a stamp: making its bytes is the detector's time."""
    intrinsics = camera()
    message = PersonKeypointsArray(
        layout="openpose_coco_18",
        image_width=round(2 * intrinsics.cx),
        image_height=round(2 * intrinsics.cy),
    )
    message.header.frame_id = "camera"
    for number, person in enumerate(keypoints):
        x, y, confidence = (array("f", person[:, axis].tolist()) for axis in range(3))
        message.people.append(PersonKeypoints(id=str(number), x=x, y=y, confidence=confidence))
    return serialize_message(message)


def _camera_info() -> CameraInfo:
    c = camera()
    result = CameraInfo(width=round(2 * c.cx), height=round(2 * c.cy))
    result.header.frame_id = "camera"
    result.k = [c.fx, 0.0, c.cx, 0.0, c.fy, c.cy, 0.0, 0.0, 1.0]
    return result


if __name__ == "__main__":
    import tyro

    print(json.dumps(tyro.cli(run), indent=2))
