# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's NVIDIA providers: the choice, the options, and the refusals."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.people import camera, people
from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import POSE_SIGNATURE, load_bundle
from key2mesh_core.model.engines import onnx_gpu
from key2mesh_core.model.engines.onnx import OnnxEngine, import_onnxruntime
from key2mesh_core.model.engines.onnx_gpu import (
    CUDA,
    RTX,
    TENSORRT,
    GpuOptions,
    OnnxGpuEngine,
    choose_provider,
    provider_options,
)


@pytest.fixture(scope="module")
def pose_path():
    return load_bundle("default").pose_path


@pytest.fixture
def with_cuda(monkeypatch):
    """onnxruntime as it is, but for what it says of its providers."""
    onnxruntime = import_onnxruntime()
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"]
    )
    return onnxruntime


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The plug-in's package, whose library cannot be loaded."""
    package = tmp_path / "onnxruntime_ep_nv_tensorrt_rtx"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"def get_ep_name(): return {RTX!r}\ndef get_library_path(): return '/nowhere/lib.so'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("onnxruntime_ep_nv_tensorrt_rtx", None)


def installed(*providers: str) -> SimpleNamespace:
    return SimpleNamespace(get_available_providers=lambda: list(providers), __version__="1.31.1")


def test_tensorrt_comes_before_cuda_and_only_where_it_may_compile():
    both = installed(TENSORRT, CUDA, "CPUExecutionProvider")
    assert choose_provider(both, GpuOptions()) == TENSORRT
    assert choose_provider(both, GpuOptions(compile=False)) == CUDA
    # It would replay its first recording for any number of persons.
    assert choose_provider(both, GpuOptions(cuda_graphs=True)) == CUDA
    assert choose_provider(installed(CUDA), GpuOptions()) == CUDA
    with pytest.raises(EngineError, match="pip install onnxruntime-gpu"):
        choose_provider(installed("CPUExecutionProvider"), GpuOptions())


def test_the_plug_in_comes_first_and_a_library_that_cannot_be_loaded_is_named(plugin, pose_path):
    onnxruntime = import_onnxruntime()
    assert choose_provider(onnxruntime, GpuOptions()) == RTX
    with pytest.raises(EngineError, match=rf"pose\.onnx: {RTX} cannot load it: .*nowhere"):
        OnnxGpuEngine(pose_path, POSE_SIGNATURE)


def test_what_providers_are_told(tmp_path):
    cache = tmp_path / "engines"
    options = GpuOptions(cache=cache, cuda_graphs=True)
    told = provider_options(TENSORRT, POSE_SIGNATURE, options)
    assert told["trt_profile_max_shapes"] == "keypoints:512x18x3,intrinsics:512x4"
    assert told["trt_profile_min_shapes"] == "keypoints:1x18x3,intrinsics:1x4"
    assert told["trt_engine_cache_path"] == str(cache)
    assert "trt_fp16_enable" not in told  # else the graph's own types would be changed
    assert cache.stat().st_mode & 0o777 == 0o700
    told = provider_options(RTX, POSE_SIGNATURE, options)
    assert (told["nv_runtime_cache_path"], told["enable_cuda_graph"]) == (str(cache), "1")
    assert provider_options(CUDA, POSE_SIGNATURE, GpuOptions())["use_tf32"] == "0"
    cache.chmod(0o777)
    with pytest.raises(EngineError, match=str(cache)):
        provider_options(TENSORRT, POSE_SIGNATURE, options)


def test_a_provider_that_finds_no_gpu_is_no_gpu(with_cuda, pose_path):
    # The library itself falls back to the CPU with a warning.
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(EngineError, match="CUDAExecutionProvider"),
    ):
        OnnxGpuEngine(pose_path, POSE_SIGNATURE)


@pytest.fixture
def on_cpu(with_cuda, monkeypatch):
    """The CPU in the GPU's place, for sessions and for the memory that they are bound to."""
    monkeypatch.setattr(with_cuda.InferenceSession, "get_providers", lambda self: [CUDA])
    monkeypatch.setattr(onnx_gpu, "_DEVICE", "cpu")
    monkeypatch.setattr(onnx_gpu, "_providers", lambda *_: ["CPUExecutionProvider"])
    return with_cuda


