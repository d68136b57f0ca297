# SPDX-License-Identifier: Apache-2.0
"""The engine on a simulated GPU: order of calls, shapes, reuse, failures."""

from __future__ import annotations

import gc
import sys
import threading

import numpy as np
import pytest
from helpers_bundle import make_bundle, mesh_model, standing_person
from helpers_tensorrt import (
    AWAY,
    FLAVOURS,
    MOST,
    NAME,
    Context,
    Engine,
    Machine,
    RuntimeCache,
    RuntimeConfig,
    install,
    plan_of,
    standin_library,
)

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import POSE_SIGNATURE, mesh_signature
from key2mesh_core.model.engines.cuda import open_gpu
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.onnx import OnnxEngine
from key2mesh_core.model.engines.tensorrt import TensorRTEngine
from key2mesh_core.model.engines.tensorrt_build import Plan


@pytest.fixture
def machine(monkeypatch):
    found = Machine()
    install(found, monkeypatch)
    yield found
    gc.collect()
    assert not found.alive, "memory was not given back"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def reference(bundle):
    return OnnxEngine(bundle.pose_path)


def people(count: int) -> dict[str, np.ndarray]:
    each = [standing_person((300 + 10 * (k % 20), 240), 200 + 7 * (k % 30)) for k in range(count)]
    return {
        "keypoints": np.concatenate(each),
        "intrinsics": np.tile(np.float32([600, 600, 320, 240]), (count, 1)),
    }


def pose_engine(bundle, machine, flavour="rtx", cache=None, gpu=None, **options):
    library = standin_library(machine, flavour)
    graph = bundle.pose_path.read_bytes()
    plan = Plan("pose.onnx", graph, POSE_SIGNATURE, library, NAME, "fp32")
    cache = EngineCache(bundle.path.parent / "engines") if cache is None else cache
    engine = TensorRTEngine(plan_of(graph), plan, gpu or open_gpu(), cache, **options)
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
    bundle, machine, reference, flavour, recorded
):
    engine, inside = pose_engine(bundle, machine, flavour, recorded=recorded)
    assert engine.most == MOST
    assert f"graphs for up to {recorded} persons" in engine.device
    assert NAME in engine.device
    assert inside.contexts == recorded + 1
    # Back and forth, so that each finds the memory as another number has left it.
    for count in (1, 2, 512, 3, 8, 9, 1, 64, 63, 9, 2, 1, 300):
        assert_same(engine.run(people(count)), reference.run(people(count)))
    engine.close()
    assert inside.faults == []
    assert inside.contexts == 0


def test_the_mesh_follows_the_pose(bundle, machine):
    pose, _ = pose_engine(bundle, machine)
    graph, signature = mesh_model().SerializeToString(), mesh_signature(bundle.vertex_count)
    plan = Plan("mesh.onnx", graph, signature, standin_library(machine), NAME, "fp32")
    cache = EngineCache(bundle.path.parent / "engines")
    mesh = TensorRTEngine(plan_of(graph), plan, open_gpu(), cache)
    posed = pose.run(people(5))
    inputs = {name: posed[name] for name in signature.inputs}
    assert_same(mesh.run(inputs), OnnxEngine(bundle.mesh_path).run(inputs))
    mesh.close()
    pose.close()


def test_a_recorded_run_is_one_launch_and_one_wait(bundle, machine):
    engine, _ = pose_engine(bundle, machine)
    for count in (1, 8, 3):
        machine.calls.clear()
        engine.run(people(count))
        assert machine.calls == ["set_current", "launch", "sync"]
    engine.close()


def test_nothing_is_allocated_once_it_is_made(bundle, machine):
    engine, inside = pose_engine(bundle, machine)
    alive, contexts = len(machine.alive), inside.contexts
    machine.calls.clear()
    for count in range(1, 40):
        engine.run(people(count))
    assert not {name for name in machine.calls if "alloc" in name or "create" in name}
    assert (len(machine.alive), inside.contexts) == (alive, contexts)
    engine.close()


def test_what_a_run_gave_is_not_changed_by_the_next(bundle, machine):
    engine, _ = pose_engine(bundle, machine)
    first = engine.run(people(2))
    kept = {name: values.copy() for name, values in first.items()}
    engine.run({name: values[::-1].copy() for name, values in people(2).items()})
    engine.run(people(30))
    engine.close()
    assert_same(first, kept)


def test_only_what_is_recorded_is_compiled_before_it_runs(bundle, machine):
    engine, inside = pose_engine(bundle, machine, "rtx", recorded=2)
    assert sorted(each.name for each in inside.strategies) == ["EAGER", "EAGER", "LAZY"]
    engine.close()


