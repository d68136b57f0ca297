# SPDX-License-Identifier: Apache-2.0
"""Persons keep their sequence from image to image, by name or by nearness."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from key2mesh_core.recordings.tracks import MAX_GAP, Tracker


def pose(x: float, y: float = 0.0, side: float = 100.0) -> np.ndarray:
    """(18, 3): a square-ish person, `side` px large, at (x, y)."""
    spots = np.random.default_rng(3).random((18, 2))
    spots = (spots - spots.min(axis=0)) / np.ptp(spots, axis=0)
    points = np.ones((18, 3), np.float32)
    points[:, :2] = spots * side + np.array([x, y])
    return points


def walk(frames: list[tuple[int, list[tuple[str, float]]]]) -> list[list[int]]:
    """Sequences of persons (name, x) in frames of one stream."""
    tracker = Tracker()
    return [
        tracker.assign(
            "s", number, tuple(n for n, _ in people), np.array([pose(x) for _, x in people])
        )
        for number, people in frames
    ]


def test_names_count_however_far_somebody_moves() -> None:
    assert walk([(0, [("a", 0), ("b", 500)]), (1, [("b", 0), ("a", 500)])]) == [[0, 1], [1, 0]]
    assert walk([(0, [("a", 0)]), (900, [("a", 0)])]) == [[0], [0]]


def test_without_names_the_nearest_goes_on() -> None:
    frames = [(0, [("", 0), ("", 300)]), (1, [("", 310), ("", 5)]), (2, [("", 12)])]
    assert walk(frames) == [[0, 1], [1, 0], [0]]


def test_nearest_pairs_come_first() -> None:
    """Both lie near the first's last place; the nearer one is the first."""
    assert walk([(0, [("", 0)]), (1, [("", 20), ("", 5)])]) == [[0], [1, 0]]


def test_who_jumps_or_stays_away_too_long_is_somebody_else() -> None:
    assert walk([(0, [("", 0)]), (1, [("", 29)]), (2, [("", 60)])]) == [[0], [0], [1]]
    assert walk([(0, [("", 0)]), (MAX_GAP, [("", 0)])]) == [[0], [0]]
    assert walk([(0, [("", 0)]), (MAX_GAP + 1, [("", 0)])]) == [[0], [1]]


def test_a_name_that_an_image_has_twice_is_one_person_and_one_unnamed() -> None:
    frames = [(0, [("a", 0), ("a", 300)]), (1, [("a", 0), ("a", 300)])]
    assert walk(frames) == [[0, 1], [0, 1]]


def test_streams_share_nobody() -> None:
    tracker = Tracker()
    one = np.array([pose(0)])
    assert tracker.assign("left", 0, ("",), one) == [0]
    assert tracker.assign("right", 0, ("",), one) == [1]
    assert tracker.assign("left", 1, ("",), one) == [0]
    assert tracker.assign("right", 1, ("a",), one) == [2]
    assert tracker.names == ["left", "right", "right a"]


def test_poses_with_nothing_in_common_are_not_compared() -> None:
    upper, lower = pose(0), pose(0)
    upper[9:] = 0
    lower[:9] = 0
    tracker = Tracker()
    assert tracker.assign("s", 0, ("",), upper[None]) == [0]
    assert tracker.assign("s", 1, ("",), lower[None]) == [1]


people = st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.floats(-500, 500)), max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.lists(people, max_size=6))
def test_an_image_never_has_one_sequence_twice(images: list) -> None:
    tracker = Tracker()
    for number, persons in enumerate(images):
        poses = np.array([pose(x) for _, x in persons], np.float32).reshape(-1, 18, 3)
        sequences = tracker.assign("s", number, tuple(name for name, _ in persons), poses)
        assert len(set(sequences)) == len(sequences) == len(persons)
        assert all(0 <= sequence < len(tracker.names) for sequence in sequences)
