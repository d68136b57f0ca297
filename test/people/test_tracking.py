# SPDX-License-Identifier: Apache-2.0
"""People keep their names: through crossings, occlusions, in any order, up to the time-out."""

import subprocess
import sys

import numpy as np
import pytest

from key2mesh_core.people.tracking import Tracker, TrackingSettings, distances, unshared

RATE = 30
STEP_NS = 10**9 // RATE


def person(x: float, y: float = 300.0, size: float = 200.0, seed: int = 0) -> np.ndarray:
    """(18, 3) some pose of a person whose middle is at (x, y) px."""
    pose = np.random.default_rng(seed).uniform(-0.5, 0.5, (18, 2))
    pose[0], pose[1] = (-0.3, -0.5), (0.3, 0.5)
    points = np.array([x, y]) + size * pose
    return np.concatenate([points, np.full((18, 1), 0.9)], axis=1).astype(np.float32)


def name_all(tracker: Tracker, frames: list[list[np.ndarray]]) -> list[tuple[str, ...]]:
    return [
        tracker.name(
            ("",) * len(frame), np.array(frame, np.float32).reshape(-1, 18, 3), i * STEP_NS + 1
        )
        for i, frame in enumerate(frames)
    ]


def test_the_detectors_names_are_kept():
    tracker = Tracker()
    assert tracker.name(("b", "a"), np.array([person(0), person(900)]), 1) == ("b", "a")


def test_persons_who_share_an_id_are_unnamed_and_tracked_by_pose():
    """One id for everybody, and a tracker that gives one id twice, now and then."""
    tracker = Tracker()
    left, right, third = person(0), person(500), person(900)
    first = tracker.name(("a", "a", ""), np.array([left, right, third]), 1)
    assert len(set(first)) == 3
    assert "a" not in first
    again = tracker.name(("a", "", "a"), np.array([right, third, left]), STEP_NS)
    assert again == (first[1], first[2], first[0])
    alone = tracker.name(("a",), np.array([left]), 2 * STEP_NS)
    assert alone == ("a",)
    assert unshared(("0", "0", "1", "")) == ("", "", "1", "")


@pytest.mark.parametrize("ids", [("track_1", ""), ("", "track_1"), ("track_1", "track_1")])
def test_no_name_is_given_twice_even_if_the_detector_uses_the_trackers(ids):
    tracker, who = Tracker(), np.array([person(0), person(900)])
    for step in range(5):
        tracker.name(("", ""), who, 1 + step * STEP_NS)
    names = tracker.name(ids, who, 1 + 5 * STEP_NS)
    assert len(set(names)) == 2
    assert "" not in names
    assert len(set(tracker.name(("", ""), who, 1 + 6 * STEP_NS))) == 2


def test_names_are_different_whatever_the_detector_says():
    rng, tracker = np.random.default_rng(5), Tracker()
    for step in range(300):
        count = int(rng.integers(0, 6))
        ids = tuple(rng.choice(["", "1", "2", "track_1", "track_2", "track_9"], count))
        frame = np.array([person(*rng.uniform(0, 600, 2), seed=p) for p in range(count)])
        names = tracker.name(ids, frame.reshape(-1, 18, 3).astype(np.float32), step * STEP_NS)
        assert len(set(names)) == count
        assert "" not in names