def test_kernels_that_were_compiled_once_are_kept(bundle, machine, tmp_path):
    cache = EngineCache(tmp_path)
    for _ in range(2):
        pose_engine(bundle, machine, "rtx", cache)[0].close()
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".kernels"
    assert cache.read(path.name) == b"kernels k"
    for content in (b"of another driver", b"kernels k"):
        cache.write(path.name, content)
        before = path.stat().st_mtime_ns
        pose_engine(bundle, machine, "rtx", cache)[0].close()
        assert cache.read(path.name) == b"kernels k"
        assert (path.stat().st_mtime_ns == before) == (content == b"kernels k")
    path.unlink()
    pose_engine(bundle, machine, "11.4.0", cache)[0].close()
    assert not path.exists()


def test_what_cannot_be_recorded_is_enqueued(bundle, machine, reference):
    machine.recordable = False
    engine, _ = pose_engine(bundle, machine, recorded=2)
    assert "up to 0 persons" in engine.device
    assert_same(engine.run(people(2)), reference.run(people(2)))
    engine.close()


def test_threads_wait_for_each_other(bundle, machine):
    engine, _ = pose_engine(bundle, machine)
    expected = {count: engine.run(people(count))["joints"] for count in (1, 3, 20)}
    wrong = []

    def work(count: int) -> None:
        try:
            for _ in range(20):
                if not np.array_equal(engine.run(people(count))["joints"], expected[count]):
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


def test_another_thread_may_close_it_and_twice(bundle, machine):
    engine, _ = pose_engine(bundle, machine)
    thread = threading.Thread(target=engine.close)
    thread.start()
    thread.join()
    engine.close()
    with pytest.raises(EngineError, match=r"pose\.onnx: the engine is closed"):
        engine.run(people(1))


def test_what_nobody_closes_is_freed_with_its_last_user(bundle, machine):
    engine, _ = pose_engine(bundle, machine)
    assert machine.alive
    del engine
    gc.collect()
    assert not machine.alive


@pytest.mark.parametrize("recorded", [2, pytest.param(0, marks=pytest.mark.long)])
def test_each_call_that_fails_while_it_is_made_is_told_or_does_without(
    bundle, machine, reference, recorded
):
    told = set()
    for call in range(1, 300):
        engine, message = None, ""
        gpu = open_gpu()
        machine.fail(call)
        try:
            engine, _ = pose_engine(bundle, machine, gpu=gpu, recorded=recorded)
        except EngineError as error:
            message = str(error)
        done = machine.fail_in > 0  # there were fewer calls
        machine.fail(0)
        if engine is None:
            assert message.startswith("pose.onnx: ")
            told.add(message.split("CUDA_ERROR_OUT_OF_MEMORY in ")[1].split(";")[0])
            gc.collect()
            assert not machine.alive, call
            machine.queue.clear()
        else:
            # A graph that could not be recorded is no failure.
            assert_same(engine.run(people(2)), reference.run(people(2)))
            engine.close()
            if done:
                break
    assert call < 299
    assert {"allocate", "allocate_pinned", "copy", "sync", "execute", "deserialize"} <= told


