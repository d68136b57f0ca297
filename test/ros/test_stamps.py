# SPDX-License-Identifier: Apache-2.0
"""Frames out of order, with equal stamps or none: which are processed, and who keeps their name."""

from contextlib import suppress
from types import SimpleNamespace

import pytest
from helpers_ros import people, standing

from key2mesh_core.camera.choose import NOTHING_STATED
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.messages import DETECTORS, MessageRefused
from key2mesh_ros.diagnostics import FrameStatistics, Stages
from key2mesh_ros.parameters import Parameters
from key2mesh_ros.stream import Stream

T0 = 1000.0


def unnamed(*persons, **changes):
    message = people(*persons, **changes)
    for each in message.people:
        each.id = ""
    return message


@pytest.fixture
def stream(bundle):
    """`answer(stamp)`: the names of two unnamed persons."""
    statistics = FrameStatistics(0.0)
    made = Stream(Estimator(load_bundle(bundle)), statistics)

    def answer(stamp):
        message = unnamed(standing(), standing(100.0), stamp=stamp)
        frame = DETECTORS["key2mesh"].read(message, None, NOTHING_STATED).in_network_order()
        result = made.estimate(frame, None, Parameters(), False, Stages())
        made.note(result, 0)
        return result.frame.ids

    return SimpleNamespace(answer=answer, totals=statistics.totals)


def answer_or_none(stream, stamp):
    """The names, or None for a frame that is late."""
    with suppress(MessageRefused):
        return stream.answer(stamp)


def test_a_late_frame_is_refused_and_renames_nobody(stream):
    names = stream.answer(T0)
    assert stream.answer(T0 + 0.1) == names
    for late in (0.0, 0.05, -0.8):
        with pytest.raises(MessageRefused) as refusal:
            stream.answer(T0 + late)
        assert refusal.value.cause == "late"
    assert stream.answer(T0 + 0.2) == names
    assert stream.totals["clock_jump"] == 0


def test_two_detectors_threads_out_of_order_rename_nobody(stream):
    names = stream.answer(T0)
    for step in range(1, 60):
        for stamp in (T0 + (step + 1) / 30, T0 + step / 30):
            assert answer_or_none(stream, stamp) in (names, None)
    assert stream.totals["clock_jump"] == 0


def test_a_jump_back_of_more_than_a_second_is_another_stream(stream):
    names = stream.answer(T0)
    assert not set(stream.answer(T0 - 1.5)) & set(names)
    assert stream.totals["clock_jump"] == 1
    assert stream.answer(T0 - 1.4)


def test_a_bag_of_less_than_a_second_that_loops_is_answered_again(stream):
    answered = 0
    for _ in range(8):
        for step in range(15):
            answered += answer_or_none(stream, T0 + step / 30) is not None
    assert answered > 15 + 15
    assert stream.totals["clock_jump"] >= 2


def test_one_stamp_twice_is_answered_twice_and_doubted(stream):
    names = stream.answer(T0)
    assert stream.answer(T0) == names
    assert stream.totals["repeated_stamp"] == 1


def test_stamps_of_zero_are_answered_and_doubted(stream):
    names = stream.answer(0.0)
    assert {stream.answer(0.0) for _ in range(60)} == {names}
    assert stream.totals["zero_stamp"] == 61
    assert stream.totals["clock_jump"] == 0
