# SPDX-License-Identifier: Apache-2.0
"""The demo's recording played in a loop, with its own stamps.

Each round begins with a clock that jumps back; tracks and filters begin anew, so each round must
give the same numbers as the first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo

from benchmarks.reliability.checks import Outcome
from benchmarks.reliability.link import KEYPOINTS, link, numbers
from key2mesh_core.recordings.bags import read_raw
from key2mesh_core.recordings.own_messages import CAMERA_TYPE, KEYPOINTS_TYPE, the_topic
from key2mesh_ros.msg import PersonKeypointsArray

ROUNDS = 50
RECORDING = Path(__file__).parents[2] / "demo" / "data" / "street"


def run(
    model: str,
    folder: Path,
    rounds: int = ROUNDS,
    frames: int = 1_000_000,
    say: Callable[[str], None] = print,
) -> Outcome:
    """`rounds` rounds of the recording's first `frames` frames."""
    messages = [each for _, each in read_raw(RECORDING, the_topic(RECORDING, KEYPOINTS_TYPE))]
    messages = messages[:frames]
    cameras = [each for _, each in read_raw(RECORDING, the_topic(RECORDING, CAMERA_TYPE))]
    stamps = [deserialize_message(each, PersonKeypointsArray).header.stamp for each in messages]
    first: list[np.ndarray] = []
    differing, bodies = [], 0
    with link(model, folder, smoothing=True) as node:
        keypoints = node.publisher(PersonKeypointsArray, KEYPOINTS)
        camera = node.publisher(CameraInfo, "/mesh_node/camera_info")
        node.wait(lambda: node.send(camera, cameras[0]), "the camera to be heard")
        node.exchange(keypoints, messages[-1], stamps[-1])  # meshes are heard, too
        for number in range(rounds):
            for place, (message, stamp) in enumerate(zip(messages, stamps, strict=True)):
                answer = numbers(node.exchange(keypoints, message, stamp))
                bodies += len(answer) > 0
                if number == 0:
                    first.append(answer)
                elif not np.array_equal(answer, first[place]):
                    differing.append(f"round {number + 1}, frame {place}")
            say(f"bag: {number + 1} rounds")
        values = node.fresh_values()
        jumps, sent = node.number("warning.clock_jump"), node.number("frames")
    result = Outcome()
    result.check(f"{rounds} rounds of {len(messages)} frames", f"{rounds}", bodies > 0)
    result.none("frame unlike the first round's", differing)
    result.check(f"{rounds} jumps of the clock counted", jumps, jumps == rounds)
    result.figures = {"frames_with_bodies": bodies, "frames_sent": sent, "diagnostics": values}
    return result
