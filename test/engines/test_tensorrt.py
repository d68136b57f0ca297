# SPDX-License-Identifier: Apache-2.0
"""The engine's whole way, on stand-ins of memory and launch: order, shapes, reuse, failures."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from helpers_bundle import make_bundle, mesh_model, standing_person
from helpers_tensorrt import (
    FLAVOURS,
    MOST,
    Context10,
    ContextRtx,
    EngineRtx,
    RuntimeCache,
    RuntimeConfig,
    StandinDriver,
    plan_of,
    standin_library,
)

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import POSE_SIGNATURE, mesh_signature
from key2mesh_core.model.engines.cuda import Driver
from key2mesh_core.model.engines.onnx import OnnxEngine
from key2mesh_core.model.engines.packed import ALIGNMENT, Layout
from key2mesh_core.model.engines.tensorrt import TensorRTEngine


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return StandinDriver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def standin(compiled):
    compiled.reset()
    before, compiled.lost = compiled.alive, 0
    yield compiled
    compiled.reset()
    assert compiled.alive == before + compiled.lost, "something was not given back"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle"))


def people(count: int) -> dict[str, np.ndarray]:
    each = [standing_person((300 + 10 * (k % 20), 240), 200 + 7 * (k % 30)) for k in range(count)]
    return {
        "keypoints": np.concatenate(each),
        "intrinsics": np.tile(np.float32([600, 600, 320, 240]), (count, 1)),
    }


def pose_engine(bundle, standin, flavour="rtx", **options):
    library = standin_library(standin, flavour)
    driver = Driver(standin.path)
    plan = plan_of(bundle.pose_path.read_bytes())
    engine = TensorRTEngine(plan, POSE_SIGNATURE, library, driver, name="pose.onnx", **options)
    return engine, library.module.engines[0]


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("recorded", [8, 0])
def test_it_answers_as_onnx_runtime_does_for_every_number_of_persons(
    bundle, standin, flavour, recorded
):
    reference = OnnxEngine(bundle.pose_path)
    engine, inside = pose_engine(bundle, standin, flavour, recorded=recorded)
    assert engine.most == MOST
    # Back and forth, so that each finds the memory as another number has left it.
    for count in (1, 2, 512, 3, 8, 9, 1, 64, 63, 9, 2, 1, 300):
        assert_same(engine.run(people(count)), reference.run(people(count)))
    assert inside.faults == []
    engine.close()


def test_the_mesh_follows_the_pose(bundle, standin):
    pose, _ = pose_engine(bundle, standin)
    library, driver = standin_library(standin), Driver(standin.path)
    signature = mesh_signature(bundle.vertex_count)
    mesh = TensorRTEngine(plan_of(mesh_model()), signature, library, driver, name="mesh.onnx")
    posed = pose.run(people(5))
    inputs = {name: posed[name] for name in signature.inputs}
    assert_same(mesh.run(inputs), OnnxEngine(bundle.mesh_path).run(inputs))
    mesh.close()
    pose.close()


def test_a_recorded_run_is_one_launch_and_one_wait(bundle, standin):
    engine, _ = pose_engine(bundle, standin)
    standin.calls()
    for count in (1, 8, 3):
        engine.run(people(count))
        assert standin.calls() == ["cuCtxSetCurrent", "cuGraphLaunch", "cuStreamSynchronize"]
    engine.close()


def test_a_larger_run_is_copied_in_computed_copied_out_and_waited_for(bundle, standin):
    engine, _ = pose_engine(bundle, standin)
    standin.calls()
    for count in (9, 9, 200, 512):
        engine.run(people(count))
        assert standin.calls() == [
            "cuCtxSetCurrent",
            "cuMemcpyHtoDAsync_v2",
            "cuLaunchHostFunc",
            "cuMemcpyDtoHAsync_v2",
            "cuStreamSynchronize",
        ]
    engine.close()


def test_nothing_is_allocated_once_it_is_made(bundle, standin):
    engine, inside = pose_engine(bundle, standin)
    alive, contexts = standin.alive, inside.contexts
    standin.calls()
    for count in range(1, 40):
        engine.run(people(count))
    assert not {name for name in standin.calls() if "Alloc" in name or "Create" in name}
    assert (standin.alive, inside.contexts) == (alive, contexts)
    engine.close()


def test_what_a_run_gave_is_not_changed_by_the_next(bundle, standin):
    engine, _ = pose_engine(bundle, standin)
    first = engine.run(people(2))
    kept = {name: values.copy() for name, values in first.items()}
    engine.run({name: values[::-1].copy() for name, values in people(2).items()})
    engine.run(people(30))
    assert_same(first, kept)
    engine.close()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_small_number_has_a_graph_and_a_context_of_its_own(bundle, standin, flavour):
    engine, inside = pose_engine(bundle, standin, flavour, recorded=5)
    assert inside.contexts == 6
    assert "graphs for up to 5 persons" in engine.device
    assert "Stand-in (8.6)" in engine.device
    standin.calls()
    engine.run(people(5))
    assert "cuGraphLaunch" in standin.calls()
    engine.run(people(6))
    assert "cuGraphLaunch" not in standin.calls()
    engine.close()
    assert inside.contexts == 0
    assert inside.faults == []


def test_only_what_is_recorded_is_compiled_before_it_runs(bundle, standin):
    engine, inside = pose_engine(bundle, standin, "rtx", recorded=2)
    assert sorted(each.name for each in inside.strategies) == ["EAGER", "EAGER", "LAZY"]
    engine.close()


def test_kernels_that_were_compiled_once_can_be_kept(bundle, standin):
    engine, _ = pose_engine(bundle, standin, "rtx")
    kept = engine.kernels()
    engine.close()
    assert kept == b"kernels k"
    for content in (kept, b"of another driver"):
        again, _ = pose_engine(bundle, standin, "rtx", kernels=content)
        assert again.kernels() == kept
        again.close()
    assert again.kernels() is None
    plain, _ = pose_engine(bundle, standin, "10.8")
    assert plain.kernels() is None
    plain.close()


def test_a_library_that_cannot_be_recorded_runs_all_the_same(bundle, standin, monkeypatch, caplog):
    monkeypatch.setattr(EngineRtx, "capturable", False)
    engine, _ = pose_engine(bundle, standin, recorded=2)
    assert "cannot be recorded" in caplog.text
    assert "up to 0 persons" in engine.device
    assert_same(engine.run(people(2)), OnnxEngine(bundle.pose_path).run(people(2)))
    engine.close()


def test_threads_wait_for_each_other(bundle, standin):
    engine, _ = pose_engine(bundle, standin)
    expected = {count: engine.run(people(count))["joints"] for count in (1, 3, 20)}
    wrong = []

    def work(count: int) -> None:
        try:
            for _ in range(20):
                found = engine.run(people(count))["joints"]
                if not np.array_equal(found, expected[count]):
                    wrong.append(count)
        except EngineError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(count,)) for count in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    engine.close()


def test_another_thread_may_close_it_and_twice(bundle, standin):
    engine, _ = pose_engine(bundle, standin)
    thread = threading.Thread(target=engine.close)
    thread.start()
    thread.join()
    engine.close()
    with pytest.raises(EngineError, match=r"pose\.onnx: the engine is closed"):
        engine.run(people(1))


def test_what_nobody_closes_is_freed_with_its_last_user(bundle, standin):
    before = standin.alive
    engine, inside = pose_engine(bundle, standin)
    assert standin.alive > before
    del engine
    assert standin.alive == before
    assert inside.faults == []


@pytest.mark.parametrize("recorded", [2, 0])
def test_each_call_that_fails_while_it_is_made_is_told_and_leaves_nothing(
    bundle, standin, recorded
):
    driver = Driver(standin.path)
    plan = plan_of(bundle.pose_path.read_bytes())
    failed = set()
    for call in range(1, 200):
        library = standin_library(standin)
        before = standin.alive
        standin.calls()
        standin.fail(call)
        try:
            engine = TensorRTEngine(
                plan, POSE_SIGNATURE, library, driver, name="pose.onnx", recorded=recorded
            )
        except EngineError as error:
            failure = str(error)
        else:
            standin.fail(0)
            engine.close()
            break
        failed.add(failure.split(" failed")[0])
        # A graph that cannot be destroyed stays, and what was made of it; all else is freed.
        lost = standin.alive - before
        assert lost == 2 * ("cuGraphDestroy" in failure), (call, failure)
        standin.lost += lost
    assert call < 199
    assert call > {2: 20, 0: 10}[recorded]
    if recorded:
        assert any("cuGraphInstantiate" in each for each in failed)
    assert any("cuMemHostAlloc" in each for each in failed)


@pytest.mark.parametrize("count", [1, 20])
def test_each_call_that_fails_in_a_run_is_told_and_the_next_run_is_right(bundle, standin, count):
    engine, inside = pose_engine(bundle, standin, recorded=2)
    expected = OnnxEngine(bundle.pose_path).run(people(count))
    for call in range(1, 20):
        engine.run(people(3))  # so that a larger run begins with shapes to set
        standin.calls()
        standin.fail(call, status=700)
        try:
            engine.run(people(count))
            break
        except EngineError:
            pass
        finally:
            standin.fail(0)
        # Nothing may still run when the next call writes its numbers.
        assert call == 1 or standin.calls()[-1] == "cuStreamSynchronize"
        assert_same(engine.run(people(count)), expected)
    assert call == {1: 4, 20: 6}[count]
    assert inside.faults == []
    engine.close()


def test_a_failure_names_the_graph_the_call_and_the_reason(bundle, standin):
    engine, _ = pose_engine(bundle, standin)
    standin.fail(2)
    with pytest.raises(
        EngineError,
        match=r"pose\.onnx: NVIDIA's driver: cuGraphLaunch failed: CUDA_ERROR_OUT_OF_MEMORY \(2\)",
    ):
        engine.run(people(1))
    engine.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints": people(1)["keypoints"][:, :17]}, r"'keypoints' must be \(1, 18, 3\)"),
        ({"keypoints": people(1)["keypoints"].astype(np.float64)}, "float64"),
        ({"surprise": np.zeros(1, np.float32)}, "surprise"),
        ({name: x[:0] for name, x in people(1).items()}, "1 to 512 persons a run, got 0"),
        (people(513), "1 to 512 persons a run, got 513"),
        ({"intrinsics": np.zeros((2, 4), np.float32)}, "'intrinsics'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_the_next_run_works(bundle, standin, change, words):
    engine, _ = pose_engine(bundle, standin, recorded=1)
    standin.calls()
    with pytest.raises(EngineError, match=rf"pose\.onnx: .*{words}"):
        engine.run(people(1) | change)
    assert standin.calls() == []
    assert engine.run(people(1))["betas"].shape == (1, 10)
    engine.close()


def test_an_engine_that_is_not_as_expected_is_refused(bundle, standin):
    driver, library = Driver(standin.path), standin_library(standin)
    with pytest.raises(EngineError, match=r"mesh\.onnx: .*expected inputs"):
        TensorRTEngine(
            plan_of(bundle.pose_path.read_bytes()),
            mesh_signature(bundle.vertex_count),
            library,
            driver,
            name="mesh.onnx",
        )
    with pytest.raises(
        EngineError, match=r"pose\.onnx: .*cannot load it: this is no plan.*rebuild"
    ):
        TensorRTEngine(b"\x7fELF", POSE_SIGNATURE, library, driver, name="pose.onnx")


@pytest.mark.parametrize("persons", [1, 2, 7, 512])
def test_packed_tensors_do_not_overlap_and_are_aligned(persons):
    shapes = {"a": (3,), "b": (), "c": (24, 3, 3)}
    layout = Layout.of(shapes, persons)
    end = 0
    for name, shape in shapes.items():
        assert layout.offsets[name] % ALIGNMENT == 0
        assert layout.offsets[name] >= end
        end = layout.offsets[name] + 4 * persons * int(np.prod(shape, dtype=int))
        assert layout.shapes[name] == (persons, *shape)
    assert end <= layout.size


def test_the_stand_in_has_only_what_the_library_has():
    real = pytest.importorskip("tensorrt_rtx")
    pairs = {
        EngineRtx: real.ICudaEngine,
        ContextRtx: real.IExecutionContext,
        Context10: real.IExecutionContext,
        RuntimeConfig: real.IRuntimeConfig,
        RuntimeCache: real.IRuntimeCache,
    }
    ours = {"scratch", "capturable", "complain"}
    for standin_class, real_class in pairs.items():
        names = {name for name in dir(standin_class) if not name.startswith("_")} - ours
        assert names <= set(dir(real_class)), standin_class
    assert {"INPUT", "OUTPUT"} <= set(dir(real.TensorIOMode))
    assert "USER_MANAGED" in dir(real.ExecutionContextAllocationStrategy)
    assert {"EAGER", "LAZY"} <= set(dir(real.DynamicShapesKernelSpecializationStrategy))
