# SPDX-License-Identifier: Apache-2.0
"""Counts, times, level and message of the diagnostics, with a fake clock."""

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from hypothesis import given
from hypothesis import strategies as st

from key2mesh_ros.causes import CAUSES, LEFT_OUT, REFUSED, WARNING
from key2mesh_ros.diagnostics import SILENCE_S, STAGES, WINDOW, About, FrameStatistics

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

NOTHING = dict.fromkeys(STAGES, 0.0)

ACTIVE = About(active=True, topic="/keypoints", publishers=1, facts={"model": "m"})


def arrive(statistics, now, sequence):
    """A frame that comes, and is taken up at once."""
    statistics.arrived(now, sequence)
    statistics.count("frames")


def working(frames=30, start=0.0):
    """Statistics of a second of a good stream."""
    statistics = FrameStatistics(start)
    for number in range(1, frames + 1):
        arrive(statistics, start + number / frames, number)
        statistics.published(0.004, {**NOTHING, "pose": 0.002, "mesh": 0.001}, 1)
    return statistics


def report(statistics, about=ACTIVE, now=1.0):
    """(level, message, values)"""
    status = statistics.status("/node", "cpu", about, now)
    assert (status.name, status.hardware_id) == ("/node", "cpu")
    return status.level, status.message, {v.key: v.value for v in status.values}


def test_a_good_stream_is_ok_and_its_numbers_are_right():
    level, message, values = report(working())
    assert (level, message) == (OK, "30.0 frames per second")
    assert values["rate_hz"] == "30.0"
    assert values["latency_ms_p50"] == values["latency_ms_p99"] == "4.00"
    assert values["engine_ms_p50"] == "3.00"
    assert (values["pose_ms_p50"], values["mesh_ms_p50"]) == ("2.00", "1.00")
    assert values["wait_ms_p50"] == "0.00"
    assert values["frames"] == values["meshes"] == values["people"] == "30"
    assert values["dropped"] == values["refused"] == values["left_out"] == values["warning"] == "0"
    assert values["model"] == "m"
    assert values["state"] == "active"


def test_percentiles_are_of_the_newest_frames():
    statistics = FrameStatistics(0.0)
    for _ in range(WINDOW):
        statistics.published(9.0, dict.fromkeys(STAGES, 9.0), 1)
    for number in range(WINDOW):
        statistics.published(1e-3 * number, NOTHING, 1)
    _, _, values = report(statistics)
    assert float(values["latency_ms_p50"]) == pytest.approx((WINDOW - 1) / 2, abs=0.01)
    assert float(values["latency_ms_p99"]) == pytest.approx(0.99 * (WINDOW - 1), abs=0.01)


@given(st.lists(st.integers(1, 5), max_size=30))
def test_gaps_in_the_publishers_numbers_are_what_was_dropped(steps):
    statistics, sequence = FrameStatistics(0.0), 1000  # joined late: nothing is lost by that
    arrive(statistics, 0.0, sequence)
    for step in steps:
        sequence += step
        arrive(statistics, 0.0, sequence)
    assert statistics.totals["dropped"] == sum(steps) - len(steps)
    assert statistics.totals["frames"] + statistics.totals["dropped"] == 1 + sum(steps)


@pytest.mark.parametrize("sequence", [None, 1, 5])
def test_a_publisher_that_begins_anew_or_does_not_number_drops_nothing(sequence):
    statistics = FrameStatistics(0.0)
    for number in (5, 6, sequence):
        arrive(statistics, 0.0, number)
    assert statistics.totals["dropped"] == 0


def test_a_restart_forgets_the_stream_and_keeps_the_totals():
    statistics = working()
    statistics.count("unknown_layout")
    statistics.restart(5.0)
    arrive(statistics, 5.5, 900)  # another stream's number: no gap
    level, _, values = report(statistics, now=6.0)
    assert level == OK
    assert values["latency_ms_p50"] == "none"
    assert (values["frames"], values["dropped"]) == ("31", "0")
    assert values["refused.unknown_layout"] == "1"


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_is_counted_and_says_what_to_do(cause):
    statistics = working()
    statistics.count(cause, 3)
    level, message, values = report(statistics)
    kind = CAUSES[cause].kind
    assert level == WARN
    assert message.startswith(f"3 x {CAUSES[cause].advice}")
    assert values[f"{kind}.{cause}"] == values[kind] == "3"
    level, message, values = report(statistics, now=2.0)  # over, but not forgotten
    assert (level, message) == (OK, "0.0 frames per second")
    assert values[f"{kind}.{cause}"] == "3"


def test_the_worst_is_said_first():
    statistics = working()
    for cause in ("over_max_people", "no_camera_info", "keypoint_count"):
        statistics.count(cause)
    _, message, _ = report(statistics)
    order = [message.index(CAUSES[c].advice) for c in ("keypoint_count", "no_camera_info")]
    assert order == sorted(order)
    assert message.index(CAUSES["over_max_people"].advice) > max(order)


def test_nothing_but_refusals_is_an_error():
    statistics = FrameStatistics(0.0)
    arrive(statistics, 0.5, 1)
    statistics.count("unknown_layout")
    assert report(statistics)[0] == ERROR


def test_silence_is_a_warning_that_tells_a_missing_publisher_from_a_silent_one():
    statistics = working()
    assert report(statistics, now=1.0 + 0.9 * SILENCE_S)[0] == OK
    level, message, _ = report(statistics, now=2.0 + SILENCE_S)
    assert level == WARN
    assert "/keypoints" in message
    nobody = About(active=True, topic="/keypoints")
    level, missing, _ = report(statistics, nobody, now=2.0 + SILENCE_S)
    assert level == WARN
    assert "/keypoints" in missing
    assert missing != message


@pytest.mark.parametrize(("every", "level"), [(2, WARN), (20, OK)])
def test_many_drops_are_a_warning_and_a_few_are_not(every, level):
    statistics, sequence = FrameStatistics(0.0), 0
    for number in range(100):
        sequence += 2 if number % every == 1 else 1
        arrive(statistics, 0.5, sequence)
        statistics.published(0.01, NOTHING, 1)
    found, message, values = report(statistics)
    assert found == level
    assert ("dropped" in message) == (level == WARN)
    assert int(values["dropped"]) == sequence - 100


def test_two_detectors_on_one_topic_are_a_warning():
    about = About(active=True, topic="/keypoints", publishers=2)
    level, message, _ = report(working(), about)
    assert level == WARN
    assert "2 publishers on /keypoints" in message


def test_a_node_that_is_not_active_is_ok_and_says_so():
    level, message, values = report(FrameStatistics(0.0), About(), now=100.0)
    assert level == OK
    assert "activate" in message
    assert values["state"] == "not active"


def test_a_failed_transition_is_an_error_in_its_own_words():
    about = About(failure="configure failed: /x/pose.onnx: truncated")
    assert report(FrameStatistics(0.0), about)[:2] == (ERROR, about.failure)


def test_every_cause_is_of_a_known_kind_and_tells_how_to_mend_it():
    for cause in CAUSES.values():
        assert cause.kind in (REFUSED, LEFT_OUT, WARNING)
        assert len(cause.advice) > 30
