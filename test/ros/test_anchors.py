# SPDX-License-Identifier: Apache-2.0
"""Depth, the floor and heights in the node: people of other sizes stand where they are."""

from array import array

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from helpers_ros import QUICK, camera_info, client, node_here, people
from helpers_scenes import cloud, depth_image, keypoints_of, standing
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from key2mesh_core.people.messages import MessageRefused
from key2mesh_ros.depth import cloud_points, image_metres

SHIPPED = {**QUICK, "model": "default"}
TRUTH = standing(2.0, (0.4, 0.1, 3.4), yaw=0.4)  # a tall person
FLOOR_M = float(TRUTH.vertices[0, :, 1].max())
HEIGHT_M = float(np.ptp(standing(2.0, (0.0, 0.0, 3.0)).vertices[0, :, 1]))


def image(depth, encoding="16UC1", big_endian=False, padding=0, **header):
    """A depth image of (H, W) metres."""
    kind, unit = {"16UC1": ("u2", 1000), "32FC1": ("f4", 1)}[encoding]
    values = np.nan_to_num(depth * unit, nan=0.0).astype((">" if big_endian else "<") + kind)
    rows = [row.tobytes() + bytes(padding) for row in values]
    return Image(
        header=Header(frame_id="camera", **header),
        height=depth.shape[0],
        width=depth.shape[1],
        encoding=encoding,
        is_bigendian=big_endian,
        step=len(rows[0]),
        data=array("B", b"".join(rows)),
    )


def points_message(points, big_endian=False, **header):
    """x, y, z and something else."""
    dtype = np.dtype(">f4" if big_endian else "<f4")
    rows = np.concatenate([points, np.full((len(points), 1), 7.0)], axis=1).astype(dtype)
    fields = [
        PointField(name=name, offset=4 * n, datatype=PointField.FLOAT32, count=1)
        for n, name in enumerate(("x", "y", "z", "intensity"))
    ]
    return PointCloud2(
        header=Header(frame_id="camera", **header),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=big_endian,
        point_step=16,
        row_step=16 * len(points),
        data=array("B", rows.tobytes()),
    )


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_depth_images_are_read_as_they_are_meant(encoding, big_endian, padding):
    depth = np.linspace(0.5, 6.0, 12).reshape(3, 4)
    found = image_metres(image(depth, encoding, big_endian, padding))
    np.testing.assert_allclose(found, depth, atol=1e-3)


@pytest.mark.parametrize("big_endian", [False, True])
def test_clouds_are_read_as_they_are_meant(big_endian):
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(cloud_points(points_message(points, big_endian)), points)


def test_other_encodings_and_short_messages_are_refused_by_name():
    good = image(np.ones((3, 4)))
    good.encoding = "bgr8"
    with pytest.raises(MessageRefused, match=r"bgr8.*16UC1"):
        image_metres(good)
    short = image(np.ones((3, 4)))
    short.data = short.data[:-1]
    with pytest.raises(MessageRefused, match="23 bytes"):
        image_metres(short)
    points = points_message(np.ones((5, 3)))
    points.width = 6
    with pytest.raises(MessageRefused, match="point cloud"):
        cloud_points(points)
    points.fields = points.fields[:2]
    with pytest.raises(MessageRefused, match="x, y, z"):
        cloud_points(points)


def off(message):
    """Distance of the pelvis from where it is [m]."""
    place = message.bodies[0].position
    return float(np.linalg.norm(TRUTH.translation[0] - [place.x, place.y, place.z]))


def settled(probe, also=None):
    """The meshes of a person whose camera is known, and whatever else has to come first."""

    def ready():
        probe.camera.publish(camera_info(fx=600.0))
        if also is not None:
            also()
        probe.spin(0.05)
        probe.exchange_again(people(keypoints_of(TRUTH)[0], stamp=50.0))
        return probe.values.get("camera") == "CameraInfo"

    probe.wait(ready, "the camera")
    return probe.exchange_again(people(keypoints_of(TRUTH)[0], stamp=50.0))


@pytest.fixture(scope="module")
def without():
    with node_here(**SHIPPED), client() as probe:
        for step in ("configure", "activate"):
            assert probe.change_state(step)
        probe.wait_for_node()
        message = settled(probe)
        assert probe.values["scale"] == "the network's guess"
        assert off(message) > 0.12  # or the tests below say nothing
        return off(message)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"body_height": HEIGHT_M}, "m tall"),
        ({"camera_height": FLOOR_M}, "above the floor"),
    ],
    ids=["height", "floor"],
)
def test_numbers_put_a_tall_person_in_their_place(without, values, named):
    with node_here(**SHIPPED, **values), client() as probe:
        for step in ("configure", "activate"):
            assert probe.change_state(step)
        probe.wait_for_node()
        message = settled(probe)
        assert off(message) < 0.5 * without
        assert named in probe.values["scale"]
        # The mesh is as tall as its place says.
        mesh = np.array(message.bodies[0].vertices).reshape(-1, 3)
        assert np.ptp(mesh[:, 1]) == pytest.approx(HEIGHT_M, rel=0.04)


@pytest.mark.parametrize("kind", ["image", "cloud"])
def test_measured_depth_puts_a_tall_person_in_their_place(without, kind):
    depth = depth_image(TRUTH, wall=6.0)
    with node_here(**SHIPPED, depth=kind), client() as probe:
        for step in ("configure", "activate"):
            assert probe.change_state(step)
        probe.wait_for_node()
        stamp = {"stamp": Time(sec=50, nanosec=20_000_000)}
        if kind == "image":
            publisher = probe.create_publisher(Image, "/mesh_node/depth", 5)
            sent = image(depth, **stamp)
        else:
            publisher = probe.create_publisher(PointCloud2, "/mesh_node/points", 5)
            sent = points_message(cloud(depth)[::11], **stamp)
        message = settled(probe, lambda: publisher.publish(sent))
        assert off(message) < 0.5 * without
        # Of another time, or of another frame, it is not used, and the diagnostics say so.
        probe.exchange(people(keypoints_of(TRUTH)[0], stamp=60.0))
        assert "no depth" in probe.fresh_status().message or probe.number("warning.no_depth")
        sent.header.frame_id = "elsewhere"
        sent.header.stamp = Time(sec=70)
        publisher.publish(sent)
        probe.spin(0.2)
        probe.exchange(people(keypoints_of(TRUTH)[0], stamp=70.0))
        probe.fresh_status()
        assert probe.number("warning.depth_frame") > 0
        assert probe.number("warning.unanchored") > 0
