# SPDX-License-Identifier: Apache-2.0
"""A client of the mesh node for tests: another ROS node that talks to it over DDS.

Every method waits for a condition, and fails with a time-out that names it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from helpers_bundle import standing_person
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import MarkerArray

from key2mesh_ros.mesh_node import MeshNode
from key2mesh_ros.msg import BodyMeshArray, BodyTopology, PersonKeypoints, PersonKeypointsArray

PATIENCE_S = 20.0
"""Long enough for a loaded machine; only a failure takes this long."""

PLAIN = {"smoothing": False, "camera_info_timeout": 0.0}
"""A frame's answer depends on that frame alone, and comes at once, unless a test says otherwise."""

ENDING_S = 2.0
"""How long a program may take to end when it is told to."""

QUICK = {"diagnostics_period": 0.1}
"""For tests that wait for diagnostics."""

LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)

TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def person(keypoints: Any, name: str = "") -> PersonKeypoints:
    """Of (18, 3) keypoints."""
    x, y, confidence = (array("f", np.asarray(keypoints)[:, axis].tolist()) for axis in range(3))
    return PersonKeypoints(id=name, x=x, y=y, confidence=confidence)


def people(*keypoints: Any, stamp: float | None = None, **changes: Any) -> PersonKeypointsArray:
    """A good message of some (18, 3) keypoints, at `stamp` s or now; `changes` are fields."""
    message = PersonKeypointsArray(
        layout="openpose_coco_18",
        image_width=640,
        image_height=480,
        people=[person(each, str(number)) for number, each in enumerate(keypoints)],
    )
    message.header.frame_id = "camera"
    seconds = time.time() if stamp is None else stamp
    message.header.stamp = Time(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def standing(x: float = 320.0, y: float = 240.0, height: float = 300.0) -> np.ndarray:
    """(18, 3) keypoints of somebody upright."""
    return standing_person((x, y), height)[0]


def camera_info(fx: float = 600.0, width: int = 640, height: int = 480) -> CameraInfo:
    """Of the frame and the image size of `people`."""
    info = CameraInfo(width=width, height=height)
    info.header.frame_id = "camera"
    info.k = [fx, 0.0, width / 2, 0.0, fx, height / 2, 0.0, 0.0, 1.0]
    return info


def allowed_s() -> float:
    """`ENDING_S`, and in proportion more while other work keeps the processors busy."""
    return ENDING_S * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


class Client(Node):
    """Talks to the mesh node at `node`, and remembers what it says."""

    def __init__(self, node: str = "/mesh_node", context: Context | None = None) -> None:
        super().__init__("client", context=context)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.node = node
        self.meshes: list[BodyMeshArray] = []
        self.topologies: list[BodyTopology] = []
        self.markers: list[MarkerArray] = []
        self.status: DiagnosticStatus | None = None
        self.statuses: list[DiagnosticStatus] = []
        self.keypoints = self.create_publisher(PersonKeypointsArray, f"{node}/keypoints", newest)
        self.camera = self.create_publisher(CameraInfo, f"{node}/camera_info", newest)
        self.create_subscription(BodyMeshArray, f"{node}/meshes", self.meshes.append, 100)
        self.create_subscription(BodyTopology, f"{node}/topology", self.topologies.append, LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.executor_ = SingleThreadedExecutor(context=self.context)
        self.executor_.add_node(self)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self.node:
                self.status = status
                self.statuses.append(status)

    def watch_markers(self) -> Any:
        """Subscribe to the markers; the subscription, to be destroyed by who made it."""
        return self.create_subscription(
            MarkerArray, f"{self.node}/markers", self.markers.append, 10
        )

    @property
    def values(self) -> dict[str, str]:
        """The newest diagnostics."""
        return {} if self.status is None else {v.key: v.value for v in self.status.values}

    def number(self, key: str) -> int:
        """A count of the newest diagnostics; what is not listed has not happened."""
        return int(self.values.get(key, "0"))

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
        """Spin until `condition` holds; its value."""
        limit = time.monotonic() + seconds
        while not (result := condition()):
            assert time.monotonic() < limit, f"waited {seconds} s for {what}"
            self.executor_.spin_once(timeout_sec=0.05)
        return result

    def spin(self, seconds: float) -> None:
        """Listen for a while."""
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            self.executor_.spin_once(timeout_sec=left)

    def fresh_status(self) -> DiagnosticStatus:
        """Diagnostics of a period that began after this call."""
        for _ in range(2):  # the first may be of a period that had begun before
            self.status = None
            self.wait(lambda: self.status, "diagnostics")
        return self.status

    def wait_for_node(self) -> None:
        """Until the node hears and is heard."""
        self.wait(
            lambda: (
                self.keypoints.get_subscription_count() and self.camera.get_subscription_count()
            ),
            "the node to subscribe",
        )
        self.wait(lambda: self.topologies, "the topology")
        self.wait(lambda: self.count_publishers(f"{self.node}/meshes"), "the mesh topic")

    def exchange(self, message: PersonKeypointsArray, seconds: float = PATIENCE_S) -> BodyMeshArray:
        """Send until the meshes of this message come: sensor data may be lost on the way."""
        stamp, data = message.header.stamp, serialize_message(message)  # once: it may be large

        def answer() -> BodyMeshArray | None:
            return next((m for m in self.meshes if m.header.stamp == stamp), None)

        limit = time.monotonic() + seconds
        while answer() is None:
            assert time.monotonic() < limit, f"no meshes of a message within {seconds} s"
            self.keypoints.publish(data)
            pause = time.monotonic() + 1.0
            while answer() is None and time.monotonic() < pause:
                self.executor_.spin_once(timeout_sec=0.05)
        return answer()

    def exchange_again(self, message: PersonKeypointsArray) -> BodyMeshArray:
        """`exchange`, also of a message that was answered before."""
        self.meshes.clear()
        return self.exchange(message)

    def send_until_counted(self, message: PersonKeypointsArray, key: str) -> None:
        """Send until the diagnostics count one more of `key`."""
        before = self.number(key)
        limit = time.monotonic() + PATIENCE_S
        while self.number(key) <= before:
            assert time.monotonic() < limit, f"'{key}' was not counted: {self.values}"
            self.keypoints.publish(message)
            self.spin(0.2)

    def ask(self, kind: Any, service: str, request: Any) -> Any:
        """Call a service of the node."""
        client = self.create_client(kind, f"{self.node}/{service}")
        try:
            self.wait(client.service_is_ready, f"service {service}")
            future = client.call_async(request)
            self.wait(future.done, f"an answer from {service}")
            return future.result()
        finally:
            self.destroy_client(client)

    def change_state(self, transition: str | int) -> bool:
        """Ask for a transition, by name or number; whether it succeeded."""
        number = TRANSITIONS.get(transition, transition)
        request = ChangeState.Request(transition=Transition(id=number))
        return self.ask(ChangeState, "change_state", request).success

    def bring(self, transition: str, state: str) -> None:
        """Ask for a transition, and wait for the state instead of the answer.

        A process that has just discovered us may answer before it knows where to.
        """
        client = self.create_client(ChangeState, f"{self.node}/change_state")
        try:
            self.wait(client.service_is_ready, "change_state")
            request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
            client.call_async(request)
            self.wait(lambda: self.state() == state, f"the state '{state}'")
        finally:
            self.destroy_client(client)

    def state(self) -> str:
        """The lifecycle's state; asked for again if no answer comes (see `bring`)."""
        client = self.create_client(GetState, f"{self.node}/get_state")
        try:
            self.wait(client.service_is_ready, "get_state")
            limit = time.monotonic() + PATIENCE_S
            while time.monotonic() < limit:
                future = client.call_async(GetState.Request())
                self.executor_.spin_until_future_complete(future, timeout_sec=1.0)
                if future.done():
                    return future.result().current_state.label
            raise AssertionError(f"no answer from get_state within {PATIENCE_S} s")
        finally:
            self.destroy_client(client)

    def set_parameters(self, **values: Any) -> list[tuple[bool, str]]:
        """(whether it succeeded, why not) of each."""
        parameters = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        results = self.ask(SetParameters, "set_parameters", request).results
        return [(each.successful, each.reason) for each in results]

    def close(self) -> None:
        self.executor_.shutdown()
        self.destroy_node()


@contextmanager
def client(node: str = "/mesh_node", context: Context | None = None) -> Iterator[Client]:
    """A client, gone afterwards."""
    result = Client(node, context)
    try:
        yield result
    finally:
        result.close()


def make_node(namespace: str = "", **values: Any) -> MeshNode:
    """A mesh node in this process, not yet configured."""
    values = PLAIN | values
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    return MeshNode(namespace=namespace, parameter_overrides=overrides)


@contextmanager
def spinning(*nodes: Node, executor: Executor | None = None) -> Iterator[list[BaseException]]:
    """Some nodes, spun by a thread; what came out of `spin`, which should be nothing."""
    executor = executor or SingleThreadedExecutor()
    raised: list[BaseException] = []
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            try:
                executor.spin_once()
            except BaseException as error:
                traceback.print_exc()
                raised.append(error)

    for node in nodes:
        executor.add_node(node)
    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield raised
    finally:
        over.set()
        executor.create_task(bool)
        thread.join(10)
        for node in nodes:
            node.destroy_node()
        executor.shutdown()


@contextmanager
def node_here(**values: Any) -> Iterator[MeshNode]:
    """A mesh node in this process, not yet configured, spun by a thread."""
    node = make_node(**values)
    with spinning(node) as raised:
        yield node
    assert raised == []


class NodeProcess:
    """The mesh node in a process of its own, started by its entry point or another program."""

    def __init__(
        self,
        log: Path,
        arguments: Sequence[str],
        program: Sequence[str] = ("-m", "key2mesh_ros.mesh_node"),
    ) -> None:
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, *program, "--ros-args", *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "RCUTILS_COLORIZED_OUTPUT": "0"},
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for_log(self, text: str) -> None:
        limit = time.monotonic() + PATIENCE_S
        while text not in self.log:
            assert time.monotonic() < limit, f"'{text}' is not in the log: {self.log}"
            assert self.running(), f"the node ended: {self.log}"
            time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; exit code and seconds it took."""
        begin = time.monotonic()
        self._process.send_signal(number)
        return self._process.wait(PATIENCE_S), time.monotonic() - begin

    def signal(self, number: signal.Signals = signal.SIGINT) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code of a process that ends by itself."""
        return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        if self.running():
            self._process.kill()
            self._process.wait()


@contextmanager
def node_process(
    log: Path, program: Sequence[str] = ("-m", "key2mesh_ros.mesh_node"), **values: Any
) -> Iterator[NodeProcess]:
    """The node with these parameters, killed afterwards if it is still there."""
    arguments = []
    values = PLAIN | values
    for name, value in values.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        arguments += ["-p", f"{name}:={text}"]
    process = NodeProcess(log, arguments, program)
    try:
        yield process
    finally:
        process.kill()
