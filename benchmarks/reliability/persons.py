# SPDX-License-Identifier: Apache-2.0
"""Ten persons at 30 Hz for ten minutes with vertices: nothing dropped, and every mesh in time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
from numpy.typing import NDArray

from benchmarks.latency_probe import Probe, keypoint_message, standing_people
from benchmarks.node_latency import NODE, running
from benchmarks.reliability.checks import Outcome

MINUTES = 10.0
PERSONS = 10
RATE_HZ = 30.0
MOST_MS = 33.0


def run(
    model: str, folder: Path, minutes: float = MINUTES, say: Callable[[str], None] = print
) -> Outcome:
    """`minutes` of it; the node in a process of its own, as `benchmarks.node_latency` has it.

    Latency is from just before keypoints are published until the meshes have reached the
    subscriber's process.
    """
    say(f"persons: {PERSONS} at {RATE_HZ:g} Hz for {minutes:g} minutes")
    domain, context = 60 + os.getpid() % 40, rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    probe = Probe(context, [NODE])
    message = keypoint_message(standing_people(PERSONS))
    arguments = ("--ros-args", "-p", f"model:={model}", "--log-level", "warn")
    try:
        with running("key2mesh_ros.mesh_node", domain, *arguments):
            probe.wait_for(NODE, message)
            _diagnosed(probe)
            before = int(probe.diagnostics["dropped"])
            frames, times = probe.stream(NODE, message, RATE_HZ, 60 * minutes)
            _diagnosed(probe)
            dropped = int(probe.diagnostics["dropped"]) - before
    finally:
        probe.close()
        context.try_shutdown()
    return judged(frames, (times[:, 1] - times[:, 0]) / 1e6, dropped, minutes, probe.diagnostics)


def _diagnosed(probe: Probe) -> None:
    """Wait for diagnostics that know of every frame."""
    probe.diagnostics.clear()
    probe.spin_until(time.monotonic() + 2.2)


def judged(
    frames: int,
    latency_ms: NDArray[np.float64],
    dropped: int,
    minutes: float,
    diagnostics: dict[str, str],
) -> Outcome:
    """Outcome of `frames` frames of which some came back after `latency_ms`."""
    result = Outcome()
    name = f"{PERSONS} persons at {RATE_HZ:g} Hz, {minutes:g} minutes"
    result.check(
        f"{name}: none dropped",
        f"{len(latency_ms):,} meshes of {frames:,} frames, {dropped} dropped",
        len(latency_ms) == frames and dropped == 0,
    )
    p50, p99, most = np.percentile(latency_ms, (50, 99, 100)) if len(latency_ms) else (np.inf,) * 3
    result.check(
        f"message to mesh below {MOST_MS:g} ms (p99), with vertices",
        f"{p99:.1f} ms (median {p50:.1f} ms, longest {most:.1f} ms)",
        p99 < MOST_MS,
    )
    result.figures = {
        "frames": frames,
        "meshes": len(latency_ms),
        "dropped": dropped,
        "latency_ms_p50": float(p50),
        "latency_ms_p99": float(p99),
        "latency_ms_max": float(most),
        "diagnostics": dict(diagnostics),
    }
    return result
