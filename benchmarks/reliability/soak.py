# SPDX-License-Identifier: Apache-2.0
"""Frame after frame, as fast as the node answers: its memory must not grow, nor its times.

People come and go, some with too little to be seen, under names that never come again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from helpers_ros import people, person, standing
from numpy.typing import NDArray
from rclpy.serialization import serialize_message

from benchmarks.reliability.checks import Outcome
from benchmarks.reliability.link import link, ready

FRAMES = 1_000_000
WARM_UP = 50_000
RATE_HZ = 30.0  # of the stamps
MOST_GROWTH_MIB = 1.0
MOST_DRIFT = 1.1
MIB = 1 << 20


def run(
    model: str,
    folder: Path,
    frames: int = FRAMES,
    warm_up: int = WARM_UP,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Closed loop of `frames` frames behind `warm_up` others."""
    cycle = _cycle()
    latencies = np.empty(frames, np.float32)
    memory, computed = [], []
    unanswered = 0
    with link(model, folder) as node:
        publisher = ready(node)
        for number in range(-warm_up, frames):
            message = cycle[number % len(cycle)]
            seconds = 1_000_000 + (number + warm_up) / RATE_HZ
            message.header.stamp.sec = int(seconds)
            message.header.stamp.nanosec = int(seconds % 1 * 1e9)
            for place, each in enumerate(message.people):  # a new name every second
                each.id = f"{(number + warm_up) // 30}-{place}"
            data = serialize_message(message)
            if number == 0:
                memory.append(node.resident_bytes())
                computed.append(node.processor_seconds())
            begin = time.perf_counter()
            answered = node.send(publisher, data)
            if number >= 0:
                latencies[number] = time.perf_counter() - begin if answered else np.nan
                unanswered += not answered
                if (number + 1) % max(1, frames // 20) == 0:
                    memory.append(node.resident_bytes())
                    computed.append(node.processor_seconds())
                    say(f"soak: {number + 1} frames, {memory[-1] / MIB:.1f} MiB")
            if number % 16 == 0:
                node.drain()
                node.meshes.clear()
        values = node.fresh_values()
        log = node.log
    return judged(latencies, np.array(memory), np.array(computed), unanswered, values, log)


def judged(
    latencies: NDArray[np.float32],
    memory: NDArray[np.int64],
    computed: NDArray[np.float64],
    unanswered: int,
    values: dict[str, str],
    log: str,
) -> Outcome:
    """Outcome of a run.

    Args:
        latencies: of each frame [s].
        memory: of the process [bytes], at the beginning and at each twentieth of the frames.
        computed: processor time of the process [s], likewise.
    """
    result, frames = Outcome(), len(latencies)
    fifth = max(1, frames // 5)
    first, last = (1e3 * np.nanmedian(x) for x in (latencies[:fifth], latencies[-fifth:]))
    # Processor time per frame, which other processes on the machine disturb less.
    steps = np.diff(computed)
    quarter = max(1, len(steps) // 4)
    cost = [1e3 * np.mean(x) * len(steps) / frames for x in (steps[:quarter], steps[-quarter:])]
    growth = (memory[-1] - memory[0]) / MIB
    result.check(f"{frames:,} frames answered", f"{frames - unanswered:,}", unanswered == 0)
    result.check(
        f"memory grows by less than {MOST_GROWTH_MIB:g} MiB after warm-up",
        f"{growth:+.2f} MiB, to {memory[-1] / MIB:.0f}",
        growth < MOST_GROWTH_MIB,
    )
    result.check(
        f"latency of the last fifth within {MOST_DRIFT - 1:.0%} of the first's",
        f"{first:.2f} ms to {last:.2f} ms (median)",
        last < MOST_DRIFT * first,
    )
    result.check(
        f"processor time per frame within {MOST_DRIFT - 1:.0%}",
        f"{cost[0]:.2f} ms to {cost[1]:.2f} ms",
        cost[1] < MOST_DRIFT * cost[0],
    )
    result.none("traceback in the log", ["see the log"] if "Traceback" in log else [])
    result.figures = {
        "frames": frames,
        "latency_ms_p50": float(1e3 * np.nanmedian(latencies)),
        "latency_ms_p99": float(1e3 * np.nanpercentile(latencies, 99)),
        "latency_ms_max": float(1e3 * np.nanmax(latencies)),
        "memory_mib": (memory / MIB).round(3).tolist(),
        "processor_ms_per_frame": (1e3 * steps * len(steps) / frames).round(4).tolist(),
        "diagnostics": values,
    }
    return result


def _cycle() -> list[Any]:
    """Frames of nobody, of some, of people with too little to be seen."""
    random = np.random.default_rng(0)
    result = []
    for number in range(60):
        message = people()
        for place in range(int(random.integers(0, 5)) if number % 10 else 0):
            keypoints = standing(120.0 + 110 * place + number)
            keypoints[:, :2] += random.normal(0, 1.0, (18, 2))
            if random.random() < 0.1:
                keypoints[5:] = np.nan
            message.people.append(person(keypoints))
        result.append(message)
    return result
