# SPDX-License-Identifier: Apache-2.0
"""Layouts put each named keypoint in its named place; sanitising leaves only usable numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from key2mesh_core.errors import Key2MeshError, KeypointError
from key2mesh_core.keypoints.layouts import (
    LAYOUTS,
    LIMBS,
    MIRROR,
    NETWORK_KEYPOINTS,
    Layout,
    bounding_boxes,
    get_layout,
    sanitise,
    to_network,
    usable,
)

any_keypoints = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 4), st.just(18), st.just(3)),
    elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
)


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
    assert mapped.shape == (5, 18, 3)
    assert mapped.dtype == np.float32
    for place, name in enumerate(NETWORK_KEYPOINTS):
        if name in layout.keypoint_names:
            expected = source[:, layout.keypoint_names.index(name)]
        else:
            assert name == "neck"
            shoulders = source[:, [layout.keypoint_names.index(f"{s}_shoulder") for s in SIDES]]
            expected = shoulders.mean(axis=1)
            expected[:, 2] = shoulders[..., 2].min(axis=1)
        np.testing.assert_allclose(mapped[:, place], expected, rtol=1e-6)


SIDES = ("left", "right")


def test_only_openpose_style_layouts_bring_a_neck_between_the_shoulders():
    with_neck = {name for name, layout in LAYOUTS.items() if layout.has_neck}
    openpose = {"openpose_coco_18", "openpose_body_25", "hri_18"}
    assert with_neck == openpose | {"instavariety_25"}  # made with OpenPose too


def test_a_neck_is_unseen_when_a_shoulder_is():
    person = np.ones((1, 17, 3))
    person[0, get_layout("coco_17").keypoint_names.index("left_shoulder"), 2] = 0.0
    clean = sanitise(to_network("coco_17", person))
    assert clean[0, 1, 2] == 0.0
    assert (clean[0, :, 2] > 0).sum() == 16


def test_wrong_numbers_of_keypoints_name_both():
    with pytest.raises(KeypointError, match=r"\(N, 25, 3\), got \(2, 17, 3\)"):
        to_network("openpose_body_25", np.zeros((2, 17, 3)))
    with pytest.raises(KeypointError, match=r"\(N, 18, 3\), got \(18, 3\)"):
        sanitise(np.zeros((18, 3)))
    with pytest.raises(KeypointError, match=r"unequal"):
        sanitise([[[1, 2, 3]], [[1, 2, 3], [1, 2, 3]]])
    with pytest.raises(KeypointError, match="numbers expected"):
        sanitise(np.full((1, 18, 3), "x"))


def test_an_unknown_layout_lists_the_known_ones():
    with pytest.raises(Key2MeshError, match=r"'body_9'; known: openpose_coco_18, .*halpe_26"):
        get_layout("body_9")


def test_a_layout_must_have_what_the_network_needs():
    with pytest.raises(KeypointError, match="left_ear"):
        Layout("short", NETWORK_KEYPOINTS[:-1])
    with pytest.raises(KeypointError, match=r"nose.*more than once"):
        Layout("twice", (*NETWORK_KEYPOINTS, "nose"))


def test_mirror_exchanges_sides_and_undoes_itself():
    mirror = np.array(MIRROR)
    np.testing.assert_array_equal(mirror[mirror], np.arange(18))
    for name, partner in zip(NETWORK_KEYPOINTS, mirror, strict=True):
        other = NETWORK_KEYPOINTS[partner]
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert other == swapped
    limbs = {frozenset(limb) for limb in LIMBS}
    assert {frozenset(mirror[list(limb)].tolist()) for limb in LIMBS} == limbs


@settings(deadline=None)
@given(any_keypoints)
def test_sanitised_keypoints_are_seen_and_sound_or_zero(keypoints):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean = sanitise(keypoints)
    assert clean.dtype == np.float32
    assert np.isfinite(clean).all()
    seen = clean[..., 2] >= 0.1
    assert (clean[~seen] == 0).all()
    assert (np.abs(clean[..., :2]) <= 1e5).all()
    assert (clean[..., 2] <= 1).all()
    np.testing.assert_array_equal(sanitise(clean), clean)
    np.testing.assert_array_equal(usable(clean), usable(keypoints))


def test_sanitising_keeps_good_keypoints_and_the_argument():
    keypoints = np.full((1, 18, 3), 0.5, np.float32)
    keypoints[0, :6] = [
        [np.nan, 0, 1],
        [0, -np.inf, 1],
        [0, 100_001, 1],
        [5, 6, 0.0999],
        [-3, 7, 0.1],
        [5, 6, 1.5],
    ]
    before = keypoints.copy()
    clean = sanitise(keypoints)
    np.testing.assert_array_equal(keypoints, before)
    assert not clean[0, :4].any()
    np.testing.assert_array_equal(clean[0, 4], np.float32([-3, 7, 0.1]))
    np.testing.assert_array_equal(clean[0, 5], [5, 6, 1])
    np.testing.assert_array_equal(clean[0, 6:], before[0, 6:])


def test_boxes_hold_the_seen_keypoints_only():
    keypoints = np.zeros((2, 18, 3), np.float32)
    keypoints[0, 3] = [10, 20, 1]
    keypoints[0, 4] = [-5, 40, 0.2]
    np.testing.assert_array_equal(bounding_boxes(keypoints), [[-5, 20, 10, 40], [0, 0, 0, 0]])


def test_usable_needs_six_keypoints_and_some_extent():
    keypoints = np.zeros((4, 18, 3), np.float32)
    grid = np.stack([np.arange(18) * 3.0, np.arange(18) * 5.0, np.full(18, 0.9)], axis=-1)
    keypoints[0, :6] = grid[:6]
    keypoints[1, :5] = grid[:5]
    keypoints[2] = [50, 50, 1]  # all on one pixel
    np.testing.assert_array_equal(usable(keypoints), [True, False, False, False])
    assert usable(np.zeros((0, 18, 3))).shape == (0,)