@pytest.mark.parametrize("count", [1, 20])
def test_each_call_that_fails_in_a_run_is_told_and_the_next_run_is_right(
    bundle, machine, reference, count
):
    engine, inside = pose_engine(bundle, machine, recorded=2)
    expected = reference.run(people(count))
    for call in range(1, 40):
        engine.run(people(3))  # so that a larger run begins with shapes to set
        machine.fail(call)
        message = None
        try:
            engine.run(people(count))
        except EngineError as error:
            message = str(error)
        calls = machine.calls
        machine.fail(0)
        if message is None:
            break
        assert message.startswith("pose.onnx: ")
        # Nothing may still run when the next call writes its numbers.
        assert call == 1 or calls[-1] == "sync"
        assert_same(engine.run(people(count)), expected)
    assert call == {1: 4, 20: 14}[count]
    assert inside.faults == []
    engine.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"keypoints": people(1)["keypoints"][:, :17]},
            r"persons.*'keypoints': \(18, 3\).* 17, 3\)",
        ),
        ({"keypoints": people(1)["keypoints"].astype(np.float64)}, "float64"),
        ({"surprise": np.zeros(1, np.float32)}, "surprise"),
        ({name: x[:0] for name, x in people(1).items()}, r"are .* 0, 18"),
        (people(513), r"are .* 513, 18"),
        ({"intrinsics": np.zeros((2, 4), np.float32)}, "'intrinsics'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_the_next_run_works(bundle, machine, change, words):
    engine, _ = pose_engine(bundle, machine, recorded=1)
    machine.calls.clear()
    with pytest.raises(EngineError, match=rf"pose\.onnx: .*{words}"):
        engine.run(people(1) | change)
    assert machine.calls == []
    assert engine.run(people(1))["betas"].shape == (1, 10)
    engine.close()


def test_an_engine_that_is_not_as_expected_is_refused(bundle, machine):
    graph, library = bundle.pose_path.read_bytes(), standin_library(machine)
    cache = EngineCache(bundle.path.parent / "engines")
    plan = Plan("mesh.onnx", graph, mesh_signature(bundle.vertex_count), library, NAME, "fp32")
    with pytest.raises(EngineError, match=r"mesh\.onnx: .*does not take .*'betas'"):
        TensorRTEngine(plan_of(graph), plan, open_gpu(), cache)
    with pytest.raises(
        EngineError, match=r"mesh\.onnx: .*cannot load it: this is no plan.*rebuild"
    ):
        TensorRTEngine(b"\x7fELF", plan, open_gpu(), cache)


def test_the_stand_in_has_only_what_the_library_has():
    real = pytest.importorskip("tensorrt_rtx")
    pairs = {
        Engine: real.ICudaEngine,
        Context: real.IExecutionContext,
        RuntimeConfig: real.IRuntimeConfig,
        RuntimeCache: real.IRuntimeCache,
    }
    for standin_class, real_class in pairs.items():
        names = {name for name in dir(standin_class) if not name.startswith("_")}
        assert names - {"complain", "answer"} <= set(dir(real_class)), standin_class
    assert {"INPUT", "OUTPUT"} <= set(dir(real.TensorIOMode))
    assert "USER_MANAGED" in dir(real.ExecutionContextAllocationStrategy)
    assert {"EAGER", "LAZY"} <= set(dir(real.DynamicShapesKernelSpecializationStrategy))


# The GPU alone.


def test_without_a_gpu_cuda_core_says_so():
    pytest.importorskip("cuda.core")
    with pytest.raises(EngineError, match="CUDA: opening the GPU failed"):
        open_gpu()


def test_without_both_libraries_it_says_what_to_install(monkeypatch):
    for name in ("cuda", "cuda.core", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match="pip install cuda-core"):
        open_gpu()


def test_pycuda_runs_it_too_without_graphs(bundle, machine, reference, monkeypatch):
    """pycuda's calls, as its documentation has them (pycuda.driver, "Device Interface Reference"):
    contexts are pushed and popped, arrays in page-locked memory are numpy's."""
    from types import ModuleType, SimpleNamespace

    monkeypatch.setitem(sys.modules, "cuda.core", None)
    driver, depth = ModuleType("pycuda.driver"), []

    class Primary:
        def push(self) -> None:
            depth.append(1)
            machine.current.set = True

    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0

        def name(self) -> str:
            return "Stand-in"

        def compute_capability(self) -> tuple[int, int]:
            return (8, 6)

        def retain_primary_context(self) -> Primary:
            return Primary()

    class Stream:
        handle = 77

        def synchronize(self) -> None:
            queue, machine.queue = machine.queue, []
            for step in queue:
                step()

    class Allocation:
        def __init__(self, size: int) -> None:
            self.buffer = machine.allocate(size, AWAY)

        def __int__(self) -> int:
            return self.buffer.handle

    def copy(to, source):
        assert depth, "no context is current"
        machine.enqueue(lambda: to().__setitem__(slice(None), source()))

    driver.init = lambda: None
    driver.Device, driver.Stream, driver.mem_alloc = Device, Stream, Allocation
    driver.Context = SimpleNamespace(pop=depth.pop)
    driver.pagelocked_zeros = lambda shape, dtype: np.zeros(shape, dtype)
    driver.memcpy_htod_async = lambda address, host, stream: copy(
        lambda: machine.memory(address, host.nbytes), lambda: host.view(np.uint8).reshape(-1)
    )
    driver.memcpy_dtoh_async = lambda host, address, stream: copy(
        lambda: host.reshape(-1).view(np.uint8), lambda: machine.memory(address, host.nbytes)
    )
    package = ModuleType("pycuda")
    package.driver = driver
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    engine, _ = pose_engine(bundle, machine, "10.16.1", recorded=8)
    assert "graphs for up to 0 persons" in engine.device
    for count in (1, 20, 512, 2):
        assert_same(engine.run(people(count)), reference.run(people(count)))
    engine.close()
    assert depth == []
