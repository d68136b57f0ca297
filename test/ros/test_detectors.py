# SPDX-License-Identifier: Apache-2.0
"""Other detectors: the real node on real messages of packages built with those projects' fields."""

import os
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from helpers_detectors import YOLO, ZED, store, yolo_message, zed_message
from helpers_ros import QUICK, camera_info, client, node_here, node_process, people, standing
from hypothesis import given
from hypothesis import strategies as st
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.keypoints.layouts import get_layout, to_network
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.messages import DETECTORS
from key2mesh_ros.detectors import DetectorError, message_class
from key2mesh_ros.hri import Gatherer, Skeletons, skeletons_reader

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CAMERA = {"camera_fx": 600.0, "camera_cx": 320.0, "camera_cy": 240.0}
QUICK_WITH_CAMERA = {**QUICK, **CAMERA}
TOPIC = "/mesh_node/keypoints"


@contextmanager
def context_of_its_own():
    """In each context a topic has one type."""
    context = Context()
    context.init()
    try:
        yield context
    finally:
        context.try_shutdown()


@contextmanager
def active_node(bundle, **values):
    """A client of an active node, where nobody publishes keypoints yet."""
    values = {"model": str(bundle), **QUICK_WITH_CAMERA, **values}
    with (
        node_here(**values),
        context_of_its_own() as context,
        client(context=context) as probe,
    ):
        probe.destroy_publisher(probe.keypoints)
        probe.bring("configure", "inactive")
        probe.bring("activate", "active")
        probe.wait(lambda: probe.topologies, "the topology")
        yield probe


def in_layout(name, keypoints):
    """(18, 3) of the network in a detector's layout: what that does not share is unseen."""
    layout = get_layout(name)
    result = np.zeros((len(layout), 3), np.float32)
    result[layout.network_indices] = keypoints
    if "neck" not in layout.keypoint_names:  # whose place a shoulder took
        result[layout.keypoint_names.index("right_shoulder")] = keypoints[2]
    return result


def expected(bundle, layout, *persons):
    """What the estimator makes of persons who went through a detector's layout."""
    keypoints = sanitise(to_network(layout, np.stack([in_layout(layout, p) for p in persons])))
    return Estimator(load_bundle(bundle)).estimate(
        keypoints, Intrinsics(600.0, 600.0, 320.0, 240.0)
    )


def answered(probe, send):
    """Send until meshes come; those."""
    probe.meshes.clear()
    limit = time.monotonic() + 20
    while not probe.meshes:
        assert time.monotonic() < limit, f"no meshes; {probe.status}"
        send()
        probe.spin(0.1)
    return probe.meshes[-1]


def places(message):
    return [[b.position.x, b.position.y, b.position.z] for b in message.bodies]


def test_yolo_is_found_and_read(interfaces, bundle):
    first, second = standing(200.0), standing(450.0, height=200.0)
    second[[4, 7]] = 0.0  # the model was unsure of the wrists: they are absent
    persons = [in_layout("coco_17", each) for each in (first, second)]
    message = yolo_message(5_000_000_007, [("7", persons[0]), ("", persons[1])])
    with active_node(bundle) as probe:
        publisher = probe.create_publisher(message_class(YOLO), TOPIC, NEWEST)
        result = answered(
            probe, lambda: publisher.publish(bytes(store().serialize_cdr(message, YOLO)))
        )
        wanted = expected(bundle, "coco_17", first, second)
        np.testing.assert_allclose(places(result), wanted.translation, rtol=1e-5)
        assert result.bodies[0].id == "7"
        assert result.header.frame_id == "eye"
        assert (result.header.stamp.sec, result.header.stamp.nanosec) == (5, 7)
        assert probe.fresh_status().level != DiagnosticStatus.ERROR


def test_every_skeleton_of_a_zed_is_read(interfaces, bundle):
    person = standing(300.0)
    with active_node(bundle, input_type="zed") as probe:
        publisher = probe.create_publisher(message_class(ZED), TOPIC, NEWEST)
        for number, layout in enumerate(("openpose_coco_18", "zed_34", "zed_38")):
            points = in_layout(layout, person)
            pixels = np.where(points[:, 2:] > 0, points[:, :2], -1.0)
            message = zed_message((5 + number) * 1_000_000_000, [(3 + number, pixels)], number)
            data = bytes(store().serialize_cdr(message, ZED))
            result = answered(probe, lambda data=data: publisher.publish(data))
            seen = person.copy()
            seen[:, 2] = 0.75  # the body's: there is none for each keypoint
            wanted = expected(bundle, layout, seen)
            np.testing.assert_allclose(places(result), wanted.translation, rtol=1e-5)
            assert [body.id for body in result.bodies] == [str(3 + number)]


