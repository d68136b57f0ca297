# SPDX-License-Identifier: Apache-2.0
"""Arbitrary messages of every input type over DDS, a good one behind every batch.

The node must live, answer each good message with the same numbers as before the first bad one,
and never publish a number that is not finite. It smooths, so that what bad messages leave behind
in its memory would show.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helpers_interfaces
import numpy as np
from builtin_interfaces.msg import Time
from helpers_detectors import store, yolo_message, zed_message
from helpers_ros import people, standing
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo

from benchmarks.reliability import messages
from benchmarks.reliability.checks import Outcome
from benchmarks.reliability.link import PATIENCE_S, Link, NoAnswer, link, numbers
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.people.messages import DETECTORS
from key2mesh_ros.detectors import message_class
from key2mesh_ros.msg import BodyMeshArray, PersonKeypointsArray

MESSAGES = 1_000_000
SHARES = {"key2mesh": 0.4, "yolo": 0.2, "zed": 0.2, "hri": 0.2}
"""Of the messages, by input type; a tenth of each are CameraInfo."""

VARIANTS = 16
"""Messages that are made of each of ours that hypothesis draws: the node reads the bytes itself."""

FEW_VARIANTS = 8
"""Likewise of other types, where the middleware refuses many spoilt bytes."""

TRIES = 3

EXAMPLES = 50
"""Batches in one run of hypothesis; the next begins with another seed."""

FIRST_STAMP_S = 1_000_000


@dataclass(frozen=True)
class Kind:
    """How one input type is fuzzed.

    Attributes:
        strategy: of messages, each with the topic it goes to.
        good: messages of a good person with a name and a stamp [s], each with its topic.
    """

    strategy: st.SearchStrategy[tuple[str, Any]]
    good: Callable[[str, int], list[tuple[str, Any]]]


TOPIC = "/mesh_node/keypoints"
IDS = "/humans/bodies/tracked"
CAMERA = "/mesh_node/camera_info"


def _on(topic: str, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, Any]]:
    return strategy.map(lambda message: (topic, message))


def kinds() -> dict[str, Kind]:
    """Every input type, by its name as a parameter."""
    bodies = [_on(f"/humans/bodies/{name}/skeleton2d", messages.skeletons()) for name in "abc"]
    return {
        "key2mesh": Kind(_on(TOPIC, messages.ours()), _good_ours),
        "yolo": Kind(_on(TOPIC, messages.yolo()), _good_yolo),
        "zed": Kind(_on(TOPIC, messages.zed()), _good_zed),
        "hri": Kind(st.one_of(_on(IDS, messages.bodies()), *bodies), _good_hri),
    }


def _good_ours(name: str, stamp: int) -> list[tuple[str, Any]]:
    message = people(standing(), stamp=float(stamp))
    message.people[0].id = name
    return [(TOPIC, message)]


def _in_layout(name: str) -> np.ndarray:
    layout = get_layout(name)
    result = np.zeros((len(layout), 3), np.float32)
    result[layout.network_indices] = standing()
    return result


def _native(kind: str, message: Any) -> Any:
    """A message of rosbags's as one of the installed package's."""
    return deserialize_message(bytes(store().serialize_cdr(message, kind)), message_class(kind))


def _good_yolo(name: str, stamp: int) -> list[tuple[str, Any]]:
    kind = DETECTORS["yolo"].types[0]
    message = yolo_message(stamp * 1_000_000_000, [(name, _in_layout("coco_17"))])
    return [(TOPIC, _native(kind, message))]


def _good_zed(name: str, stamp: int) -> list[tuple[str, Any]]:
    kind = DETECTORS["zed"].types[0]
    number = 100 + stamp % 30_000
    points = _in_layout("zed_38")
    pixels = np.where(points[:, 2:] > 0, points[:, :2], -1.0)
    return [(TOPIC, _native(kind, zed_message(stamp * 1_000_000_000, [(number, pixels)], 2)))]


def _good_hri(name: str, stamp: int) -> list[tuple[str, Any]]:
    from hri_msgs.msg import IdsList, NormalizedPointOfInterest2D, Skeleton2D

    points = _in_layout("hri_18") / np.array([640.0, 480.0, 1.0])
    skeleton = [NormalizedPointOfInterest2D(x=x, y=y, c=c) for x, y, c in points.tolist()]
    topic, header = "/humans/bodies/good/skeleton2d", messages.stamped(stamp, 0, "camera")
    # The others stay tracked, and are not there: the next image ends the one before.
    after = messages.stamped(stamp + 1, 0, "camera")
    return [
        (IDS, IdsList(header=header, ids=["good", "a", "b", "c"])),
        (topic, Skeleton2D(header=header, skeleton=skeleton)),
        (topic, Skeleton2D(header=after, skeleton=skeleton)),
    ]


def _readable(data: bytes, kind: type) -> bool:
    """Whether the middleware makes a message of these bytes."""
    with _no_errors_printed():
        try:
            deserialize_message(data, kind)
        except Exception:  # rclpy has no one type for it
            return False
    return True


@contextmanager
def _no_errors_printed() -> Iterator[None]:
    """The middleware writes a line to the terminal for everything that it refuses."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class Fuzzer:
    """One node under fire."""

    def __init__(self, node: Link, kind: Kind) -> None:
        self._node, self._kind = node, kind
        self._stamp = FIRST_STAMP_S
        self.sent = self.read = self.answers = 0
        self.wrong: list[str] = []
        self.not_finite: list[str] = []
        self.again = 0
        # A camera's message may come late: the first answers are of an assumed one then.
        node.wait(self._camera_known, "the camera to be known")
        self._expected = numbers(self._good())

    @property
    def strategy(self) -> st.SearchStrategy[tuple[str, Any]]:
        return self._kind.strategy

    def batch(self, drawn: list[tuple[str, Any]], seed_: int) -> None:
        """Send variants of some messages, then a good one."""
        for topic, message in drawn:
            publisher = self._node.publisher(type(message), topic, wait=False)
            if not publisher.get_subscription_count():
                continue  # of a body that the node does not follow now
            raw = isinstance(message, PersonKeypointsArray)  # whose bytes the node reads itself
            count = VARIANTS if raw else FEW_VARIANTS
            for data in messages.variants(message, count, seed_):
                self.sent += 1
                # Bytes that the middleware itself refuses are not acknowledged.
                patience = 0.5 if raw or _readable(data, type(message)) else 0.0
                self.read += self._node.send(publisher, data, patience)
            self._look()
        self.answers += 1
        # Asked again where a spoilt camera came late, between the good one and the question; what
        # spoilt the node itself would be there still.
        for _ in range(TRIES):
            answer = numbers(self._good())
            if answer.shape == self._expected.shape and np.allclose(
                answer, self._expected, rtol=1e-3, atol=1e-4
            ):
                return
            self.again += 1
        self.wrong.append(f"behind {self.sent} messages: {answer[:5]}")

    def _camera_known(self) -> bool:
        self._good()
        return self._node.fresh_values().get("camera") == "CameraInfo"

    def _good(self) -> BodyMeshArray:
        """The answer to a good message of somebody who was never seen before."""
        limit = time.monotonic() + PATIENCE_S
        while True:
            self._look()
            self._stamp += 10
            camera = self._node.publisher(CameraInfo, CAMERA)
            self._node.send(camera, self._node.camera())
            parts = self._kind.good(f"good{self._stamp}", self._stamp)
            for topic, message in parts[:-1]:
                self._node.send(self._node.publisher(type(message), topic), message)
            topic, message = parts[-1]
            stamp = Time(sec=self._stamp)
            answer = self._node.exchange(
                self._node.publisher(type(message), topic), message, stamp, seconds=1.0
            )
            if answer is not None and len(answer.bodies) == 1:
                return answer
            if time.monotonic() > limit:
                raise NoAnswer(f"a good message got no body within {PATIENCE_S} s")

    def _look(self) -> None:
        """At what was published for bad messages."""
        self._node.drain()
        for message in self._node.meshes:
            if not np.isfinite(numbers(message)).all():
                self.not_finite.append(f"near message {self.sent}")
        self._node.meshes.clear()


