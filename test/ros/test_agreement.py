# SPDX-License-Identifier: Apache-2.0
"""One recording, four ways: the node, `key2mesh mesh`, `key2mesh view` and what `key2mesh adapt`
learns from see the same bodies, whatever is between the camera and the keypoints."""

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from helpers_ros import client, node_here, people, standing
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from write_bags import Message, TopicMessages, write_bag

from key2mesh_core.camera.lens import distort_pixels, read_distortion
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.cli.view import open_view
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.bags import CAMERA_TYPE, KEYPOINTS_TYPE, message_store
from key2mesh_core.recordings.targets import load_targets

TOLERANCE_M = 0.001

IDEAL = Intrinsics(600.0, 600.0, 320.0, 240.0)
"""What every case comes down to, in an image of 640 x 480 px without a lens."""

LENS = [-0.25, 0.06, 0.001, -0.0005, 0.0]
STAMP_S = 1_700_000_000
PERSONS = ("left", "right")


def seen() -> np.ndarray:
    """(2, 18, 3) keypoints of two people as the ideal camera sees them."""
    persons = np.stack([standing(200.0, 250.0, 330.0), standing(500.0, 230.0, 210.0)])
    persons[0, 3:5, :2] += [25.0, -40.0]  # an arm that is raised
    return persons.astype(np.float32)


def bent(keypoints: np.ndarray) -> np.ndarray:
    moved = keypoints.copy()
    moved[..., :2] = distort_pixels(moved[..., :2], IDEAL, read_distortion("plumb_bob", LENS))
    return moved


