# SPDX-License-Identifier: Apache-2.0
"""What the node adds to the engine: keypoints published to mesh received, over DDS.

The node runs in a process of its own, started by its entry point; this one publishes at a fixed
rate and receives the meshes, as a robot's program would, in Python. In turns with it, in the same
run: a node that does nothing (`noop_node`), and the engine alone, called in this process at the
same rate. Then all three without a pause, when caches still know of the last frame.

    tools/with-ros python -m benchmarks.node_latency [BUNDLE]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray

from benchmarks import noop_node
from benchmarks.latency_probe import CAMERA, Probe, keypoint_message, standing_people
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_ros.parameters import Parameters
from key2mesh_ros.stages import STAGES

NODE = "mesh_node"
TURNS, SHORT_TURNS = 2, 10
"""How often node, no-op and engine take turns, at a camera's rate and without pauses: what the
machine does meanwhile meets them all."""


@contextmanager
def running(module: str, domain: int, *arguments: str) -> Iterator[None]:
    """A node in a process of its own, ended cleanly."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
    )
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
    estimator: Estimator, keypoints: NDArray[np.float32], pause: float, seconds: float
) -> list[float]:
    """Seconds that each estimation takes, one every `pause` s or, for 0, without a pause
    (processors are slower to wake than to go on)."""
    times: list[float] = []
    for number in range(5 + round(seconds / max(pause, 0.02))):
        begin = time.perf_counter()
        estimator.estimate(keypoints, CAMERA)
        times.append(time.perf_counter() - begin)
        if number < 5:  # settling
            times.clear()
        time.sleep(max(0.0, pause - (time.perf_counter() - begin)))
    return times


def measure(bundle: str, count: int, rate_hz: float, seconds: float) -> dict[str, Any]:
    """Everything about `count` persons at `rate_hz`: `seconds` of the node, half of it of the
    no-op node and half of the engine."""
    domain, context = 60 + os.getpid() % 40, rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    keypoints, loaded = standing_people(count), load_bundle(bundle)
    message = keypoint_message(keypoints)
    estimator = Estimator(loaded, threads=Parameters().threads)  # as the node does
    probe = Probe(context, [NODE, noop_node.NAME])
    node_arguments = ("--ros-args", "-p", f"model:={bundle}", "--log-level", "warn")
    frames, node, floor, engine = 0, [], [], []
    try:
        with (
            running("key2mesh_ros.mesh_node", domain, *node_arguments),
            running("benchmarks.noop_node", domain, str(loaded.vertex_count)),
        ):
            probe.wait_for(NODE, message)
            probe.wait_for(noop_node.NAME, message)
            for _ in range(TURNS):
                sent, times = probe.stream(NODE, message, rate_hz, seconds / TURNS)
                frames += sent
                node.append(times)
                probe.diagnostics.clear()
                probe.spin_until(time.monotonic() + 1.2)  # those that know of every frame
                said = dict(probe.diagnostics)
                _, times = probe.stream(noop_node.NAME, message, rate_hz, seconds / 2 / TURNS)
                floor.append(times)
                engine += engine_times(estimator, keypoints, 1 / rate_hz, seconds / 2 / TURNS)
            together = _without_pauses(probe, message, estimator, keypoints, seconds / 2)
    finally:
        probe.close()
        context.try_shutdown()
        estimator.close()
    return {
        "people": count,
        "rate_hz": rate_hz,
        "frames": frames,
        "meshes": sum(map(len, node)),
        **_node_figures(node),
        "noop_node_ms_p50": _p50_ms(_latency(np.concatenate(floor))),
        "engine_ms_p50": _p50_ms(1e3 * np.array(engine)),
        "back_to_back": together,
        "engine_in_node_ms_p50": float(said.get("engine_ms_p50", "nan")),
        "latency_in_node_ms_p50": float(said.get("latency_ms_p50", "nan")),
        "stages_ms_p50": {name: float(said.get(f"{name}_ms_p50", "nan")) for name in STAGES},
        "dropped": int(said.get("dropped", "-1")),
    }