def test_what_a_frame_needs_is_imported_beforehand():
    """Two unnamed persons must not wait for scipy, which takes a second on a robot."""
    code = """
import sys
import numpy as np
from key2mesh_core.people.tracking import Tracker, warm_up
assert "scipy.optimize" not in sys.modules
warm_up()
before = set(sys.modules)
tracker, rng = Tracker(), np.random.default_rng(0)
for step in range(3):
    tracker.name(("", ""), rng.uniform(0, 300, (2, 18, 3)).astype(np.float32), step + 1)
assert set(sys.modules) == before, set(sys.modules) - before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_any_order_of_the_persons_gives_each_the_same_name():
    rng = np.random.default_rng(3)
    tracker, names = Tracker(), {}
    for i in range(60):
        order = rng.permutation(5)
        frame = np.array([person(150 * p + 2 * i * (-1) ** p, seed=p) for p in order])
        frame[..., :2] += rng.normal(0, 2, (5, 18, 2))
        for p, name in zip(order, tracker.name(("",) * 5, frame, i * STEP_NS + 1), strict=True):
            assert names.setdefault(p, name) == name
    assert len(set(names.values())) == 5


def test_two_who_cross_keep_their_names():
    frames = [
        [person(200 + 8 * i, seed=1), person(700 - 8 * i, y=310, seed=2)][:: (-1) ** i]
        for i in range(60)
    ]
    names = [pair[:: (-1) ** i] for i, pair in enumerate(name_all(Tracker(), frames))]
    assert set(names) == {("track_1", "track_2")}


def test_who_walks_behind_a_pillar_keeps_the_name():
    seen = [[person(200 + 6 * i)] if not 20 <= i < 40 else [] for i in range(60)]
    names = [each for frame in name_all(Tracker(), seen) for each in frame]
    assert set(names) == {"track_1"}


@pytest.mark.parametrize(("unseen_s", "same"), [(0.9, True), (1.1, False)])
def test_a_track_ends_after_its_timeout(unseen_s, same):
    tracker = Tracker(TrackingSettings(timeout_s=1.0))
    who = np.array([person(300)])
    first = [tracker.name(("",), who, i * STEP_NS + 1) for i in range(5)]
    last_ns = 4 * STEP_NS + 1
    again = tracker.name(("",), who, last_ns + round(1e9 * unseen_s))
    assert (again == first[0]) is same


@pytest.mark.parametrize("apart", [0.34, 0.6, 0.92])
def test_who_stays_keeps_the_name_when_a_neighbour_leaves(apart):
    """The neighbour's gate grows with the time unseen, up to where the other one stands."""
    stays, leaves = person(500), person(500 + 200 * apart)
    both, alone = [[stays, leaves]] * 20, [[stays]] * 90
    names = name_all(Tracker(), [*both, *alone])
    assert {each[0] for each in names} == {names[0][0]}


def test_who_was_seen_once_is_forgotten_soon():
    tracker = Tracker(TrackingSettings(timeout_s=1.0, trial_s=0.2))
    who = np.array([person(300)])
    first = tracker.name(("",), who, 1)
    assert tracker.name(("",), who, 1 + 3 * 10**8) != first


def test_somebody_far_away_is_somebody_else():
    names = name_all(Tracker(), [[person(200)], [person(800)], [person(200), person(800)]])
    assert names == [("track_1",), ("track_2",), ("track_1", "track_2")]


def test_the_gate_knows_near_from_far_by_the_persons_size():
    """100 px are a step of somebody near, and another person far away."""
    near = name_all(Tracker(), [[person(200, size=600)], [person(300, size=600)]])
    far = name_all(Tracker(), [[person(200, size=60)], [person(300, size=60)]])
    assert near[0] == near[1]
    assert far[0] != far[1]


def test_distances_are_symmetric_and_scale_with_nothing():
    one, other = np.array([person(200), person(400, seed=4)]), np.array([person(260, seed=2)])
    there, back = distances(one, other), distances(other, one)
    np.testing.assert_allclose(there, back.T)
    larger = [np.concatenate([3 * each[..., :2], each[..., 2:]], 2) for each in (one, other)]
    np.testing.assert_allclose(distances(*larger), there, rtol=1e-5)
    np.testing.assert_allclose(np.diag(distances(one, one)), 0)


def test_with_too_little_in_common_the_boxes_are_compared():
    upper, lower = person(300), person(300)
    upper[8:], lower[:8] = 0, 0
    assert np.isfinite(distances(upper[None], lower[None])).all()
    assert distances(upper[None], lower[None])[0, 0] < 0.6


def test_a_frame_with_the_stamp_of_the_one_before_changes_no_name():
    tracker, who = Tracker(), [person(200), person(600, seed=1)]
    first = name_all(tracker, [who] * 3)
    assert set(first) == {("track_1", "track_2")}
    again = [tracker.name(("", ""), np.array(who), 2 * STEP_NS + 1) for _ in range(3)]
    assert set(again) == {("track_1", "track_2")}


def test_stamps_that_stand_still_lose_nobody():
    tracker = Tracker()
    names = {tracker.name(("",), np.array([person(300)]), 0) for _ in range(200)}
    assert len(names) == 1


def test_after_a_reset_everybody_is_new_and_no_name_comes_back():
    tracker = Tracker()
    who = np.array([person(300)])
    first = tracker.name(("",), who, 10**9)
    tracker.reset()
    assert tracker.name(("",), who, 1) not in (first, ("",))


def test_nobody_is_named_nothing():
    assert Tracker().name((), np.zeros((0, 18, 3), np.float32), 1) == ()