def info(intrinsics: Intrinsics, width: int, height: int, **changes) -> dict:
    """A CameraInfo's fields."""
    fx, fy, cx, cy = (float(value) for value in intrinsics.as_array())
    return {
        "width": width,
        "height": height,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        "r": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "p": [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
        "binning_x": 0,
        "binning_y": 0,
        **changes,
    }


def half_of(whole: Intrinsics) -> Intrinsics:
    return Intrinsics(*(whole.as_array() / 2).tolist())


def case(name: str) -> tuple[dict, np.ndarray, tuple[int, int]]:
    """CameraInfo, keypoints, and the size of the image that they are in."""
    double = Intrinsics(1200.0, 1200.0, 640.0, 480.0)
    match name:
        case "lens":
            return info(IDEAL, 640, 480, d=LENS), bent(seen()), (640, 480)
        case "image twice CameraInfo's size":
            return info(IDEAL, 640, 480), seen() * np.float32([2, 2, 1]), (1280, 960)
        case "binning":
            return info(double, 1280, 960, binning_x=2, binning_y=2), seen(), (640, 480)
        case "K of half of width and height":
            return info(half_of(IDEAL), 640, 480), seen(), (640, 480)
        case "region and size of the binned image":
            fields = info(Intrinsics(1200.0, 1200.0, 840.0, 580.0), 640, 480)
            region = {"x_offset": 100, "y_offset": 50, "width": 640, "height": 480}
            return fields | {"binning_x": 2, "binning_y": 2, "roi": region}, seen(), (640, 480)
    raw = Intrinsics(520.0, 530.0, 310.0, 250.0)
    rectified = info(IDEAL, 640, 480)["p"]
    return info(raw, 640, 480, d=LENS, p=rectified), seen(), (640, 480)


CASES = ("lens", "image twice CameraInfo's size", "binning", "rectified")
DOUBTED = ("K of half of width and height", "region and size of the binned image")


@pytest.fixture(scope="module")
def estimator():
    with_default = Estimator(load_bundle("default"))
    yield with_default
    with_default.close()


def record(path, fields: dict, keypoints: np.ndarray, size: tuple[int, int]) -> None:
    """The messages of three images as a bag."""
    types = message_store().types
    person = types["key2mesh_ros/msg/PersonKeypoints"]
    messages: dict[str, list[Message]] = {CAMERA_TYPE: [], KEYPOINTS_TYPE: []}
    arrays = {k: np.array(v) if isinstance(v, list) else v for k, v in fields.items()}
    whole = dict.fromkeys(("x_offset", "y_offset", "width", "height"), 0)
    region = types["sensor_msgs/msg/RegionOfInterest"](
        **whole | arrays.pop("roi", {}), do_rectify=False
    )
    for image in range(3):
        stamp = types["builtin_interfaces/msg/Time"](STAMP_S + image, 0)
        header = types["std_msgs/msg/Header"](stamp, "camera")
        camera = types[CAMERA_TYPE](header=header, roi=region, **arrays)
        found = [
            person(name, *(np.ascontiguousarray(points[:, axis]) for axis in range(3)))
            for name, points in zip(PERSONS, keypoints, strict=True)
        ]
        array = types[KEYPOINTS_TYPE](header, "openpose_coco_18", *size, found)
        when = (STAMP_S + image) * 1_000_000_000
        messages[CAMERA_TYPE].append(Message(when, camera))
        messages[KEYPOINTS_TYPE].append(Message(when + 1, array))
    write_bag(
        path,
        [
            TopicMessages("/camera_info", CAMERA_TYPE, messages[CAMERA_TYPE]),
            TopicMessages("/keypoints", KEYPOINTS_TYPE, messages[KEYPOINTS_TYPE]),
        ],
    )


def by_node(fields: dict, keypoints, size: tuple[int, int], rectified: bool, doubted: bool):
    """(2, 24, 3) joints that come back over DDS."""
    with node_here(image_rectified=rectified, diagnostics_period=0.1) as _, client() as probe:
        for step in ("configure", "activate"):
            assert probe.change_state(step)
        probe.wait_for_node()
        region = RegionOfInterest(**fields.get("roi", {}))
        camera = CameraInfo(**fields | {"roi": region})
        camera.header.frame_id = "camera"
        camera.header.stamp = Time(sec=STAMP_S)

        def known() -> bool:
            probe.camera.publish(camera)
            message = people(*keypoints, image_width=size[0], image_height=size[1])
            probe.exchange(message)
            return "CameraInfo" in probe.values.get("camera", "")

        probe.wait(known, "the camera")
        message = people(*keypoints, image_width=size[0], image_height=size[1])
        bodies = probe.exchange(message).bodies
        assert [body.id for body in bodies] == ["0", "1"]
        assert ("warning.camera_info_doubtful" in probe.values) == doubted
        return np.array([body.joints for body in bodies]).reshape(-1, 24, 3)


@pytest.mark.parametrize("name", CASES + DOUBTED)
def test_node_mesh_view_and_adapt_see_the_same_bodies(tmp_path, capsys, estimator, name):
    fields, keypoints, size = case(name)
    rectified = name == "rectified"
    expected = estimator.estimate(seen(), IDEAL, vertices=False).joints
    bag = tmp_path / "bag"
    record(bag, fields, keypoints, size)
    source = f"bag:{bag}" + "?rectified=true" * rectified

    assert mesh(MeshConfig(source, tmp_path / "out.npz", vertices=False)) == 0
    with np.load(tmp_path / "out.npz") as rows:
        meshed = rows["joints"].reshape(3, 2, 24, 3)
    doubted = name in DOUBTED
    assert ("CameraInfo is doubtful" in capsys.readouterr().err) == doubted
    view = open_view(source)
    viewed = np.stack([frame.joints for frame in view.frames()])
    targets = load_targets([source])
    for warnings in (view.camera.warnings, targets.warnings):
        assert ("camera_info_doubtful" in warnings) == doubted
    learned = np.stack(
        [
            estimator.estimate(row[None], Intrinsics(*at.tolist()), vertices=False).joints[0]
            for row, at in zip(targets.keypoints, targets.intrinsics, strict=True)
        ]
    ).reshape(2, 3, 24, 3)  # person by person
    live = by_node(fields, keypoints, size, rectified, doubted)
    for found in (*meshed, *viewed, *learned.swapaxes(0, 1), live):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE_M)