@pytest.mark.parametrize("depth", ["none", "image"])
def test_a_zed_that_publishes_at_half_its_resolution(interfaces, bundle, depth):
    """Pixels are of the image that it grabs, the header names the camera's body frame, CameraInfo
    and depth are of the published images and of their optical frame."""
    person = in_layout("zed_38", standing(300.0))
    seen = person[:, 2] > 0
    distance = np.where(seen, np.linspace(2.8, 3.2, 38), 0.0)
    ray = (person[:, :2] - [320.0, 240.0]) / 600.0
    joints = np.stack([distance, -distance * ray[:, 0], -distance * ray[:, 1]], axis=1)
    pixels = np.where(person[:, 2:] > 0, 2 * person[:, :2], -1.0)  # of 1280 x 960 px
    message = zed_message(5_000_000_000, [(3, pixels, joints)], 2, "zed_left_camera_frame")
    optical = "zed_left_camera_frame_optical"
    info = camera_info(fx=600.0)
    info.p = [600.0, 0.0, 320.0, 0.0, 0.0, 600.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    info.header.frame_id = optical
    image = Image(width=640, height=480, encoding="32FC1", step=4 * 640)
    image.header = Header(frame_id=optical, stamp=Time(sec=5))
    image.data = np.full((480, 640), 5.0, np.float32).tobytes()
    values = {"camera_fx": 0.0, "camera_cx": 0.0, "camera_cy": 0.0, "image_rectified": True}
    with active_node(bundle, input_type="zed", depth=depth, **values) as probe:
        publisher = probe.create_publisher(message_class(ZED), TOPIC, NEWEST)
        depths = probe.create_publisher(Image, "/mesh_node/depth", NEWEST)

        def send():
            probe.camera.publish(info)
            depths.publish(image)
            probe.spin(0.1)
            publisher.publish(bytes(store().serialize_cdr(message, ZED)))

        probe.wait(
            lambda: answered(probe, send) and "scaled" in probe.values.get("camera", ""),
            "CameraInfo",
        )
        result = answered(probe, send)
        assert result.header.frame_id == optical
        status = probe.fresh_status()
        assert "warning.unknown_resolution" not in probe.values, status
        assert "warning.depth_frame" not in probe.values
        assert "warning.camera_info_frame" not in probe.values
        if depth == "image":
            probe.wait(lambda: 4.8 < places(answered(probe, send))[0][2] < 5.5, "the depth")
        else:
            person[:, 2] *= 0.75
            wanted = expected(bundle, "zed_38", to_network("zed_38", person[None])[0])
            np.testing.assert_allclose(places(result), wanted.translation, rtol=1e-4)


class Bodies:
    """A ROS4HRI detector of some bodies."""

    def __init__(self, probe, *names):
        from hri_msgs.msg import IdsList, NormalizedPointOfInterest2D, Skeleton2D

        self.probe, self.ids_type, self.skeleton_type = probe, IdsList, Skeleton2D
        self.point_type = NormalizedPointOfInterest2D
        self.tracked = probe.create_publisher(IdsList, "/humans/bodies/tracked", 1)
        self.bodies = {
            name: probe.create_publisher(Skeleton2D, f"/humans/bodies/{name}/skeleton2d", 1)
            for name in names
        }

    def header(self, stamp):
        return Header(frame_id="camera", stamp=Time(sec=stamp))

    def send_ids(self, stamp, *names):
        self.tracked.publish(self.ids_type(header=self.header(stamp), ids=list(names)))

    def send(self, stamp, **persons):
        for name, keypoints in persons.items():
            points = in_layout("hri_18", keypoints) / [640.0, 480.0, 1.0]
            skeleton = [self.point_type(x=x, y=y, c=c) for x, y, c in points.tolist()]
            message = self.skeleton_type(header=self.header(stamp), skeleton=skeleton)
            self.bodies[name].publish(message)


def test_ros4hri_bodies_are_put_together_by_their_stamps(interfaces, bundle):
    anna, bert = standing(200.0), standing(450.0, height=200.0)
    with active_node(bundle) as probe:
        detector = Bodies(probe, "anna", "bert")
        stamp = [10]

        def both():
            stamp[0] += 1
            detector.send_ids(stamp[0], "anna", "bert")
            probe.camera.publish(camera_info())  # which says how large the image is
            detector.send(stamp[0], anna=anna, bert=bert)

        probe.wait(lambda: len(answered(probe, both).bodies) == 2, "a frame of both")
        result = {body.id: body for body in probe.meshes[-1].bodies}
        assert set(result) == {"anna", "bert"}
        wanted = expected(bundle, "hri_18", anna, bert)
        for name, place in zip(("anna", "bert"), wanted.translation, strict=True):
            found = result[name].position
            np.testing.assert_allclose([found.x, found.y, found.z], place, rtol=1e-4)
        # Somebody who is tracked and not seen holds up a frame until the image after the next.
        probe.meshes.clear()
        for stamp in (100, 101):
            detector.send(stamp, anna=anna)
            probe.spin(0.3)
        assert probe.meshes == []
        detector.send(102, anna=anna)
        probe.wait(lambda: any(m.header.stamp.sec == 102 for m in probe.meshes), "the newest")
        assert [[b.id for b in message.bodies] for message in probe.meshes][-1] == ["anna"]
        stamps = [message.header.stamp.sec for message in probe.meshes]
        assert stamps == sorted(stamps)
        # Nobody.
        probe.meshes.clear()
        detector.send_ids(103)
        probe.wait(lambda: any(m.header.stamp.sec == 103 for m in probe.meshes), "nobody")
        assert len(probe.meshes[-1].bodies) == 0


@contextmanager
def elsewhere():
    """Another client, for whom a topic may have another type."""
    with context_of_its_own() as context:
        node = Node("another_client", context=context)
        try:
            yield node
        finally:
            node.destroy_node()


def test_another_detector_is_followed_when_it_takes_over(interfaces, bundle):
    with active_node(bundle) as probe:
        person = in_layout("coco_17", standing())
        message = bytes(store().serialize_cdr(yolo_message(1_000_000_000, [("1", person)]), YOLO))
        with elsewhere() as other:
            yolo = other.create_publisher(message_class(YOLO), TOPIC, NEWEST)
            answered(probe, lambda: yolo.publish(message))
        ours = probe.create_publisher(type(people()), TOPIC, NEWEST)
        result = answered(probe, lambda: ours.publish(people(standing(), stamp=9.0)))
        assert result.header.stamp.sec == 9


def test_what_cannot_be_read_is_named_and_what_can(bundle):
    with active_node(bundle) as probe:
        probe.create_publisher(String, TOPIC, NEWEST)
        probe.wait(lambda: "std_msgs/msg/String" in probe.fresh_status().message, "the complaint")
        assert probe.status.level == DiagnosticStatus.ERROR
        assert "yolo_msgs/msg/DetectionArray" in probe.status.message
        assert "remap" in probe.status.message


def test_a_missing_package_fails_configure_by_name(bundle, monkeypatch):
    for name in ("yolo_msgs", "yolo_msgs.msg", "yolov8_msgs", "yolov8_msgs.msg"):
        monkeypatch.setitem(sys.modules, name, None)
    with node_here(model=str(bundle), input_type="yolo", **QUICK_WITH_CAMERA), client() as probe:
        assert not probe.change_state("configure")
        status = probe.fresh_status()
        assert status.level == DiagnosticStatus.ERROR
        assert "yolo_msgs is not installed" in status.message
        assert "source the workspace" in status.message
        assert probe.set_parameters(input_type="auto") == [(True, "")]
        assert probe.change_state("configure")


def test_auto_says_which_package_is_missing_and_waits(interfaces, bundle, tmp_path, monkeypatch):
    kept = [p for p in os.environ["PYTHONPATH"].split(":") if "test_interfaces" not in p]
    monkeypatch.setenv("PYTHONPATH", ":".join(kept))
    values = {"model": bundle, **QUICK_WITH_CAMERA}
    with node_process(tmp_path / "log", **values), client() as probe:
        probe.destroy_publisher(probe.keypoints)
        with elsewhere() as other:
            other.create_publisher(message_class(YOLO), TOPIC, NEWEST)
            probe.wait(lambda: "not installed" in probe.fresh_status().message, "the complaint")
            assert "yolo_msgs" in probe.status.message
            assert probe.status.level == DiagnosticStatus.ERROR
        ours = probe.create_publisher(type(people()), TOPIC, NEWEST)
        answered(probe, lambda: ours.publish(people(standing())))
        probe.wait(lambda: probe.fresh_status().level != DiagnosticStatus.ERROR, "no complaint")


def test_a_package_without_the_message_is_another_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "zed_msgs", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "zed_msgs.msg", SimpleNamespace())
    with pytest.raises(DetectorError, match="has no message ObjectsStamped"):
        message_class(ZED)


