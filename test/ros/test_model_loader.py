# SPDX-License-Identifier: Apache-2.0
"""`~/load_model`: another model at 30 Hz without losing a message, or the same one as before."""

import json
import shutil
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from helpers_bundle import damage, make_bundle, rewrite_manifest
from helpers_ros import QUICK, client, node_here, node_process, people, standing

from key2mesh_ros import mesh_node
from key2mesh_ros.srv import LoadModel


@pytest.fixture(scope="module")
def taller(tmp_path_factory):
    """A bundle of another body: its graphs put people twice as far away, its name differs."""

    def twice_as_far(model):
        (height,) = (each for each in model.graph.initializer if each.name == "height")
        height.float_data[:] = [2 * value for value in height.float_data]

    folder = tmp_path_factory.mktemp("taller") / "taller"
    make_bundle(folder, change_pose=twice_as_far)
    rewrite_manifest(folder, lambda m: m.update(body_model="long_bones@1", name="taller"))
    return folder


@pytest.fixture
def slowly(monkeypatch):
    """Loading waits until it is let go."""
    go, right = threading.Event(), mesh_node.load_bundle

    def load(path):
        if threading.current_thread().name.startswith("Thread") and "taller" in str(path):
            go.wait(20)
        return right(path)

    monkeypatch.setattr(mesh_node, "load_bundle", load)
    return go


def load(probe, path):
    return probe.ask(LoadModel, "load_model", LoadModel.Request(path=str(path)))


def depth(message):
    return message.bodies[0].position.z


def test_another_model_answers_from_the_next_frame_on(active, bundle, taller):
    node, probe = active
    before = probe.exchange(people(standing()))
    answer = load(probe, taller)
    assert (answer.ok, "taller" in answer.message) == (True, True)
    after = probe.exchange(people(standing()))
    assert after.body_model == "long_bones@1"
    assert depth(after) == pytest.approx(2 * depth(before), rel=0.05)
    probe.wait(lambda: len(probe.topologies) == 2, "the other body's topology")
    assert probe.topologies[-1].body_model == "long_bones@1"
    with client() as late:
        late.wait(lambda: late.topologies, "the topology")
        assert late.topologies[-1].body_model == "long_bones@1"
    probe.fresh_status()
    assert probe.values["model"] == "taller"
    assert probe.values["model_path"] == str(taller)
    # The parameter names what runs: configuring again brings the same model back.
    assert node.get_parameter("model").value == str(taller)
    for step in ("deactivate", "cleanup", "configure", "activate"):
        assert probe.change_state(step)
    probe.wait_for_node()
    assert probe.exchange_again(people(standing())).body_model == "long_bones@1"
    assert load(probe, bundle).ok


def exchange_at_30_hz(probe, bundle, taller, count, paced):
    """(stamps sent, body model by stamp of each answer, answers of load_model): `count` messages
    during which the model changes three times. If `paced`, each waits for its answer's arrival,
    however late a loaded machine is; else they are sent whatever happens."""
    sent, answers = [], []
    service = probe.create_client(LoadModel, f"{probe.node}/load_model")
    probe.wait(service.service_is_ready, "load_model")

    def models():
        return {(m.header.stamp.sec, m.header.stamp.nanosec): m.body_model for m in probe.meshes}

    start = time.monotonic()
    for number in range(count):
        if number in (count // 6, count // 2, 3 * count // 4):
            path = str(bundle if number == count // 2 else taller)
            answers.append(service.call_async(LoadModel.Request(path=path)))
        message = people(standing())
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        sent.append(stamp)
        probe.keypoints.publish(message)
        if paced:
            probe.wait(lambda stamp=stamp: stamp in models(), f"the answer to message {number}")
        probe.spin(max(0.0, start + (number + 1) / 30 - time.monotonic()))
    probe.wait(lambda: all(each.done() for each in answers), "the answers")
    probe.spin(0.3)
    probe.destroy_client(service)
    return sent, models(), [each.result().ok for each in answers]


@pytest.mark.parametrize("paced", [True, pytest.param(False, marks=pytest.mark.long)])
def test_no_message_is_lost_while_models_are_exchanged_at_30_hz(bundle, taller, tmp_path, paced):
    with node_process(tmp_path / "log", model=bundle, **QUICK) as process, client() as probe:
        probe.wait_for_node()
        probe.exchange(people(standing()))  # from here on everything that is sent arrives
        probe.fresh_status()
        before = probe.number("dropped")
        sent, found, answers = exchange_at_30_hz(probe, bundle, taller, 60, paced)
        assert answers == [True] * 3
        lost = [each for each in sent if each not in found]
        probe.fresh_status()
        # What a busy machine loses is counted.
        assert len(lost) == probe.number("dropped") - before
        assert len(lost) <= (0 if paced else 30)
        models = [found[each] for each in sent if each in found]
        # The last exchange may come after the last message.
        assert 2 <= sum(a != b for a, b in pairwise(models)) <= 3
        assert process.end()[0] == 0


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda folder: damage(folder / "pose.onnx", "truncate"), "pose.onnx"),
        (lambda folder: rewrite_manifest(folder, lambda m: m.update(format=99)), "format"),
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (lambda folder: (folder / "model.json").write_text(json.dumps([])), "model.json"),
    ],
    ids=["truncated", "version", "missing", "manifest"],
)
def test_a_bad_bundle_leaves_the_old_one_running_and_says_why(
    active, tmp_path, taller, spoil, expected
):
    node, probe = active
    before = probe.exchange(people(standing()))
    broken = tmp_path / "broken"
    shutil.copytree(taller, broken)
    spoil(broken)
    answer = load(probe, broken)
    assert not answer.ok
    assert expected in answer.message
    after = probe.exchange(people(standing()))
    assert after.body_model == before.body_model
    assert node.get_parameter("model").value != str(broken)
    assert len(probe.topologies) == 1


