# SPDX-License-Identifier: Apache-2.0
"""A detector that is killed in the midst of its work and started again, again and again.

Its process gets SIGKILL, so the middleware is not told. Meshes must come again behind each start,
of whole messages only, and no frame must be counted as dropped that nobody sent.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.reliability.checks import Outcome
from benchmarks.reliability.link import PATIENCE_S, NoAnswer, link, numbers, ready

RESTARTS = 50
RATE_HZ = 30

_DETECTOR = """
import benchmarks.reliability, rclpy, sys, time
from helpers_ros import people, standing
from key2mesh_ros.msg import PersonKeypointsArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
rclpy.init()
node = rclpy.create_node("detector")
newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
publisher = node.create_publisher(PersonKeypointsArray, "/mesh_node/keypoints", newest)
message = people(standing())
message.header.frame_id = sys.argv[1]
while True:
    now = time.time()
    message.header.stamp.sec, message.header.stamp.nanosec = int(now), int(now % 1 * 1e9)
    publisher.publish(message)
    time.sleep(1 / 30)
"""


def run(
    model: str, folder: Path, restarts: int = RESTARTS, say: Callable[[str], None] = print
) -> Outcome:
    """`restarts` detectors, one after the other."""
    result, silent, strange, waits, lives_s = Outcome(), [], [], [], []
    moments = random.Random(0)
    with link(model, folder) as node:
        ready(node)
        node.fresh_values()
        before = node.number("frames")
        for number in range(restarts):
            name = f"detector_{number}"
            process = subprocess.Popen([sys.executable, "-c", _DETECTOR, name], env=os.environ)
            begin = time.monotonic()
            try:
                seen = 0
                while seen < 5:  # and so not only the first
                    node.drain()
                    for message in node.meshes:
                        seen += message.header.frame_id == name
                        if len(message.bodies) != 1 or not np.isfinite(numbers(message)).all():
                            strange.append(f"{name}: {len(message.bodies)} bodies")
                    node.meshes.clear()
                    if time.monotonic() - begin > PATIENCE_S:
                        raise NoAnswer(f"no meshes of {name} within {PATIENCE_S} s")
                    time.sleep(0.01)
                waits.append(time.monotonic() - begin)
                time.sleep(moments.uniform(0.0, 0.3))
            except NoAnswer as error:
                silent.append(str(error))
            finally:
                process.kill()
                process.wait()
                lives_s.append(time.monotonic() - begin)
            if number % 10 == 9:
                say(f"publisher: {number + 1} restarts")
        lives = node.running()
        dropped = int(node.fresh_values()["dropped"])
        frames = node.number("frames") - before
    result.check("the node lives", "yes" if lives else "no", lives)
    seen = f"{len(waits)} of {restarts}, the longest wait {max(waits, default=0):.1f} s"
    result.check(f"meshes behind each of {restarts} starts", seen, not silent)
    result.none("body of a message half sent", strange)
    # A new publisher's numbers begin anew, and lie thousands away from the last one's.
    most = sum(int(RATE_HZ * seconds) + 2 for seconds in lives_s)
    result.check(
        "no frame counted as dropped that nobody sent",
        f"{frames} read and {dropped} dropped of at most {most}",
        frames + dropped <= most,
    )
    result.figures = {"seconds_to_fifth_mesh": [round(x, 2) for x in waits], "frames": frames}
    return result
