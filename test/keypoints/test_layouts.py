# SPDX-License-Identifier: Apache-2.0
"""Layouts put each named keypoint in its named place."""

from __future__ import annotations

import numpy as np
import pytest

from key2mesh_core.errors import Key2MeshError, KeypointError
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.keypoints.layouts import LAYOUTS, Layout, get_layout, to_network
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS, REQUIRED

SIDES = ("left", "right")


# Numbers published by each detector, as independent evidence of the order.
@pytest.mark.parametrize(
    ("layout", "count", "published"),
    [
        ("openpose_coco_18", 18, {"neck": 1, "right_ankle": 10, "right_eye": 14, "left_ear": 17}),
        (
            "openpose_body_25",
            25,
            {"neck": 1, "left_wrist": 7, "right_hip": 9, "left_ankle": 14, "right_eye": 15},
        ),
        ("openpose_body_25b", 25, {"left_eye": 1, "right_ankle": 16, "right_wrist": 10}),
        ("coco_17", 17, {"nose": 0, "left_shoulder": 5, "right_hip": 12, "right_ankle": 16}),
        ("hri_18", 18, {"left_eye": 14, "right_eye": 15, "left_ear": 16, "right_ear": 17}),
        (
            "mediapipe_33",
            33,
            {"left_eye": 2, "right_eye": 5, "left_ear": 7, "left_shoulder": 11, "right_hip": 24},
        ),
        ("halpe_26", 26, {"left_eye": 1, "right_shoulder": 6, "left_hip": 11, "left_ankle": 15}),
        (
            "zed_34",
            34,
            {"left_wrist": 7, "right_shoulder": 12, "left_ankle": 20, "nose": 27, "right_ear": 31},
        ),
        (
            "zed_38",
            38,
            {"nose": 5, "right_eye": 7, "left_shoulder": 12, "right_wrist": 17, "left_ankle": 22},
        ),
        (
            "instavariety_25",
            25,
            {"right_hip": 2, "left_wrist": 11, "neck": 12, "left_eye": 15, "right_ankle": 24},
        ),
    ],
)
def test_published_numbers_arrive_under_their_names(layout, count, published):
    assert len(get_layout(layout)) == count
    marked = np.ones((1, count, 3), np.float32)
    marked[0, :, 0] = np.arange(count)
    mapped = to_network(layout, marked)
    for name, number in published.items():
        assert mapped[0, NETWORK_KEYPOINTS.index(name), 0] == number, name


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda each: each.name)
def test_every_named_keypoint_lands_in_its_named_place(layout):
    rng = np.random.default_rng(3)
    source = rng.uniform(0.2, 1.0, (5, len(layout), 3))
    mapped = to_network(layout, source)
    assert mapped.shape == (5, len(NETWORK_KEYPOINTS), 3)
    assert mapped.dtype == np.float32
    for place, name in enumerate(NETWORK_KEYPOINTS):
        if name in layout.keypoint_names:
            expected = source[:, layout.keypoint_names.index(name)]
        elif name != "neck":
            assert place >= REQUIRED
            expected = np.zeros((5, 3))
        else:
            shoulders = source[:, [layout.keypoint_names.index(f"{s}_shoulder") for s in SIDES]]
            expected = shoulders.mean(axis=1)
            expected[:, 2] = shoulders[..., 2].min(axis=1)
        np.testing.assert_allclose(mapped[:, place], expected, rtol=1e-6)


def test_only_openpose_style_layouts_bring_a_neck_between_the_shoulders():
    with_neck = {name for name, layout in LAYOUTS.items() if "neck" in layout.keypoint_names}
    openpose = {"openpose_coco_18", "openpose_body_25", "hri_18"}
    assert with_neck == openpose | {"instavariety_25"}  # made with OpenPose too


def test_a_neck_is_unseen_when_a_shoulder_is():
    person = np.ones((1, 17, 3))
    person[0, get_layout("coco_17").keypoint_names.index("left_shoulder"), 2] = 0.0
    clean = sanitise(to_network("coco_17", person))
    assert clean[0, 1, 2] == 0.0
    assert (clean[0, :, 2] > 0).sum() == 16


@pytest.mark.parametrize(
    "shoulder", [(0, 0, 0.4), (np.nan, 5, 0.9), (2e5, 0, 0.9), (np.inf, 0, 0.9), (40, 50, 0.05)]
)
def test_there_is_no_neck_in_the_middle_of_a_shoulder_and_nothing(shoulder):
    person = np.full((2, 17, 3), 0.8)
    person[..., :2] = [100, 200]
    person[0, get_layout("coco_17").keypoint_names.index("left_shoulder")] = shoulder
    mapped = to_network("coco_17", person)[:, NETWORK_KEYPOINTS.index("neck")]
    np.testing.assert_allclose(mapped, [[0, 0, 0], [100, 200, 0.8]], rtol=1e-6)


def test_an_unknown_layout_lists_the_known_ones():
    with pytest.raises(Key2MeshError, match=r"'body_9'; known: openpose_coco_18, .*halpe_26"):
        get_layout("body_9")


def test_a_layout_must_have_what_the_network_needs():
    with pytest.raises(KeypointError, match="left_ear"):
        Layout("short", NETWORK_KEYPOINTS[: REQUIRED - 1])
    with pytest.raises(KeypointError, match=r"nose.*more than once"):
        Layout("twice", (*NETWORK_KEYPOINTS, "nose"))


def test_wrong_numbers_of_keypoints_name_both():
    with pytest.raises(KeypointError, match=r"\(N, 25, 3\), got \(2, 17, 3\)"):
        to_network("openpose_body_25", np.zeros((2, 17, 3)))