def test_a_bundle_whose_weights_are_damaged_is_found_before_it_is_used(active, tmp_path):
    """NaN in the graph: only running it shows that."""
    _, probe = active

    def spoil(model):
        (height,) = (each for each in model.graph.initializer if each.name == "height")
        height.float_data[:] = [np.nan]

    folder = tmp_path / "nan"
    make_bundle(folder, change_pose=spoil)
    answer = load(probe, folder)
    assert not answer.ok
    assert "not finite" in answer.message
    assert len(probe.exchange(people(standing())).bodies) == 1


def test_a_node_that_is_not_configured_says_what_to_do(bundle):
    with node_here(model=str(bundle), **QUICK), client() as probe:
        answer = load(probe, bundle)
        assert not answer.ok
        assert "configure" in answer.message


def test_an_empty_path_is_refused(active):
    _, probe = active
    answer = load(probe, "")
    assert not answer.ok
    assert "path" in answer.message


@pytest.mark.parametrize(
    ("steps", "ok"),
    [
        (["deactivate"], True),
        (["deactivate", "activate"], True),
        (["deactivate", "cleanup"], False),
        (["deactivate", "cleanup", "configure", "activate"], False),
    ],
    ids=["deactivated", "activated again", "cleaned up", "configured again"],
)
def test_transitions_while_a_model_is_being_loaded(active, taller, slowly, steps, ok):
    _, probe = active
    probe.exchange(people(standing()))
    service = probe.create_client(LoadModel, f"{probe.node}/load_model")
    probe.wait(service.service_is_ready, "load_model")
    future = service.call_async(LoadModel.Request(path=str(taller)))
    probe.spin(0.3)
    second = load(probe, taller)
    assert not second.ok
    assert "being loaded" in second.message
    for step in steps:
        assert probe.change_state(step)
    slowly.set()
    probe.wait(future.done, "the answer")
    assert future.result().ok == ok
    if not ok:
        assert "cleaned up" in future.result().message
    state = {"deactivate": "inactive", "cleanup": "unconfigured"}.get(steps[-1], "active")
    assert probe.state() == state
    if state == "active":
        name = "long_bones@1" if ok else "bones@000000000000"
        probe.wait_for_node()
        assert probe.exchange_again(people(standing())).body_model == name
    probe.destroy_client(service)


def test_the_node_may_end_while_a_model_is_being_loaded(bundle, taller, slowly):
    with node_here(model=str(bundle), **QUICK), client() as probe:
        assert probe.change_state("configure")
        service = probe.create_client(LoadModel, f"{probe.node}/load_model")
        probe.wait(service.service_is_ready, "load_model")
        service.call_async(LoadModel.Request(path=str(taller)))
        probe.spin(0.3)
        probe.destroy_client(service)
    before = threading.active_count()
    slowly.set()
    limit = time.monotonic() + 10
    while threading.active_count() >= before and time.monotonic() < limit:
        time.sleep(0.05)
    assert threading.active_count() < before  # the loader found nobody, and ended
