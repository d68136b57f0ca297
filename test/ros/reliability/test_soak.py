# SPDX-License-Identifier: Apache-2.0
"""Frame after frame, as fast as the node answers: its memory must not grow, nor its times.

People come and go, some with too little to be seen, under names that never come again.
"""

import os
import time
from pathlib import Path

import numpy as np
from helpers_ros import client, node_process, people, person, standing

MIB = 1 << 20
RATE_HZ = 30.0  # of the stamps


def test_neither_memory_nor_time_grows_with_frames(bundle, tmp_path, request, amount):
    warm_up, frames = amount(300, 50_000), amount(700, 1_000_000)
    long = request.config.getoption("scale") is not None
    cycle, model = make_cycle(), "default" if long else bundle
    latencies, memory, computed = np.empty(frames), [], []
    with node_process(tmp_path / "log", model=model, smoothing=True) as process, client() as probe:
        probe.wait_for_node()
        for number in range(-warm_up, frames):
            if number >= 0 and number % max(1, frames // 20) == 0:
                memory.append(resident_bytes(process.pid))
                computed.append(processor_seconds(process.pid))
            message = cycle[number % len(cycle)]
            seconds = 1_000_000 + (number + warm_up) / RATE_HZ
            message.header.stamp.sec = int(seconds)
            message.header.stamp.nanosec = int(seconds % 1 * 1e9)
            for place, each in enumerate(message.people):  # a new name every second
                each.id = f"{(number + warm_up) // 30}-{place}"
            probe.meshes.clear()
            begin = time.perf_counter()
            probe.exchange(message)
            if number >= 0:
                latencies[number] = 1e3 * (time.perf_counter() - begin)
        log = process.log
    growth = (memory[-1] - memory[0]) / MIB
    fifth = max(1, frames // 5)
    first, last = np.median(latencies[:fifth]), np.median(latencies[-fifth:])
    cost = 1e3 * np.diff(computed) / (frames // 20)  # less disturbed by other processes
    early, late = np.mean(cost[:5]), np.mean(cost[-5:])
    print(
        f"{frames} frames: memory {growth:+.2f} MiB to {memory[-1] / MIB:.0f} MiB, latency "
        f"{first:.2f} to {last:.2f} ms (median), processor {early:.2f} to {late:.2f} ms a frame"
    )
    assert "Traceback" not in log
    assert growth < 1.0  # a leak of two kilobytes a frame shows in 700 frames
    if long:  # a busy machine must not fail the short form
        assert last < 1.1 * first
        assert late < 1.1 * early


def make_cycle():
    """Frames of nobody, of some people, of people with too little to be seen."""
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


def resident_bytes(pid):
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(pid):
    text = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")