def run(
    model: str,
    folder: Path,
    count: int = MESSAGES,
    only: Sequence[str] = tuple(SHARES),
    say: Callable[[str], None] = print,
) -> Outcome:
    """`count` messages, shared out over the input types."""
    helpers_interfaces.use(helpers_interfaces.built())
    result, total = Outcome(), sum(SHARES[each] for each in only)
    for name in only:
        wanted = round(count * SHARES[name] / total)
        (folder / name).mkdir(parents=True, exist_ok=True)
        # Where bad messages name no image, good ones of other detectors need its size.
        size = {"image_width": 640, "image_height": 480}
        with link(model, folder / name, input_type=name, **size) as node:
            _run_kind(result, name, Fuzzer(node, kinds()[name]), node, wanted, say)
    return result


def _run_kind(
    result: Outcome,
    name: str,
    fuzzer: Fuzzer,
    node: Link,
    wanted: int,
    say: Callable[[str], None],
) -> None:
    begin, died, run_number = time.monotonic(), [], 0
    while fuzzer.sent < wanted and not died:
        try:
            _hypothesise(fuzzer, wanted, run_number)
        except NoAnswer as error:
            died.append(str(error))
        run_number += 1
        rate = fuzzer.sent / (time.monotonic() - begin)
        say(f"fuzz: {name}: {fuzzer.sent} messages, {rate:.0f} a second")
    if not died:
        values = node.fresh_values()
        result.figures[f"{name}.diagnostics"] = values
    seconds = time.monotonic() - begin
    read = f"{fuzzer.sent:,} sent, {fuzzer.read:,} read, {fuzzer.answers:,} good ones answered"
    result.check(f"{name}: the node lives", died[0] if died else read, not died)
    result.none(f"{name}: wrong answer to a good message", fuzzer.wrong)
    result.none(f"{name}: number that is not finite", fuzzer.not_finite)
    result.figures[name] = {
        "sent": fuzzer.sent,
        "read": fuzzer.read,
        "good": fuzzer.answers,
        "asked_again": fuzzer.again,
        "seconds": round(seconds, 1),
    }


def _hypothesise(fuzzer: Fuzzer, wanted: int, run_number: int) -> None:
    each = fuzzer.strategy
    camera = _on(CAMERA, messages.cameras())

    @seed(run_number)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.one_of(each, each, each, each, camera), min_size=1, max_size=6), _SEEDS)
    def batch(drawn: list[tuple[str, Any]], seed_: int) -> None:
        if fuzzer.sent < wanted:
            fuzzer.batch(drawn, seed_)

    batch()


_SEEDS = st.integers(0, 2**32 - 1)
