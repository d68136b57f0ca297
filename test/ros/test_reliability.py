# SPDX-License-Identifier: Apache-2.0
"""What the node bears, in the short forms of benchmarks/reliability; times are not judged here,
as a busy machine must not fail the tests."""

import json

import numpy as np
import pytest

from benchmarks.reliability import (
    bag,
    clock,
    disk,
    faults,
    fuzz,
    lifecycle,
    persons,
    publisher,
    report,
    signals,
    soak,
)
from benchmarks.reliability.checks import Outcome
from benchmarks.reliability.messages import variants
from key2mesh_core.errors import Key2MeshError

MIB = 1 << 20


def silent(line):
    """Where the long forms tell how far they are."""


@pytest.mark.parametrize(
    ("kind", "count"), [("key2mesh", 55_000), ("yolo", 15_000), ("zed", 15_000), ("hri", 15_000)]
)
def test_arbitrary_messages_neither_end_nor_mislead_the_node(bundle, tmp_path, kind, count):
    assert fuzz.run(str(bundle), tmp_path, count, only=(kind,), say=silent).failures == []


def test_memory_does_not_grow_with_frames(bundle, tmp_path):
    result = soak.run(str(bundle), tmp_path, frames=2000, warm_up=1000, say=silent)
    # Of a busy machine; a leak of half a kilobyte a frame would still show.
    timeless = [each for each in result.failures if "latency" not in each and "time" not in each]
    assert timeless == []


def test_every_call_of_an_engine_may_fail(bundle, tmp_path):
    assert faults.run(str(bundle), tmp_path, calls=4, say=silent).failures == []


def test_the_lifecycle_is_walked_through_every_transition(bundle, tmp_path):
    assert lifecycle.run(str(bundle), tmp_path, walks=3, say=silent).failures == []


def test_a_detector_may_be_killed_and_started_again(bundle, tmp_path):
    assert publisher.run(str(bundle), tmp_path, restarts=2, say=silent).failures == []


def test_a_bag_in_a_loop_gives_the_same_each_time(bundle, tmp_path):
    assert bag.run(str(bundle), tmp_path, rounds=3, frames=40, say=silent).failures == []


def test_the_clock_may_jump(bundle, tmp_path):
    assert clock.run(str(bundle), tmp_path, jumps=200, say=silent).failures == []


def test_a_disk_may_be_full(bundle, tmp_path):
    assert disk.run(str(bundle), tmp_path, limits=2, say=silent).failures == []


def test_signals_may_come_at_any_moment(bundle, tmp_path):
    assert signals.run(str(bundle), tmp_path, nodes=4, jobs=2, say=silent).failures == []


# What the parts would say of a node that fails: a check that cannot fail checks nothing.


def soaked(growth_mib=0.0, slower=1.0, unanswered=0):
    latencies = np.linspace(1e-3, slower * 1e-3, 1000, dtype=np.float32)
    memory = (100 * MIB + np.linspace(0, growth_mib * MIB, 21)).astype(int)
    computed = np.cumsum(np.linspace(1.0, slower, 21))
    return soak.judged(latencies, memory, computed, unanswered, {}, "").failures


def test_a_leak_or_a_drift_is_seen():
    assert soaked() == []
    assert len(soaked(growth_mib=1.1)) == 1
    assert len(soaked(slower=1.5)) == 2  # latency, and processor time
    assert len(soaked(unanswered=1)) == 1


def test_a_dropped_or_a_late_mesh_is_seen():
    quick = np.full(300, 20.0)
    assert persons.judged(300, quick, 0, 1.0, {}).failures == []
    assert len(persons.judged(301, quick, 0, 1.0, {}).failures) == 1
    assert len(persons.judged(300, quick, 1, 1.0, {}).failures) == 1
    assert len(persons.judged(300, np.full(300, 40.0), 0, 1.0, {}).failures) == 1
    assert len(persons.judged(300, np.zeros(0), 0, 1.0, {}).failures) == 2


def test_the_first_variant_is_the_message_and_the_others_are_spoilt():
    from helpers_ros import people, standing
    from rclpy.serialization import serialize_message

    message = people(standing())
    made = variants(message, 16, seed=3)
    assert made[0] == serialize_message(message)
    assert len(made) == 16
    assert all(each != made[0] for each in made[1:])


# The table.


@pytest.fixture
def output(tmp_path):
    outcome = Outcome()
    outcome.check("a thing", "seen", True)
    outcome.none("accident", ["one | of\nthem"])
    machine = {"processor": "P", "cores": 2, "python": "3", "packages": {}, "load_before": 0.1}
    result = outcome.to_json() | {"machine": machine, "scale": 0.5, "seconds": 1}
    (tmp_path / "clock.json").write_text(json.dumps(result))
    return tmp_path


def test_the_table_says_what_was_not_met_and_what_was_shortened(output, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- results: machine -->\n<!-- end -->\n<!-- results: checks -->\nold\n<!-- end -->\n"
    )
    report.update(output, page)
    text = page.read_text()
    assert "| clock (0.5 of its length) | a thing" in text
    assert "1; the first: one / of them | NO " in text
    assert "old" not in text
    report.update(output, page)
    assert page.read_text() == text


def test_nothing_measured_is_said(tmp_path):
    with pytest.raises(Key2MeshError, match="make bench-reliability"):
        report.load(tmp_path)


def test_the_page_has_a_place_for_the_table():
    text = report.PAGE.read_text()
    assert "<!-- results: machine -->" in text
    assert "<!-- results: checks -->" in text
