# SPDX-License-Identifier: Apache-2.0
"""Chooses the engine that runs a bundle, and says why."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import Bundle, mesh_signature, pose_signature
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.onnx import MESH_CHUNK, OnnxEngine
from key2mesh_core.model.engines.onnx_gpu import GpuOptions, OnnxGpuEngine
from key2mesh_core.model.engines.protocol import Engine
from key2mesh_core.model.engines.tensorrt import open_engines
from key2mesh_core.model.engines.tensorrt_build import find_library

BACKENDS = ("auto", "onnx", "tensorrt", "onnxruntime-gpu")
"""- "auto": TensorRT if the library, a built engine and a GPU are there; else ONNX Runtime on CUDA
if onnxruntime-gpu and a GPU are there; else ONNX Runtime on the CPU. It never builds engines, so a
robot starts as fast after a driver update as before.
- "onnx": ONNX Runtime on the CPU.
- "tensorrt": TensorRT or an error; builds missing engines.
- "onnxruntime-gpu": ONNX Runtime's NVIDIA providers or an error; TensorRT's compile the graphs at
  the first load."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """Two engines of one kind, and a sentence that explains the choice."""

    pose: Engine
    mesh: Engine
    why: str


def choose(
    bundle: Bundle, backend: str = "auto", threads: int = 2, gpu: GpuOptions | None = None
) -> Choice:
    """The engines of a bundle; logs in one line what was chosen and why.

    Args:
        backend: one of `BACKENDS`.
        threads: CPU threads for one call of ONNX Runtime.
        gpu: for ONNX Runtime on a GPU.

    Raises:
        EngineError: the backend is unknown or not available, or a graph cannot be loaded or does
            not match its signature.
    """
    if backend not in BACKENDS:
        raise EngineError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    gpu = gpu or GpuOptions()
    if backend == "auto":
        choice = _auto(bundle, threads, gpu)
    else:
        choice = _asked(bundle, backend, threads, gpu)
    _LOG.info("%s", choice.why)
    return choice


def _asked(bundle: Bundle, backend: str, threads: int, gpu: GpuOptions) -> Choice:
    try:
        if backend == "tensorrt":
            return _tensorrt(bundle, True, "asked for")
        if backend == "onnxruntime-gpu":
            return _onnx_gpu(bundle, gpu, "asked for")
    except EngineError as error:
        raise EngineError(f"backend {backend!r}: {error}; 'onnx' runs anywhere") from error
    return _onnx(bundle, threads, "asked for")


def _auto(bundle: Bundle, threads: int, gpu: GpuOptions) -> Choice:
    try:
        return _tensorrt(bundle, False, "its engines are built for this GPU")
    except EngineError as error:
        no_tensorrt = str(error)
    try:
        return _onnx_gpu(bundle, replace(gpu, compile=False), f"no TensorRT ({no_tensorrt})")
    except EngineError as error:
        return _onnx(bundle, threads, f"no GPU is used: {no_tensorrt}; {error}")


def _onnx(bundle: Bundle, threads: int, reason: str) -> Choice:
    pose = OnnxEngine(bundle.pose_path, threads, pose_signature(bundle.keypoints))
    mesh = OnnxEngine(bundle.mesh_path, threads, mesh_signature(bundle.vertex_count), MESH_CHUNK)
    return Choice(pose, mesh, f"runs on ONNX Runtime on the CPU: {reason}")


def _onnx_gpu(bundle: Bundle, options: GpuOptions, reason: str) -> Choice:
    pose = OnnxGpuEngine(bundle.pose_path, pose_signature(bundle.keypoints), options)
    exact = replace(options, fp16=False)  # a mesh has no layers to halve
    mesh = OnnxGpuEngine(bundle.mesh_path, mesh_signature(bundle.vertex_count), exact)
    return Choice(pose, mesh, f"runs on {pose.device}: {reason}")


def _tensorrt(bundle: Bundle, build_missing: bool, reason: str) -> Choice:
    library = find_library()
    pose, mesh = open_engines(bundle, library, EngineCache(), build_missing=build_missing)
    return Choice(pose, mesh, f"runs on {pose.device}: {reason}")