def test_every_kind_can_be_asked_for():
    from key2mesh_ros.parameters import INPUT_TYPES

    assert set(INPUT_TYPES) == {"auto", *DETECTORS}


# The gatherer by itself, on plain objects.


class FakeNode:
    def __init__(self):
        self.callbacks = {}

    def create_subscription(self, kind, topic, callback, quality):
        self.callbacks[topic] = callback
        return topic

    def destroy_subscription(self, topic):
        del self.callbacks[topic]


INFO = {"received_timestamp": 1, "publication_sequence_number": 4}


class Gathered:
    def __init__(self):
        self.node, self.frames, self.late = FakeNode(), [], []
        self.gatherer = Gatherer(
            self.node,
            "/humans/bodies/tracked",
            None,
            None,
            lambda *each: self.frames.append(each),
            self.late.append,
        )

    def ids(self, *names, stamp=0):
        header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=stamp))
        self.node.callbacks["/humans/bodies/tracked"](
            SimpleNamespace(header=header, ids=list(names)), INFO
        )

    def body(self, name, stamp):
        header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=stamp))
        message = SimpleNamespace(header=header)
        self.node.callbacks[f"/humans/bodies/{name}/skeleton2d"](message, INFO)

    @property
    def seen(self):
        return [(f.header.stamp.nanosec, "".join(sorted(f.bodies))) for f, _ in self.frames]


