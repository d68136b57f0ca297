# SPDX-License-Identifier: Apache-2.0
"""Arbitrary messages of every input type over DDS, with a good one after every batch.

The node must live, answer each good message with the numbers that it gave before the first bad
one, and never publish a number that is not finite. It smooths, so that whatever bad messages leave
in its memory would show.
"""

import time
from importlib import import_module

import numpy as np
import pytest
from helpers_detectors import store, yolo_message, zed_message
from helpers_fuzz import bodies, cameras, ours, skeletons, stamped, variants, yolo, zed
from helpers_ros import camera_info, client, node_process, people, person, standing
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from key2mesh_core.keypoints.layouts import get_layout

KEYPOINTS = "/mesh_node/keypoints"
IDS = "/humans/bodies/tracked"
CAMERA = "/mesh_node/camera_info"
EXAMPLES = 35
"""Batches in one run of hypothesis; the next run has another seed."""
VARIANTS = 16
"""Messages that are made of each one that hypothesis draws."""


pytestmark = pytest.mark.usefixtures("interfaces")


def test_arbitrary_keypoints(bundle, tmp_path, amount):
    fuzz("key2mesh", {KEYPOINTS: ours()}, good_key2mesh, bundle, tmp_path, amount(1000, 400_000))


def test_arbitrary_yolo(bundle, tmp_path, amount):
    fuzz("yolo", {KEYPOINTS: yolo()}, good_yolo, bundle, tmp_path, amount(500, 200_000))


def test_arbitrary_zed(bundle, tmp_path, amount):
    fuzz("zed", {KEYPOINTS: zed()}, good_zed, bundle, tmp_path, amount(500, 200_000))


def test_arbitrary_hri(bundle, tmp_path, amount):
    topics = {f"/humans/bodies/{name}/skeleton2d": skeletons() for name in "abc"}
    topics[IDS] = bodies()
    fuzz("hri", topics, good_hri, bundle, tmp_path, amount(500, 200_000))


