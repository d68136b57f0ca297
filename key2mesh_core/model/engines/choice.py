# SPDX-License-Identifier: Apache-2.0
"""Which engine runs a bundle, and why that one."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import POSE_SIGNATURE, Bundle, mesh_signature
from key2mesh_core.model.engines.cuda import Driver
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.onnx import OnnxEngine
from key2mesh_core.model.engines.plans import open_engines
from key2mesh_core.model.engines.protocol import Engine
from key2mesh_core.model.engines.tensorrt_library import find_library

BACKENDS = ("auto", "onnx", "tensorrt")
"""- "auto": TensorRT if there is a GPU, the library and a built engine; else ONNX Runtime. It never
builds, so a robot starts as fast after an update of its driver as before.
- "onnx": ONNX Runtime on the CPU.
- "tensorrt": TensorRT or nothing; builds its engines if they are not there yet."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """Two running engines of one kind, and a sentence on why it is that kind."""

    pose: Engine
    mesh: Engine
    why: str


def choose(bundle: Bundle, backend: str = "auto", threads: int = 2) -> Choice:
    """The engines of a bundle; says in one log line what was chosen and why.

    Args:
        backend: one of `BACKENDS`.
        threads: CPU threads for one call of ONNX Runtime.

    Raises:
        EngineError: unknown backend, what was asked for is not at hand, or a graph that cannot be
            loaded or is not as expected.
    """
    if backend not in BACKENDS:
        raise EngineError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    choice = _choose(bundle, backend, threads)
    _LOG.info("%s", choice.why)
    return choice


def _choose(bundle: Bundle, backend: str, threads: int) -> Choice:
    if backend == "tensorrt":
        try:
            return _tensorrt(bundle, True, "asked for")
        except EngineError as error:
            raise EngineError(f"backend 'tensorrt': {error}; 'onnx' runs anywhere") from error
    if backend == "onnx":
        return _onnx(bundle, threads, "asked for")
    try:
        # The driver first: it is small and quick to say no.
        return _tensorrt(bundle, False, "its engines are built for this GPU")
    except EngineError as error:
        return _onnx(bundle, threads, f"TensorRT is not to be had: {error}")


def _onnx(bundle: Bundle, threads: int, reason: str) -> Choice:
    pose = OnnxEngine(bundle.pose_path, threads, POSE_SIGNATURE)
    mesh = OnnxEngine(bundle.mesh_path, threads, mesh_signature(bundle.vertex_count))
    return Choice(pose, mesh, f"runs on ONNX Runtime: {reason}")


def _tensorrt(bundle: Bundle, build_missing: bool, reason: str) -> Choice:
    driver = Driver()
    library = find_library()
    pose, mesh = open_engines(bundle, library, driver, EngineCache(), build_missing=build_missing)
    return Choice(pose, mesh, f"runs on {library} and {driver.gpu}: {reason}")
