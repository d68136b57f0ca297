# SPDX-License-Identifier: Apache-2.0
"""Plays a recording of keypoints over DDS, and receives the meshes, like a small robot program."""

from __future__ import annotations

import copy
import sys
import time
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import rclpy
from lifecycle_msgs.srv import GetState
from outcome import Outcome
from processes import DemoError, Processes
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo

from key2mesh_core.people.mesh_frame import MeshFrame, mesh_frame
from key2mesh_core.people.person_frame import stamp_ns_of
from key2mesh_core.recordings.bag_files import raw_topics
from key2mesh_core.recordings.bags import CAMERA_TYPE, KEYPOINTS_TYPE, the_topic
from key2mesh_ros.msg import BodyMeshArray, BodyTopology, PersonKeypointsArray

# Reliable, which serves subscribers of either kind: frames counted as dropped were dropped by the
# node.
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
KINDS = (CameraInfo, PersonKeypointsArray)
KEYPOINTS = 1

CATCHING_UP = 0.6
"""Least time between two frames, as a share of the recorded one."""
REHEARSAL_NS = 900_000_000
"""How much older than the recording the frames are that try whether the node answers [ns]."""
SILENCE_S = 3.0
"""How long to wait for answers after the last frame [s]."""


class Player:
    """A ROS node that publishes a recording's frames and receives the meshes.

    Args:
        node_name: the mesh node's name.
        bag: the recording.
        limit: number of frames to play; 0: all.
        keep: stamps [ns] of the frames whose meshes are kept.
        processes: the demo's processes, which must stay alive.
        outcome: the counts to fill.

    Attributes:
        topology: the body's triangles and joints, once they came.
        kept: frames by stamp.
    """

    def __init__(
        self,
        node_name: str,
        bag: Path,
        limit: int,
        keep: set[int],
        processes: Processes,
        outcome: Outcome,
    ) -> None:
        topics = (the_topic(bag, CAMERA_TYPE), the_topic(bag, KEYPOINTS_TYPE))
        self._frames = _read_frames(bag, limit, topics)
        stamps = [stamp_ns_of(message.header) for _, group in self._frames for _, message in group]
        self._first_stamp_ns, self._answered = min(stamps), False
        self._rehearsal_ns = self._first_stamp_ns - REHEARSAL_NS
        with_people = (
            group
            for _, group in self._frames
            if any(which == KEYPOINTS and message.people for which, message in group)
        )
        self._rehearsal = copy.deepcopy(next(with_people, self._frames[0][1]))
        self._keep, self._processes, self._outcome = keep, processes, outcome
        self.topology: BodyTopology | None = None
        self.kept: dict[int, MeshFrame] = {}
        self._node = node = rclpy.create_node("demo_player")
        self._publishers = [
            node.create_publisher(kind, topic, RELIABLE)
            for kind, topic in zip(KINDS, topics, strict=True)
        ]
        node.create_subscription(BodyTopology, f"{node_name}/topology", self._on_topology, LATCHED)
        self._meshes = node.create_subscription(
            BodyMeshArray, f"{node_name}/meshes", self._on_meshes, RELIABLE
        )
        self._get_state = node.create_client(GetState, f"{node_name}/get_state")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def _on_topology(self, message: BodyTopology) -> None:
        self.topology = message

    def _on_meshes(self, message: BodyMeshArray) -> None:
        stamp = stamp_ns_of(message.header)
        if stamp < self._first_stamp_ns:
            self._answered = True
            return
        errors = [body.reprojection_error for body in message.bodies]
        with_mesh = any(len(body.vertices) for body in message.bodies)
        self._outcome.answer(stamp, time.monotonic_ns(), errors, with_mesh)
        if stamp in self._keep and stamp not in self.kept:
            self.kept[stamp] = mesh_frame(message)

    def wait_until_ready(self, seconds: float) -> None:
        """Waits until the node is active, all topics are matched, and the node answers.

        Raises:
            DemoError: the node ended, or was not active and answering in time.
        """
        end = time.monotonic() + seconds
        while not (self._connected() and self._active(end) and self._answers()):
            self._processes.check_alive()
            if time.monotonic() > end:
                raise DemoError(f"the node was not active after {seconds:g} s")
            self._executor.spin_once(timeout_sec=0.05)

    def _connected(self) -> bool:
        heard = all(publisher.get_subscription_count() for publisher in self._publishers)
        return heard and self._meshes.get_publisher_count() > 0 and self.topology is not None

    def _active(self, end: float) -> bool:
        # An answer sent during discovery may get lost, hence the limit of one second.
        if not self._get_state.service_is_ready():
            return False
        future: Future = self._get_state.call_async(GetState.Request())
        timeout = min(1.0, max(0.0, end - time.monotonic()))
        self._executor.spin_until_future_complete(future, timeout_sec=timeout)
        return future.done() and future.result().current_state.label == "active"

    def _answers(self) -> bool:
        """Whether the node answers a frame that is older than the recording.

        Only an answer shows that the topics are matched on both sides.
        """
        self._rehearsal_ns += 1_000_000  # the node drops a frame that is not newer
        for which, message in self._rehearsal:
            message.header.stamp = Time(nanoseconds=self._rehearsal_ns).to_msg()
            self._publishers[which].publish(message)
        self._spin_until(time.monotonic() + 0.2)
        return self._answered

    def play(self, rate: float, measured: bool = True) -> None:
        """Publish the frames at `rate` times the recorded speed, and wait for the answers.

        Raises:
            DemoError: one of the processes ended.
        """
        begin = soonest = time.monotonic()
        first = self._frames[0][0]
        for at, (recorded_ns, messages) in enumerate(self._frames):
            due = begin + (recorded_ns - first) / 1e9 / rate
            self._spin_until(max(due, soonest))
            # A camera never sends two images at once, so a late player catches up gradually;
            # otherwise the node, which processes only the newest frame, would drop some.
            following = self._frames[min(at + 1, len(self._frames) - 1)][0]
            soonest = time.monotonic() + CATCHING_UP * (following - recorded_ns) / 1e9 / rate
            for which, message in messages:
                if which == KEYPOINTS and measured:
                    self._outcome.sent[stamp_ns_of(message.header)] = time.monotonic_ns()
                self._publishers[which].publish(message)
            self._processes.check_alive()
            if measured:
                self._show()
        end = time.monotonic() + (SILENCE_S if measured else 0.5)
        while time.monotonic() < end and not (measured and self._outcome.complete()):
            self._executor.spin_once(timeout_sec=0.05)
        if measured:
            self._show()
            print(file=sys.stderr)

    def _spin_until(self, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def _show(self) -> None:
        if sys.stderr.isatty():
            sent, meshes = len(self._outcome.sent), len(self._outcome.meshes)
            text = f"\r  {sent} frames played, {meshes} came back as meshes "
            print(text, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()


def _read_frames(bag: Path, limit: int, topics: tuple[str, ...]) -> list[tuple[int, list]]:
    """Per instant [ns], what to publish: a list of (index of the topic, message), camera first."""
    messages = [
        (recorded_ns, which, deserialize_message(data, KINDS[which]))
        for which, topic in enumerate(topics)
        for _, recorded_ns, data in raw_topics(bag, [topic])
    ]
    messages.sort(key=itemgetter(0, 1))
    frames = [
        (recorded_ns, [message[1:] for message in group])
        for recorded_ns, group in groupby(messages, key=itemgetter(0))
    ]
    return frames[: limit or None]