def _without_pauses(
    probe: Probe,
    message: bytes,
    estimator: Estimator,
    keypoints: NDArray[np.float32],
    seconds: float,
) -> dict[str, float]:
    """Medians [ms] of each when nobody waits for a camera; short turns, as neighbours who use the
    same memory come and go within a second."""
    node, floor, engine = [], [], []
    for _ in range(SHORT_TURNS):
        share = seconds / SHORT_TURNS / 3
        node.append(_latency(probe.converse(NODE, message, share)))
        engine += engine_times(estimator, keypoints, 0.0, share)
        floor.append(_latency(probe.converse(noop_node.NAME, message, share)))
    found = {
        "node_ms_p50": _p50_ms(np.concatenate(node)),
        "noop_node_ms_p50": _p50_ms(np.concatenate(floor)),
        "engine_ms_p50": _p50_ms(1e3 * np.array(engine)),
    }
    return found | {"overhead_ms_p50": round(found["node_ms_p50"] - found["engine_ms_p50"], 3)}


def _latency(times: NDArray[np.int64]) -> NDArray[np.float64]:
    """(M,) [ms], from keypoints published to mesh received."""
    return (times[:, 1] - times[:, 0]) / 1e6


def _p50_ms(values: NDArray[np.float64]) -> float:
    return round(float(np.median(values)), 3)


def _node_figures(turns: list[NDArray[np.int64]]) -> dict[str, float]:
    times = np.concatenate(turns)
    latency = _latency(times)
    quarters = [np.array_split(_latency(each), 4) for each in turns]
    slopes = [np.polyfit((x[:, 0] - x[0, 0]) / 1e9, _latency(x), 1)[0] for x in turns]
    return {
        "latency_ms_p50": _p50_ms(latency),
        "latency_ms_p99": round(float(np.percentile(latency, 99)), 3),
        "seen_in_python_ms_p50": _p50_ms((times[:, 2] - times[:, 0]) / 1e6),
        "latency_ms_p50_first_quarter": _p50_ms(np.concatenate([each[0] for each in quarters])),
        "latency_ms_p50_last_quarter": _p50_ms(np.concatenate([each[-1] for each in quarters])),
        "growth_ms_per_s": round(float(np.mean(slopes)), 4),
    }


def run(
    bundle: str = "default",
    people: Sequence[int] = (1, 10),
    rate_hz: float = 30.0,
    seconds: float = 20.0,
) -> dict[str, Any]:
    """Latency for each number of people, beside the engine's time for the same frames and the
    latency of a node that does nothing.

    Latency is from just before keypoints are published until the meshes have reached the
    subscriber's process; `seen_in_python_ms_p50` until its callback runs, which depends on what
    else the subscriber does. `overhead_ms_p50` is latency less the engine's time at the same rate:
    middleware, the node's executor, what the node does around the engine, smoothing included.
    `stages_ms_p50` are the node's own; `middleware_ms_p50` is what is left of the latency.
    """
    rows = []
    for count in people:
        row = measure(bundle, count, rate_hz, seconds)
        row["overhead_ms_p50"] = round(row["latency_ms_p50"] - row["engine_ms_p50"], 3)
        row["middleware_ms_p50"] = round(row["latency_ms_p50"] - row["latency_in_node_ms_p50"], 3)
        rows.append(row)
    return {"node_latency": rows}


def table(rows: list[dict[str, Any]]) -> str:
    """Where the time goes, as Markdown: medians in ms."""
    lines = ["| ms, median | " + " | ".join(f"{row['people']} persons" for row in rows) + " |"]
    lines.append("|---|" + "---:|" * len(rows))

    def line(name: str, values: list[float]) -> None:
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")

    line("middleware, to the node and from it", [row["middleware_ms_p50"] for row in rows])
    for name, text in STAGES.items():
        line(f"{name}: {text}", [row["stages_ms_p50"][name] for row in rows])
    for name, key in (
        ("keypoints published to mesh received", "latency_ms_p50"),
        ("the same, 99th percentile", "latency_ms_p99"),
        ("the engine alone at this rate", "engine_ms_p50"),
        ("what the node adds to it", "overhead_ms_p50"),
        ("a node that does nothing, in rclpy's usual way", "noop_node_ms_p50"),
    ):
        line(name, [row[key] for row in rows])
    for name, key in (
        ("without pauses: published to received", "node_ms_p50"),
        ("without pauses: the engine alone", "engine_ms_p50"),
        ("without pauses: what the node adds to it", "overhead_ms_p50"),
        ("without pauses: a node that does nothing", "noop_node_ms_p50"),
    ):
        line(name, [row["back_to_back"][key] for row in rows])
    return "\n".join(lines)


if __name__ == "__main__":
    result = run(*sys.argv[1:2])
    print(json.dumps(result, indent=2))
    print("\n" + table(result["node_latency"]))
