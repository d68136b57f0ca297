# SPDX-License-Identifier: Apache-2.0
"""The choice of the engine, its log line, and the command that builds engines, with simulated
libraries."""

from __future__ import annotations

import gc
import logging
import re

import numpy as np
import pytest
from helpers_bundle import make_bundle, standing_person
from helpers_tensorrt import NAME, Machine, install, plan_of, standin_library

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.cli import build_engine as build_command
from key2mesh_core.cli import main as cli
from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines import choice, tensorrt
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.onnx import OnnxEngine
from key2mesh_core.model.engines.tensorrt_build import find_library
from key2mesh_core.model.estimator import BACKENDS, Estimator, GpuOptions

CAMERA = Intrinsics(600, 600, 320, 240)


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a GPU and TensorRT for RTX, and a cache of its own; `builds` names what was
    built."""
    found = Machine()
    install(found, monkeypatch)
    library = standin_library(found)
    library.module.machine = found
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "find_library", lambda: library)
    monkeypatch.setattr(build_command, "find_library", lambda: library)
    library.module.builds = []

    def build(plan):
        library.module.builds.append((plan.name, plan.precision, plan.gpu != "none"))
        return plan_of(plan.graph)

    for module in (tensorrt, build_command):
        monkeypatch.setattr(module, "build", build)
    return library.module


def test_without_a_gpu_it_is_onnx_runtime_and_the_log_says_why(bundle, monkeypatch, caplog):
    monkeypatch.setattr(choice, "find_library", lambda: find_library(("tensorrt_nowhere",)))
    with caplog.at_level(logging.INFO, "key2mesh_core.model.engines.choice"):
        estimator = Estimator(bundle)
    assert "ONNX Runtime" in estimator.device
    assert "no GPU is used: TensorRT is not installed (tensorrt_nowhere: " in estimator.why
    assert "CPUExecutionProvider" in estimator.why
    assert [record.getMessage() for record in caplog.records] == [estimator.why]


def test_asked_for_it_must_be_there(bundle, monkeypatch, tmp_path):
    assert BACKENDS == ("auto", "onnx", "tensorrt", "onnxruntime-gpu")
    assert Estimator(bundle, "onnx").why == "runs on ONNX Runtime on the CPU: asked for"
    monkeypatch.setattr(choice, "find_library", lambda: find_library(("tensorrt_nowhere",)))
    with pytest.raises(EngineError, match=r"backend 'tensorrt': TensorRT is not.*'onnx' runs"):
        Estimator(bundle, "tensorrt")
    with pytest.raises(EngineError, match=r"'abacus'; known: auto, onnx, tensorrt"):
        Estimator(bundle, "abacus")
    with pytest.raises(EngineError, match=r"backend 'onnxruntime-gpu': .*onnxruntime-gpu.*'onnx'"):
        Estimator(bundle, "onnxruntime-gpu")


def test_options_of_onnx_runtime_on_a_gpu_reach_its_engines(bundle, monkeypatch):
    asked = []

    def engine(path, signature, options):
        asked.append((path.name, options.compile, options.fp16, options.cuda_graphs))
        return OnnxEngine(path)

    monkeypatch.setattr(choice, "OnnxGpuEngine", engine)
    monkeypatch.setattr(choice, "find_library", lambda: find_library(("tensorrt_nowhere",)))
    for backend in ("onnxruntime-gpu", "auto"):
        Estimator(bundle, backend, gpu=GpuOptions(fp16=True, cuda_graphs=True)).close()
    # A mesh has no layers to halve; 'auto' lets nothing be compiled.
    assert asked == [
        (name, compiled, name == "pose.onnx", True)
        for compiled in (True, False)
        for name in ("pose.onnx", "mesh.onnx")
    ]


def test_auto_touches_no_gpu_before_an_engine_is_built(bundle, machine):
    Estimator(bundle).close()
    assert machine.machine.calls == []


def test_auto_builds_nothing_and_says_what_would(bundle, machine):
    estimator = Estimator(bundle)
    assert estimator.why.startswith("runs on ONNX Runtime on the CPU: ")
    assert f"key2mesh build-engine --model {bundle.path}" in estimator.why
    assert machine.builds == []
    estimator.close()


def test_tensorrt_builds_once_and_auto_uses_what_is_built(bundle, machine, caplog):
    caplog.set_level(logging.INFO, "key2mesh_core.model.engines")
    for backend in ("tensorrt", "tensorrt", "auto"):
        estimator = Estimator(bundle, backend)
        assert estimator.why.startswith(f"runs on {NAME}, TensorRT for RTX rtx")
        assert estimator.device.startswith(f"{NAME}, TensorRT for RTX rtx")
        found = estimator.estimate(standing_person((320, 240), 300), CAMERA)
        estimator.close()
    assert machine.builds == [("pose.onnx", "fp16", True), ("mesh.onnx", "fp32", True)]
    said = [record.getMessage() for record in caplog.records if "runs on" in record.getMessage()]
    assert len(said) == 3
    expected = Estimator(bundle, "onnx").estimate(standing_person((320, 240), 300), CAMERA)
    np.testing.assert_allclose(found.vertices, expected.vertices, atol=1e-5)


def test_an_estimator_on_the_gpu_serves_any_number_of_people(bundle, machine):
    estimator, reference = Estimator(bundle, "tensorrt"), Estimator(bundle, "onnx")
    machine.machine.calls.clear()
    for count in (0, 1, 9, 600):
        people = np.repeat(standing_person((320, 240), 300), count, axis=0)
        found = estimator.estimate(people, CAMERA)
        expected = reference.estimate(people, CAMERA)
        np.testing.assert_allclose(found.vertices, expected.vertices, atol=1e-5)
    assert machine.machine.calls.count("execute") == 2 + 2 * 2  # of 9, and of 512 and 88 in each
    estimator.close()


def test_another_version_or_gpu_or_graph_builds_again(bundle, machine, monkeypatch, tmp_path):
    library = choice.find_library()
    Estimator(bundle, "tensorrt").close()

    def newer():
        return type(library)(library.name, "99", library.module, "logger", library.complaints)

    monkeypatch.setattr(choice, "find_library", newer)
    Estimator(bundle, "tensorrt").close()
    monkeypatch.setattr(choice, "find_library", lambda: library)
    change = make_bundle(
        tmp_path / "other", change_pose=lambda model: model.graph.ClearField("doc_string")
    )
    Estimator(change, "tensorrt").close()  # the same graphs under another name: nothing to build
    assert len(machine.builds) == 4

    def renamed(model):
        model.producer_name = "somebody else"

    Estimator(make_bundle(tmp_path / "third", change_pose=renamed), "tensorrt").close()
    assert machine.builds[4:] == [("pose.onnx", "fp16", True)]


def test_a_damaged_engine_is_refused_and_auto_goes_on_without(bundle, machine):
    Estimator(bundle, "tensorrt").close()
    for path in EngineCache().folder.glob("*.engine"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"\.engine: is damaged.*build-engine"):
        Estimator(bundle, "tensorrt")
    estimator = Estimator(bundle)
    assert "is damaged" in estimator.why
    assert "ONNX Runtime" in estimator.device


def test_damaged_kernels_are_left_and_made_again(bundle, machine):
    Estimator(bundle, "tensorrt").close()
    kernels = list(EngineCache().folder.glob("*.kernels"))
    assert len(kernels) == 2
    for path in kernels:
        path.write_bytes(b"nonsense")
    Estimator(bundle, "tensorrt").close()
    assert all(b"kernels k" in path.read_bytes() for path in kernels)


def test_a_bundle_whose_graph_keeps_tensors_elsewhere_is_refused(tmp_path, machine):
    def outside(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        tensor.external_data.add(key="location", value="../weights.bin")

    bundle = make_bundle(tmp_path / "outside", change_mesh=outside)
    with pytest.raises(EngineError, match=r"mesh\.onnx: .*other files"):
        Estimator(bundle, "tensorrt")
    assert machine.builds == []


def test_a_file_in_a_bundle_is_never_taken_for_an_engine(bundle, machine):
    Estimator(bundle, "tensorrt").close()
    cache = EngineCache()
    for path in cache.folder.glob("*.engine"):
        path.rename(bundle.path / path.name)
    with pytest.raises(EngineError, match="no engine of"):
        tensorrt.open_engines(bundle, choice.find_library(), cache)


def test_a_call_that_fails_is_told_or_the_cpu_takes_over(bundle, machine):
    Estimator(bundle, "tensorrt").close()
    gpu, person = machine.machine, standing_person((320, 240), 300)
    expected = Estimator(bundle, "onnx").estimate(person, CAMERA).vertices
    gpu.calls = []
    Estimator(bundle, "tensorrt").close()
    last = len(gpu.calls)
    for call in [*range(1, 40, 2), *range(40, last, 11)]:
        gpu.fail(call)
        try:
            with pytest.raises(
                EngineError, match=r"backend 'tensorrt': .*CUDA_ERROR_OUT_OF_MEMORY"
            ):
                Estimator(bundle, "tensorrt").close()
        except pytest.fail.Exception:
            # The only calls that may fail without a word are those of recording a graph, and of
            # closing, which nobody waits for.
            told = gpu.calls[call - 1]
            assert told in {"create_graph_builder", "begin_building", "end_building", "complete",
                            "launch", "copy", "execute", "sync", "set_current"}  # fmt: skip
        gpu.fail(call)
        estimator = Estimator(bundle)
        gpu.fail(0)
        found = estimator.estimate(person, CAMERA).vertices
        np.testing.assert_allclose(found, expected, atol=1e-5)
        estimator.close()
        gpu.queue.clear()
    gc.collect()
    assert not gpu.alive


# The job.


def test_the_job_builds_proves_and_keeps(bundle, machine, capsys, monkeypatch):
    monkeypatch.setattr(build_command, "PRECISION", "fp32")
    # The small bundle has no network whose layers could be half.
    job = ["build-engine", "--model", str(bundle.path), "--precision", "fp32"]
    assert cli.main(job) == 0
    said = capsys.readouterr().out
    assert re.search(r"pose\.onnx: built in \d+\.\d s, 0\.0 MB, .*\.engine", said)
    assert "first start: " in said
    assert re.search(r"0\.000 mm .*0\.1 mm", said)
    assert cli.main(job) == 0
    assert capsys.readouterr().out.count("already built") == 2
    assert len(machine.builds) == 2
    assert cli.main([*job, "--rebuild"]) == 0
    assert len(machine.builds) == 4


def test_an_engine_that_answers_otherwise_is_not_kept(
    bundle, machine, monkeypatch, capsys, tmp_path
):
    def shift(model):
        for tensor in model.graph.initializer:
            if tensor.name == "template":
                values = np.frombuffer(tensor.raw_data, np.float32) + np.float32(2e-4)
                tensor.raw_data = values.tobytes()

    wrong = make_bundle(tmp_path / "wrong", change_mesh=shift).mesh_path.read_bytes()

    def build(plan):
        return plan_of(wrong if plan.name == "mesh.onnx" else plan.graph)

    monkeypatch.setattr(build_command, "build", build)
    job = ["build-engine", "--model", str(bundle.path), "--precision", "fp32"]
    assert cli.main(job) == 2
    said = capsys.readouterr().err
    assert re.search(r"0\.34\d? mm .*0\.1 mm", said)
    assert list(EngineCache().folder.glob("*.engine")) == []


def test_without_a_gpu_the_job_tries_whether_both_graphs_build(monkeypatch, tmp_path, capsys):
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build_command, "find_library", lambda: find_library(("tensorrt_rtx",)))
    assert cli.main(["build-engine"]) == 0
    said = capsys.readouterr().out
    assert "CUDA: opening the GPU failed" in said
    assert "without a GPU" in said
    assert len(list((tmp_path / "key2mesh" / "engines").glob("*.engine"))) == 2
    assert cli.main(["build-engine"]) == 0
    assert capsys.readouterr().out.count("already built") == 2


def test_the_job_refuses_what_it_cannot_do(capsys, monkeypatch, tmp_path):
    assert cli.main(["build-engine", "--precision", "int4"]) == 2
    assert "--precision must be one of fp32, fp16, got 'int4'" in capsys.readouterr().err

    def nothing():
        return find_library(("tensorrt_nowhere",))

    monkeypatch.setattr(build_command, "find_library", nothing)
    assert cli.main(["build-engine"]) == 2
    assert "TensorRT is not installed (tensorrt_nowhere: No module named" in capsys.readouterr().err