def test_a_frame_is_complete_when_everybody_has_come():
    each = Gathered()
    each.ids("a", "b")
    for name, stamp in (("a", 1), ("b", 1), ("b", 2), ("a", 2)):
        each.body(name, stamp)
    assert each.seen == [(1, "ab"), (2, "ab")]
    assert all("publication_sequence_number" not in info for _, info in each.frames)


def test_a_body_that_comes_after_the_next_image_begins_splits_no_frame():
    each = Gathered()
    each.ids("a", "b")
    for name, stamp in (("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3), ("b", 3)):
        each.body(name, stamp)
    assert each.seen == [(1, "ab"), (2, "ab"), (3, "ab")]
    assert each.late == []


def test_a_body_later_than_a_newer_frame_is_dropped_by_name_and_time_never_goes_back():
    each = Gathered()
    each.ids("a", "b")
    for name, stamp in (("a", 1), ("a", 2), ("b", 2), ("b", 1), ("b", 3), ("a", 3)):
        each.body(name, stamp)
    assert each.seen == [(1, "a"), (2, "ab"), (3, "ab")]
    (text,) = each.late
    assert "'b'" in text


@given(
    order=st.permutations([(name, stamp) for stamp in range(1, 7) for name in "ab"]),
)
def test_in_any_order_no_body_comes_twice_and_every_one_is_handed_over_or_late(order):
    each = Gathered()
    each.ids("a", "b")
    for name, stamp in order:
        each.body(name, stamp)
    stamps = [stamp for stamp, _ in each.seen]
    assert stamps == sorted(set(stamps))
    waiting = 2 * 6 - sum(len(names) for _, names in each.seen) - len(each.late)
    assert 0 <= waiting <= 2  # the last images', of which a body is yet to come


def test_who_is_tracked_and_not_seen_is_waited_for_once_and_again_when_seen():
    each = Gathered()
    each.ids("a", "b")
    for stamp in (1, 2):
        each.body("a", stamp)
    assert each.seen == []
    each.body("a", 3)
    each.body("a", 4)
    assert each.seen == [(1, "a"), (2, "a"), (3, "a"), (4, "a")]
    each.body("b", 5)
    assert len(each.seen) == 4
    each.body("a", 5)
    assert each.seen[-1] == (5, "ab")


def test_a_clock_that_begins_again_begins_the_frames_again():
    each = Gathered()
    each.ids("a")
    for stamp in (5_000_000_000, 3_000_000_000, 3_100_000_000):
        each.body("a", stamp)
    assert [stamp for stamp, _ in each.seen] == [5_000_000_000, 3_000_000_000, 3_100_000_000]
    assert each.late == []


def test_who_leaves_is_not_waited_for():
    each = Gathered()
    each.ids("a", "b")
    each.body("a", 1)
    each.ids("a")
    assert each.seen == [(1, "a")]
    assert set(each.node.callbacks) == {"/humans/bodies/tracked", "/humans/bodies/a/skeleton2d"}
    each.ids(stamp=5)
    assert each.seen[-1] == (5, "")
    each.ids(stamp=4)  # sent again, or late: nobody is missed
    assert (each.seen[-1], each.late) == ((5, ""), [])
    each.gatherer.close()
    assert each.node.callbacks == {}


def test_bodies_without_stamps_make_a_frame_each_round():
    each = Gathered()
    each.ids("a", "b")
    for _ in range(2):
        each.body("a", 0)
        each.body("b", 0)
    each.body("a", 0)
    each.body("a", 0)
    assert each.seen == [(0, "ab"), (0, "ab"), (0, "a"), (0, "a")]


def test_an_id_that_is_no_name_makes_no_topic():
    each = Gathered()
    each.ids("a/../b", "", "c d", "0", "1a", "é", "²", "x" * 300, "good_1")
    assert set(each.node.callbacks) == {
        "/humans/bodies/tracked",
        "/humans/bodies/good_1/skeleton2d",
    }


def test_nobody_is_read_as_nobody():
    read = skeletons_reader(DETECTORS["hri"].read)
    people_found = read(Skeletons(Header()), None, CameraOptions(image_size=(640, 480)))
    assert people_found.keypoints.shape == (0, 18, 3)
