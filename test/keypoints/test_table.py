# SPDX-License-Identifier: Apache-2.0
"""The table of keypoints is consistent, and what follows from it has left and right alike."""

from collections import Counter

import numpy as np
import pytest

from key2mesh_core.body.data import FACE_NAMES, JOINT_NAMES
from key2mesh_core.keypoints.table import (
    KEYPOINTS,
    LIMBS,
    MIRROR,
    NETWORK_KEYPOINTS,
    REQUIRED,
    numbers_of,
)


def test_every_keypoint_lies_on_the_body_and_optional_ones_come_last():
    assert max(Counter(NETWORK_KEYPOINTS).values()) == 1
    for keypoint in KEYPOINTS:
        assert keypoint.joint in JOINT_NAMES if keypoint.joint else keypoint.name in FACE_NAMES
    assert not any(keypoint.optional for keypoint in KEYPOINTS[:REQUIRED])
    assert all(keypoint.optional for keypoint in KEYPOINTS[REQUIRED:])
    assert np.mean([keypoint.noise for keypoint in KEYPOINTS]) == pytest.approx(1, abs=0.05)


def test_left_and_right_differ_in_nothing_but_the_side():
    for keypoint, partner in zip(KEYPOINTS, MIRROR, strict=True):
        other = KEYPOINTS[partner]
        same = ("kind", "noise", "loss_weight", "optional")
        assert all(getattr(keypoint, each) == getattr(other, each) for each in same)
        assert other.standing == pytest.approx((-keypoint.standing[0], keypoint.standing[1]))


def test_parts_are_named_with_and_without_their_side():
    arms = {NETWORK_KEYPOINTS[number] for number in numbers_of("arm")}
    assert arms == {"left_elbow", "left_wrist", "right_elbow", "right_wrist"}
    assert numbers_of("right_arm", "left_arm") == numbers_of("arm")
    assert sorted(numbers_of(*{keypoint.part for keypoint in KEYPOINTS})) == [
        *range(len(KEYPOINTS))
    ]


def test_limbs_join_all_keypoints_to_one_skeleton():
    joined = {NETWORK_KEYPOINTS.index("neck")}
    for _ in LIMBS:
        joined |= {b for a, b in LIMBS if a in joined}
    assert joined == set(range(len(KEYPOINTS)))


def test_mirror_exchanges_sides_and_undoes_itself():
    mirror = np.array(MIRROR)
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(KEYPOINTS)))
    for name, partner in zip(NETWORK_KEYPOINTS, mirror, strict=True):
        other = NETWORK_KEYPOINTS[partner]
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert other == swapped
    limbs = {frozenset(limb) for limb in LIMBS}
    assert {frozenset(mirror[list(limb)].tolist()) for limb in LIMBS} == limbs