def fuzz(kind, topics, good, model, folder, count):
    """Send `count` bad messages of these topics and of the camera, and good ones between them."""
    each = st.one_of(*(strategy.map(lambda m, t=t: (t, m)) for t, strategy in topics.items()))
    camera = cameras().map(lambda message: (CAMERA, message))
    batches = st.lists(st.one_of(each, each, each, each, camera), min_size=1, max_size=6)
    # Where bad messages name no image, good ones of other detectors need its size.
    options = {"image_width": 640, "image_height": 480, "diagnostics_period": 0.2}
    options |= {"input_type": kind, "smoothing": True, "model": model}
    with node_process(folder / "log", **options) as process, client() as probe:
        sender = Sender(probe, process, good)
        runs = 0
        while sender.sent < count:

            @seed(runs)
            @settings(
                max_examples=EXAMPLES,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(batches, st.integers(0, 2**32 - 1))
            def batch(drawn, number):
                if sender.sent < count:
                    sender.send_bad(drawn, number)
                    sender.check_good()

            batch()
            runs += 1
        probe.fresh_status()
        print(f"{kind}: {sender.sent} messages, {sender.checked} good ones; {probe.values}")


class Sender:
    """Sends messages to one node, and compares its answers to good ones."""

    def __init__(self, probe, process, good):
        self._probe, self._process, self._good = probe, process, good
        # No topic can have two types in one process: the client's own publisher goes.
        probe.destroy_publisher(probe.keypoints)
        self._publishers = {}
        self._stamp = 1_000_000
        self.sent = self.checked = 0
        probe.wait(self._camera_known, "the camera to be known", seconds=60)
        self._expected = numbers(self._answer())

    def _publisher(self, message, topic):
        if topic not in self._publishers:
            quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
            self._publishers[topic] = self._probe.create_publisher(type(message), topic, quality)
        return self._publishers[topic]

    def _camera_known(self):
        self._answer()
        self._probe.fresh_status()
        return self._probe.values.get("camera") == "CameraInfo"

    def send_bad(self, drawn, number):
        """Variants of some messages, at a pace at which the node reads most of them."""
        for topic, message in drawn:
            publisher = self._publisher(message, topic)
            for data in variants(message, VARIANTS, number):
                publisher.publish(data)
                self.sent += 1
                self._probe.executor_.spin_once(timeout_sec=0.0005)

    def check_good(self):
        """The answer to a good message is the first one's. Asked again where a spoilt camera came
        late; what spoilt the node itself would still be there."""
        self.checked += 1
        for _ in range(3):
            answer = numbers(self._answer())
            if np.allclose(answer, self._expected, rtol=1e-3, atol=1e-4):
                return
        raise AssertionError(f"a wrong answer after {self.sent} messages: {answer[:5]}")

    def _answer(self):
        """The answer to a good message of somebody who was never seen before."""
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            self._stamp += 10
            camera = camera_info()
            self._publisher(camera, CAMERA).publish(camera)
            for topic, message in self._good(f"good{self._stamp}", self._stamp):
                self._publisher(message, topic).publish(message)
                self._probe.spin(0.02)  # the node keeps the newest of a topic only
            pause = time.monotonic() + 0.5
            while time.monotonic() < pause:
                meshes, self._probe.meshes[:] = list(self._probe.meshes), []
                for each in meshes:
                    assert np.isfinite(numbers(each)).all(), f"near message {self.sent}"
                    if each.header.stamp.sec == self._stamp and len(each.bodies) == 1:
                        return each
                self._probe.executor_.spin_once(timeout_sec=0.02)
            assert self._process.running(), self._process.log[-3000:]
        raise AssertionError(f"a good message got no body within 30 s: {self._process.log[-3000:]}")


def numbers(message):
    """Every number that is published about bodies."""
    parts = [np.zeros(0)]
    for body in message.bodies:
        at = body.position
        parts.append(np.array([body.quality, body.reprojection_error, at.x, at.y, at.z]))
        parts += [np.asarray(each) for each in (body.betas, body.pose, body.joints, body.vertices)]
    return np.concatenate(parts)


def good_key2mesh(name, stamp):
    message = people(stamp=float(stamp))
    message.people.append(person(standing(), name))
    return [(KEYPOINTS, message)]


def good_yolo(name, stamp):
    message = yolo_message(stamp * 1_000_000_000, [(name, in_layout("coco_17"))])
    return [(KEYPOINTS, native(message))]


def good_zed(name, stamp):
    points = in_layout("zed_38")
    pixels = np.where(points[:, 2:] > 0, points[:, :2], -1.0)
    message = zed_message(stamp * 1_000_000_000, [(100 + stamp % 30_000, pixels)], 2)
    return [(KEYPOINTS, native(message))]


def good_hri(name, stamp):
    from hri_msgs.msg import IdsList, NormalizedPointOfInterest2D, Skeleton2D

    points = in_layout("hri_18") / np.array([640.0, 480.0, 1.0])
    skeleton = [NormalizedPointOfInterest2D(x=x, y=y, c=c) for x, y, c in points.tolist()]
    topic = "/humans/bodies/good/skeleton2d"
    headers = [stamped(stamp + later, 0, "camera") for later in range(4)]
    # The others stay tracked and are not there: later images end the one that waits for them.
    return [
        (IDS, IdsList(header=headers[0], ids=["good", "a", "b", "c"])),
        *((topic, Skeleton2D(header=each, skeleton=skeleton)) for each in headers),
    ]


def in_layout(name):
    """(K, 3) keypoints of somebody upright."""
    layout = get_layout(name)
    result = np.zeros((len(layout), 3), np.float32)
    result[layout.network_indices] = standing()
    return result


def native(message):
    """A message of rosbags's as one of the installed package's."""
    package, _, name = message.__msgtype__.split("/")
    kind = getattr(import_module(f"{package}.msg"), name)
    return deserialize_message(bytes(store().serialize_cdr(message, message.__msgtype__)), kind)