def inputs_of(count: int) -> dict[str, np.ndarray]:
    intrinsics = np.tile(camera().as_array(), (count, 1)).astype(np.float32)
    return {"keypoints": people(count), "intrinsics": intrinsics}


@pytest.mark.parametrize("graphs", [False, True])
def test_its_graph_answers_as_the_cpu_engine_does(on_cpu, pose_path, graphs):
    engine = OnnxGpuEngine(pose_path, POSE_SIGNATURE, GpuOptions(cuda_graphs=graphs))
    assert engine.device.endswith(CUDA)
    reference = OnnxEngine(pose_path)
    for count in (9, 1, 3, 1):
        inputs = inputs_of(count)
        expected, found = reference.run(inputs), engine.run(inputs)
        assert list(found) == list(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-3)
    inputs = inputs_of(2)
    with pytest.raises(EngineError, match=r"pose\.onnx: "):
        engine.run({"keypoints": inputs["keypoints"]})
    with pytest.raises(EngineError, match=r"pose\.onnx: .*double"):
        engine.run(inputs | {"keypoints": inputs["keypoints"].astype(np.float64)})
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(inputs)


def test_runs_are_captured_by_their_number_of_persons_and_stay_in_place(on_cpu, pose_path):
    engine = OnnxGpuEngine(pose_path, POSE_SIGNATURE, GpuOptions(cuda_graphs=True))
    session, replayed = engine._session, []

    class Recording:
        """Notes what a session is asked for."""

        def __getattr__(self, name):
            return getattr(session, name)

        def run(self, outputs, inputs, options):
            replayed.append(options.get_run_config_entry("gpu_graph_id"))
            return session.run(outputs, inputs, options)

        def run_with_iobinding(self, binding, options):
            replayed.append(options.get_run_config_entry("gpu_graph_id"))
            addresses.append([each.data_ptr() for each in binding.get_outputs()])
            return session.run_with_iobinding(binding, options)

    addresses: list[list[int]] = []
    engine._session = Recording()
    for count in (1, 8, 1, 9):
        engine.run(inputs_of(count))
    assert replayed == ["1", "8", "1", "-1"]
    assert addresses[0] == addresses[2] != addresses[1]


def test_what_cannot_be_captured_is_enqueued(on_cpu, pose_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    engine = OnnxGpuEngine(pose_path, POSE_SIGNATURE, GpuOptions(cuda_graphs=True))
    monkeypatch.setattr(onnx_gpu, "_DEVICE", "cuda")  # where this package has no memory
    for _ in range(2):
        assert len(engine.run(inputs_of(2))["betas"]) == 2
    assert caplog.text.count("enqueued, not captured") == 1
    make = on_cpu.InferenceSession

    def refuse(graph, settings, providers):
        if len(told) == 1:
            raise RuntimeError("not all nodes are on the GPU")
        return make(graph, settings, providers=providers)

    told: list[bool] = []
    monkeypatch.setattr(onnx_gpu, "_providers", lambda *given: told.append(given[-1].cuda_graphs))
    monkeypatch.setattr(on_cpu, "InferenceSession", refuse)
    engine = OnnxGpuEngine(pose_path, POSE_SIGNATURE, GpuOptions(cuda_graphs=True))
    assert told == [True, False]
    assert len(engine.run(inputs_of(2))["betas"]) == 2


def test_half_precision_is_for_hidden_layers_alone(on_cpu, pose_path, monkeypatch):
    inputs = inputs_of(32)
    found = OnnxGpuEngine(pose_path, POSE_SIGNATURE, GpuOptions(fp16=True)).run(inputs)
    expected = OnnxEngine(pose_path).run(inputs)
    joints = [each["joints"] - each["joints"][:, :1] for each in (found, expected)]
    assert 0 < np.abs(joints[0] - joints[1]).max() < 1e-3  # m
    monkeypatch.setitem(sys.modules, "key2mesh_core.model.engines.typed_graph", None)
    with pytest.raises(EngineError, match="pip install onnx"):
        OnnxGpuEngine(pose_path, POSE_SIGNATURE, GpuOptions(fp16=True))
