# SPDX-License-Identifier: Apache-2.0
"""Plays a recording of keypoints over DDS at the speed it was taken.

Its standard output is a protocol for demo/run.py: one JSON object a line.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import groupby
from operator import itemgetter

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo

from key2mesh_core.recordings.bags import read_raw
from key2mesh_core.recordings.own_messages import CAMERA_TYPE, KEYPOINTS_TYPE, the_topic
from key2mesh_ros.msg import PersonKeypointsArray

# Reliable serves subscribers of either kind, and a deep queue so that nothing is lost on this
# side: what the demo counts as dropped was dropped by the node.
QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

KINDS = (CameraInfo, PersonKeypointsArray)
KEYPOINTS = 1

CATCHING_UP = 0.6
"""Least time between two frames, as a share of the recorded one."""

DISCOVERY_S = 20.0
"""How long to wait for the node's subscriptions [s]."""


def tell(**facts: object) -> None:
    """One line for demo/run.py."""
    print(json.dumps(facts), flush=True)


def wait_for_subscribers(publishers: list[Publisher]) -> bool:
    """Whether somebody has subscribed to each of the topics, after at most DISCOVERY_S."""
    end = time.monotonic() + DISCOVERY_S
    while time.monotonic() < end:
        if all(publisher.get_subscription_count() for publisher in publishers):
            return True
        time.sleep(0.02)
    return False


def read_frames(bag: str, limit: int, topics: tuple[str, ...]) -> list[tuple[int, list]]:
    """Per instant [ns], what to publish: a list of (index of the topic, message), camera first."""
    messages = [
        (recorded_ns, which, deserialize_message(data, KINDS[which]))
        for which, topic in enumerate(topics)
        for recorded_ns, data in read_raw(bag, topic)
    ]
    messages.sort(key=itemgetter(0, 1))
    frames = [
        (recorded_ns, [message[1:] for message in group])
        for recorded_ns, group in groupby(messages, key=itemgetter(0))
    ]
    return frames[: limit or None]


def play(node: Node, bag: str, limit: int, rate: float, loop: bool) -> int:
    """Publishes the recording's frames, at most `limit` (0: all); returns an exit status."""
    topics = (the_topic(bag, CAMERA_TYPE), the_topic(bag, KEYPOINTS_TYPE))
    publishers = [
        node.create_publisher(kind, topic, QOS) for kind, topic in zip(KINDS, topics, strict=True)
    ]
    frames = read_frames(bag, limit, topics)
    if not wait_for_subscribers(publishers):
        tell(error=f"nobody subscribed to {' and '.join(topics)} within {DISCOVERY_S:g} s")
        return 1
    measured = True
    while True:
        begin = soonest = time.monotonic()
        for at, (recorded_ns, messages) in enumerate(frames):
            due = begin + (recorded_ns - frames[0][0]) / 1e9 / rate
            time.sleep(max(0.0, max(due, soonest) - time.monotonic()))
            # A camera never sends two images at once: who is late catches up gently, or the
            # node, which takes the newest frame only, would rightly leave some out.
            following = frames[min(at + 1, len(frames) - 1)][0]
            soonest = time.monotonic() + CATCHING_UP * (following - recorded_ns) / 1e9 / rate
            for which, message in messages:
                stamp = message.header.stamp
                sent = time.monotonic_ns()
                publishers[which].publish(message)
                if which == KEYPOINTS and measured:
                    tell(stamp=stamp.sec * 1_000_000_000 + stamp.nanosec, sent=sent)
        if measured:
            tell(done=True)
            measured = False
            # What comes now is for the eye only, once demo/run.py has measured: it says so.
            if not loop or not sys.stdin.readline():
                break
        time.sleep(0.5)
    # Leave only once the last message has been taken.
    for publisher in publishers:
        publisher.wait_for_all_acked(Duration(seconds=2))
    return 0


def main() -> int:
    """`player.py BAG LIMIT RATE [loop]`; returns the process's exit status."""
    bag, limit, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    rclpy.init()
    node = rclpy.create_node("demo_player")
    try:
        return play(node, bag, limit, rate, "loop" in sys.argv[4:])
    except KeyboardInterrupt:
        return 130
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
