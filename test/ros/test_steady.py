# SPDX-License-Identifier: Apache-2.0
"""Names, smoothing and quality as the node's subscribers see them, over DDS."""

import numpy as np
import pytest
from helpers_ros import QUICK, client, node_here, people, standing

START_S = 1_000.0


@pytest.fixture
def active(bundle):
    quick = {**QUICK, "smoothing": True}
    with node_here(model=str(bundle), **quick) as node, client() as probe:
        assert probe.change_state("configure")
        assert probe.change_state("activate")
        probe.send_until_counted(people(standing(), stamp=1.0), "meshes")
        yield node, probe


def walk(probe, count=8, start_s=START_S, noise=3.0, seed=0):
    """Two persons without names, in turns of order; per frame (name -> pelvis [m])."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        both = [standing(150 + 4 * i), standing(500 - 4 * i, height=250)]
        for each in both:
            each[:, :2] += rng.normal(0, noise, (18, 2))
        message = people(*both[:: (-1) ** i], stamp=start_s + i / 30)
        for person in message.people:
            person.id = ""
        answer = probe.exchange(message).bodies
        frames.append({b.id: np.array([b.position.x, b.position.y, b.position.z]) for b in answer})
    return frames


def test_persons_without_names_get_some_that_stay(active):
    _, probe = active
    frames = walk(probe)
    names = set(frames[0])
    assert len(names) == 2
    assert "" not in names
    for frame in frames:
        assert set(frame) == names
        left, right = sorted(frame, key=lambda name: frame[name][0])
        assert (left, right) == tuple(sorted(frames[0], key=lambda name: frames[0][name][0]))


def test_smoothing_is_one_parameter(active):
    _, probe = active

    def shaking(start_s):
        places = np.array([sorted(map(tuple, f.values())) for f in walk(probe, start_s=start_s)])
        return np.abs(np.diff(places[..., 2], 2, axis=0)).mean()

    smooth = shaking(START_S)
    assert probe.set_parameters(smoothing=False) == [(True, "")]
    assert shaking(START_S + 100) > 3 * smooth


def test_a_clock_that_jumps_back_forgets_everybody(active):
    _, probe = active
    names = set(walk(probe, count=3)[0])
    assert not names & set(walk(probe, count=1, start_s=START_S - 500)[0])


def test_bodies_of_low_quality_are_left_out_and_counted(active):
    _, probe = active
    sure, unsure = standing(150), standing(500)
    unsure[:, 2] = 0.15
    qualities = [b.quality for b in probe.exchange(people(sure, unsure)).bodies]
    assert qualities[1] < qualities[0]
    between = float(np.mean(qualities))
    assert probe.set_parameters(min_quality=between) == [(True, "")]
    left = probe.exchange(people(sure, unsure)).bodies
    assert [b.quality for b in left] == pytest.approx([qualities[0]])
    probe.wait(lambda: probe.number("left_out.low_quality") >= 1, "the count")
