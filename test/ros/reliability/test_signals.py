# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM at any moment: while Python starts, while the node configures, while it works,
and during `key2mesh mesh`. Everything must end within 2 s, in order, and leave no half-made file.
"""

import random
import signal
import subprocess
import sys
import time

import numpy as np
from helpers_ros import allowed_s, client, node_process, people, standing
from rosbags.rosbag2 import Reader
from write_bags import keypoint_recording, write_bag

from key2mesh_core.people.person_frame import PersonFrame

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ORDERLY = {0, 130, -signal.SIGINT, -signal.SIGTERM}


def test_a_node_ends_at_any_moment(bundle, tmp_path, amount):
    count, moments, longest = amount(2, 200), random.Random(0), 0.0
    with client() as probe:
        begin = time.monotonic()
        with node_process(tmp_path / "first.log", model=bundle):
            probe.wait(lambda: answered(probe), "the first mesh")
            until_active = time.monotonic() - begin
        for number in range(count):
            # Evenly over the start and a while of work after it.
            delay = 1.3 * until_active * (number + moments.random()) / count
            with node_process(tmp_path / f"{number}.log", model=bundle) as process:
                end = time.monotonic() + delay
                while time.monotonic() < end:
                    probe.keypoints.publish(people(standing()))
                    probe.spin(min(0.02, max(0.0, end - time.monotonic())))
                limit = max(allowed_s(), until_active)
                code, seconds = process.end(SIGNALS[number % 2])
                longest = max(longest, seconds)
                where = f"{SIGNALS[number % 2].name} after {delay:.2f} of {until_active:.2f} s"
                assert seconds < limit, where
                assert orderly(code, process.log), f"{where}: {code}: {process.log[-600:]}"
    print(f"{count} nodes, the slowest ended in {longest:.2f} s")


def test_a_command_ends_at_any_moment_and_resumes(bundle, tmp_path, amount):
    count, moments, longest = amount(2, 60), random.Random(1), 0.0
    source, whole = make_source(tmp_path), tmp_path / "whole"
    begin = time.monotonic()
    start(source, whole, bundle).communicate()
    needed, expected = time.monotonic() - begin, content(whole)
    for number in range(count):
        target = tmp_path / f"signalled_{number}"
        process = start(source, target, bundle)
        delay = needed * (number + moments.random()) / count
        time.sleep(delay)
        limit, begin = max(allowed_s(), needed), time.monotonic()
        process.send_signal(SIGNALS[number % 2])
        _, error = process.communicate(timeout=60)
        seconds = time.monotonic() - begin
        longest = max(longest, seconds)
        where = f"{SIGNALS[number % 2].name} after {delay:.2f} of {needed:.2f} s"
        assert seconds < limit, where
        assert orderly(process.returncode, error), f"{where}: {process.returncode}: {error[-300:]}"
        if not target.exists():
            _, error = start(source, target, bundle).communicate()
        assert content(target) == expected, f"{where}: {error[-300:]}"
    print(f"{count} commands, the slowest ended in {longest:.2f} s")


def orderly(code, printed):
    """Whether a process ended as one does that is told to. While Python itself starts, before any
    program's code, an interrupt makes it fail with 1."""
    return code in ORDERLY or (code == 1 and "Fatal Python error: init_import_site" in printed)


def answered(probe):
    probe.keypoints.publish(people(standing()))
    probe.spin(0.02)
    return bool(probe.meshes)


def make_source(folder, frames=600):
    """A recording of two people, a few megabytes with its meshes."""
    seen = np.broadcast_to(np.stack([standing(200.0), standing(400.0)]), (frames, 2, 18, 3)).copy()
    seen[..., :2] += np.random.default_rng(0).normal(0.0, 2.0, (frames, 2, 18, 2))
    first, step = 1_700_000_000_000_000_000, 33_000_000
    made = [
        PersonFrame(("a", "b"), seen[n], "openpose_coco_18", first + n * step, "eye", 640, 480)
        for n in range(frames)
    ]
    write_bag(folder / "source", [keypoint_recording("/keypoints", made)])
    return folder / "source"


def start(source, target, model):
    command = [sys.executable, "-m", "key2mesh_core.cli.main", "mesh", str(source), str(target)]
    command += ["--model", str(model), "--segment", "1", "--threads", "1"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def content(path):
    """Every message of a recording: topic, time and bytes."""
    with Reader(path) as reader:
        return [(each.topic, stamp, bytes(data)) for each, stamp, data in reader.messages()]
