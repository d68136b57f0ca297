# SPDX-License-Identifier: Apache-2.0
"""Persons keep their sequence from image to image, by name or by nearness."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame
from key2mesh_core.recordings.tracks import MAX_GAP, Tracks


def pose(x: float, y: float = 0.0, side: float = 100.0) -> np.ndarray:
    """(18, 3): a square-ish person, `side` px large, at (x, y)."""
    spots = np.random.default_rng(3).random((18, 2))
    spots = (spots - spots.min(axis=0)) / np.ptp(spots, axis=0)
    points = np.ones((18, 3), np.float32)
    points[:, :2] = spots * side + np.array([x, y])
    return points


def image(stream: str, number: int, people: list[tuple[str, np.ndarray]]) -> PersonFrame:
    """Persons by name and (18, 3) keypoints."""
    keypoints = np.array([points for _, points in people], np.float32).reshape(-1, 18, 3)
    ids = tuple(name for name, _ in people)
    return PersonFrame(ids, keypoints, NETWORK_LAYOUT, stream=stream, number=number)


def walk(frames: list[tuple[int, list[tuple[str, float]]]]) -> list[list[int]]:
    """Sequences of persons (name, x) in frames of one stream."""
    tracks = Tracks()
    return [
        tracks.assign(image("s", number, [(name, pose(x)) for name, x in people]))
        for number, people in frames
    ]


def test_names_count_however_far_somebody_moves() -> None:
    assert walk([(0, [("a", 0), ("b", 500)]), (1, [("b", 0), ("a", 500)])]) == [[0, 1], [1, 0]]
    assert walk([(0, [("a", 0)]), (900, [("a", 0)])]) == [[0], [0]]


def test_without_names_the_nearest_goes_on() -> None:
    frames = [(0, [("", 0), ("", 300)]), (1, [("", 310), ("", 5)]), (2, [("", 12)])]
    assert walk(frames) == [[0, 1], [1, 0], [0]]


def test_who_jumps_or_stays_away_too_long_is_somebody_else() -> None:
    assert walk([(0, [("", 0)]), (1, [("", 29)]), (2, [("", 90)])]) == [[0], [0], [1]]
    assert walk([(0, [("", 0)]), (MAX_GAP, [("", 0)])]) == [[0], [0]]
    assert walk([(0, [("", 0)]), (MAX_GAP + 1, [("", 0)])]) == [[0], [1]]


def test_a_name_that_an_image_has_twice_is_nobodys_there() -> None:
    frames = [(0, [("a", 0), ("a", 300)]), (1, [("a", 305), ("a", 5)]), (2, [("a", 10)])]
    assert walk(frames) == [[0, 1], [1, 0], [2]]


def test_a_recording_that_begins_again_has_new_persons() -> None:
    assert walk([(5, [("", 0)]), (6, [("", 0)]), (0, [("", 0)])]) == [[0], [0], [1]]


def test_streams_share_nobody() -> None:
    tracks = Tracks()
    one = pose(0)
    assert tracks.assign(image("left", 0, [("", one)])) == [0]
    assert tracks.assign(image("right", 0, [("", one)])) == [1]
    assert tracks.assign(image("left", 1, [("", one)])) == [0]
    assert tracks.assign(image("right", 1, [("a", one)])) == [2]
    assert [name.split()[0] for name in tracks.names] == ["left", "right", "right"]


people = st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.floats(-500, 500)), max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.lists(people, max_size=6))
def test_an_image_never_has_one_sequence_twice(images: list) -> None:
    tracks = Tracks()
    for number, persons in enumerate(images):
        frame = image("s", number, [(name, pose(x)) for name, x in persons])
        sequences = tracks.assign(frame)
        assert len(set(sequences)) == len(sequences) == len(persons)
        assert all(0 <= sequence < len(tracks.names) for sequence in sequences)
