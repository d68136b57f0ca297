# SPDX-License-Identifier: Apache-2.0
"""The node in several threads: transitions, parameters and model swaps never interrupt a frame.

The long form of the stress test (`pytest -m long`) takes ten minutes.
"""

import random
import threading
import time

import pytest
from helpers_bundle import make_bundle
from helpers_ros import (
    QUICK,
    TRANSITIONS,
    camera_info,
    client,
    make_node,
    people,
    spinning,
    standing,
)
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.exceptions import InvalidHandle
from rclpy.executors import MultiThreadedExecutor
from rclpy.parameter import Parameter

from key2mesh_ros.srv import LoadModel

STRESS_RATE_HZ = 60

CHANGES = [
    {"max_people": 1},
    {"max_people": 32},
    {"publish_vertices": False},
    {"publish_vertices": True},
    {"smoothing": False},
    {"smoothing": True},
    {"min_quality": 0.3},
    {"min_quality": 0.0},
    {"camera_fx": 500.0},
    {"camera_fx": 0.0},
    {"body_height": 1.8},
    {"body_height": 0.0},
    {"track_timeout": 0.2},
    {"tf_prefix": "other_"},  # refused, unless the node is unconfigured
    {"max_people": 0},  # always refused
]

EXPECTED_REFUSALS = {"late", "no_image_size"}
"""What frames may be refused for: never `failed`, never the engine."""


class Meddler:
    """Asks the node for something at random, one request of each service at a time."""

    def __init__(self, probe, models, seed):
        self.random = random.Random(seed)
        self.models = models
        self.answered = {"change_state": 0, "set_parameters": 0, "load_model": 0}
        kinds = {
            "change_state": ChangeState,
            "set_parameters": SetParameters,
            "load_model": LoadModel,
        }
        self.clients = {n: probe.create_client(k, f"{probe.node}/{n}") for n, k in kinds.items()}
        for name, each in self.clients.items():
            probe.wait(each.service_is_ready, name)
        self.asked = {}

    def request(self, name):
        if name == "change_state":
            transition = self.random.choice(list(TRANSITIONS.values()))
            return ChangeState.Request(transition=Transition(id=transition))
        if name == "load_model":
            return LoadModel.Request(path=self.random.choice(self.models))
        changes = self.random.choice(CHANGES)
        parameters = [Parameter(k, value=v).to_parameter_msg() for k, v in changes.items()]
        return SetParameters.Request(parameters=parameters)

    def meddle(self):
        for name, each in self.clients.items():
            asked = self.asked.get(name)
            if asked is None or asked.done():
                self.answered[name] += asked is not None
                if self.random.random() < 0.15:
                    self.asked[name] = each.call_async(self.request(name))
                else:
                    self.asked.pop(name, None)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [5, pytest.param(600, marks=pytest.mark.long)])
def test_frames_at_60_hz_while_everything_changes(bundle, tmp_path, seconds):
    other = str(make_bundle(tmp_path / "other").path)
    models = [str(bundle), other, str(tmp_path / "nothing")]
    node = make_node(model=str(bundle), **QUICK)
    with spinning(node, executor=MultiThreadedExecutor(4)) as raised, client() as probe:
        for step in ("configure", "activate"):
            assert probe.change_state(step)
        probe.wait_for_node()
        threads = threading.active_count()
        meddler, begin, sent = Meddler(probe, models, seed=seconds), time.monotonic(), 0
        while (now := time.monotonic()) < begin + seconds:
            probe.keypoints.publish(people(standing(), standing(100.0, height=150.0)))
            probe.camera.publish(camera_info(fx=600.0 + sent % 2))
            sent += 1
            meddler.meddle()
            probe.spin(max(0.0, begin + sent / STRESS_RATE_HZ - now))
            if len(probe.meshes) > 100:
                del probe.meshes[:50]
        # rclpy's own race of an executor with a subscription that is destroyed; the program's loop
        # (`process.run`) bears it, too.
        assert [each for each in raised if not isinstance(each, InvalidHandle)] == []
        totals = dict(node._statistics.totals)
        assert totals.get("failed", 0) == totals.get("callback_failed", 0) == 0, totals
        refused = totals["frames"] - totals["meshes"]
        assert refused <= sum(totals.get(each, 0) for each in EXPECTED_REFUSALS)
        assert totals["meshes"] > seconds
        assert all(count > seconds / 3 for count in meddler.answered.values()), meddler.answered
        # Whatever state it was left in, it works.
        probe.wait(lambda: all(each.done() for each in meddler.asked.values()), "the last answers")
        for step in ("deactivate", "cleanup", "configure", "activate"):
            probe.change_state(step)
        assert probe.state() == "active"
        assert probe.set_parameters(max_people=32, min_quality=0.0) == [(True, "")] * 2
        probe.wait_for_node()
        assert len(probe.exchange(people(standing())).bodies) == 1
        assert threading.active_count() <= threads + 2


@pytest.mark.parametrize("paced", [True, pytest.param(False, marks=pytest.mark.long)])
def test_two_nodes_answer_every_frame(bundle, paced):
    """If `paced`, a frame waits for the answers to the one before: a busy machine loses nothing.
    Else those that it loses are counted, and are fewer than a starved executor's two of three."""
    places = ("left", "right")
    nodes = [make_node(place, model=str(bundle)) for place in places]
    executor = MultiThreadedExecutor(2)
    with (
        spinning(*nodes, executor=executor) as raised,
        client("/left/mesh_node") as left,
        client("/right/mesh_node") as right,
    ):
        for probe in (left, right):
            for step in ("configure", "activate"):
                assert probe.change_state(step)
            probe.wait_for_node()
            probe.exchange(people(standing()))
            probe.meshes.clear()
        before = [node._statistics.totals["dropped"] for node in nodes]
        count, begin = (60 if paced else 230), time.monotonic()
        for number in range(count):
            for probe in (left, right):
                probe.keypoints.publish(people(standing()))
            for probe in (left, right):
                if paced:
                    probe.wait(lambda p=probe, n=number: len(p.meshes) > n, "the answer")
                probe.spin(max(0.0, (begin + (number + 1) / 30 - time.monotonic()) / 2))
        for probe, node, earlier in zip((left, right), nodes, before, strict=True):
            probe.spin(0.5)
            dropped = node._statistics.totals["dropped"] - earlier
            assert len(probe.meshes) + dropped == count
            assert dropped <= (0 if paced else count / 2)
        assert raised == []
