# SPDX-License-Identifier: Apache-2.0
"""Targets of every kind arrive as usable persons in time order, or are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from key2mesh_core.data.recordings import read_keypoints
from key2mesh_core.data.targets import load_targets
from key2mesh_core.errors import TargetError
from key2mesh_core.keypoints import sanitise, to_network, usable

STREET = Path(__file__).resolve().parents[2] / "demo" / "data" / "street"


def test_the_demo_recording_gives_its_usable_persons_and_nothing_else() -> None:
    targets = load_targets([f"bag:{STREET}"])
    persons = [
        (points, frame.ids[person], index)
        for index, frame in enumerate(read_keypoints(STREET))
        for person, points in enumerate(sanitise(to_network(frame.layout, frame.keypoints)))
    ]
    good = usable(np.stack([points for points, _, _ in persons]))
    assert len(targets) == good.sum() > 300
    assert targets.images == 230
    assert targets.left_out == {"nobody_in_image": 6}
    for points, name, index in persons:
        at = np.flatnonzero(targets.frame == index)
        (row,) = [i for i in at if targets.names[targets.sequence[i]].endswith(f" {name}")]
        np.testing.assert_array_equal(targets.keypoints[row], points)
    np.testing.assert_array_equal(targets.image_size, np.full((len(targets), 2), [1768, 994]))


def test_rows_of_a_sequence_are_consecutive_in_time() -> None:
    targets = load_targets([f"bag:{STREET}", f"bag:{STREET}"])
    assert (np.diff(targets.sequence) >= 0).all()
    same = np.diff(targets.sequence) == 0
    assert (np.diff(targets.frame)[same] > 0).all()
    once = load_targets([f"bag:{STREET}"])
    assert len(targets) == 2 * len(once)
    assert set(targets.sequence) == set(range(2 * len(once.names)))
    assert targets.left_out == {"nobody_in_image": 12}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("my_bag", "KIND:PATH"),
        ("rosbag:my_bag", "one of bag"),
        ("bag:", "no path"),
        ("bag:b?colour=red", r"options? \['colour'\]"),
        ("bag:b?width", r"\?width"),
        ("bag:b?width=640", "belong together"),
        ("bag:b?width=640&height=-1", "whole numbers"),
    ],
)
def test_a_spec_that_says_nothing_clear_is_refused(spec: str, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        load_targets([spec])


def test_no_target_and_an_impossible_minimum_are_refused() -> None:
    with pytest.raises(TargetError, match="at least one"):
        load_targets([])
    with pytest.raises(TargetError, match="at least 19"):
        load_targets([f"bag:{STREET}"], minimum=19)
