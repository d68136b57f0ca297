# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's providers for NVIDIA: which is taken, what it is told, and how it is refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.people import camera, people
from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import POSE_SIGNATURE, load_bundle
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
    assert choose_provider(installed(CUDA), GpuOptions()) == CUDA
    with pytest.raises(EngineError, match="pip install onnxruntime-gpu"):
        choose_provider(installed("CPUExecutionProvider"), GpuOptions())


def test_the_plug_in_comes_first_and_a_library_that_cannot_be_loaded_is_named(plugin, pose_path):
    onnxruntime = import_onnxruntime()
    assert choose_provider(onnxruntime, GpuOptions()) == RTX
    with pytest.raises(EngineError, match=f"{RTX} cannot be loaded: .*nowhere"):
        OnnxGpuEngine(pose_path, POSE_SIGNATURE)


def test_what_providers_are_told(tmp_path):
    cache = tmp_path / "engines"
    options = GpuOptions(cache=cache, fp16=True, cuda_graphs=True)
    told = provider_options(TENSORRT, POSE_SIGNATURE, options)
    assert told["trt_profile_max_shapes"] == "keypoints:512x18x3,intrinsics:512x4"
    assert told["trt_profile_min_shapes"] == "keypoints:1x18x3,intrinsics:1x4"
    assert told["trt_engine_cache_path"] == str(cache)
    assert (told["trt_fp16_enable"], told["trt_cuda_graph_enable"]) == ("1", "1")
    assert cache.stat().st_mode & 0o777 == 0o700
    assert provider_options(RTX, POSE_SIGNATURE, options)["nv_runtime_cache_path"] == str(cache)
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


def test_its_graph_answers_as_the_cpu_engine_does(with_cuda, pose_path, monkeypatch):
    session = with_cuda.InferenceSession
    monkeypatch.setattr(session, "get_providers", lambda self: [CUDA])  # it is the CPU's
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        engine = OnnxGpuEngine(pose_path, POSE_SIGNATURE)
    assert engine.device.endswith(CUDA)
    intrinsics = np.tile(camera().as_array(), (9, 1)).astype(np.float32)
    inputs = {"keypoints": people(9), "intrinsics": intrinsics}
    expected, found = OnnxEngine(pose_path).run(inputs), engine.run(inputs)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-3)
    with pytest.raises(EngineError, match=r"pose\.onnx: "):
        engine.run({"keypoints": inputs["keypoints"]})
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(inputs)
