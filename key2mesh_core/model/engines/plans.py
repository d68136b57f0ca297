# SPDX-License-Identifier: Apache-2.0
"""From a bundle to its two engines of TensorRT: looked up in the cache, or built and kept there."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import MESH_GRAPH, POSE_SIGNATURE, Bundle, mesh_signature
from key2mesh_core.model.engines.cuda import Driver
from key2mesh_core.model.engines.engine_cache import EngineCache, EngineKey
from key2mesh_core.model.engines.protocol import Signature
from key2mesh_core.model.engines.tensorrt import RECORDED, TensorRTEngine
from key2mesh_core.model.engines.tensorrt_build import PROFILE, Report, build
from key2mesh_core.model.engines.tensorrt_library import Library

PRECISION = "fp16"
"""Half precision where it costs nothing that matters (see `typed_graph`); measured against float:
vertices 0.03 mm off on average, 0.44 mm at worst among a thousand people."""

# A tensor kept outside the file: such a graph would make the library read files of its choosing.
_EXTERNAL_DATA = b"\x0a\x08location"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One graph of a bundle and what its engine would be built from.

    Attributes:
        path: the graph's file.
        graph: its content.
        signature: what it must look like.
        key: under which its engine is kept.
    """

    path: Path
    graph: bytes
    signature: Signature
    key: EngineKey


def plans(bundle: Bundle, library: Library, gpu: str, precision: str = PRECISION) -> list[Plan]:
    """The plans of the pose graph and of the mesh graph.

    Args:
        gpu: from `Driver.gpu`, or "none".

    Raises:
        EngineError: a graph cannot be read, or keeps tensors in other files.
    """
    mesh = mesh_signature(bundle.vertex_count)
    result = []
    for path, signature in ((bundle.pose_path, POSE_SIGNATURE), (bundle.mesh_path, mesh)):
        try:
            graph = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
        if _EXTERNAL_DATA in graph:
            raise EngineError(f"{path}: keeps tensors in other files, which is refused")
        key = EngineKey(
            graph=path.name,
            graph_sha256=hashlib.sha256(graph).hexdigest(),
            library=library.name,
            version=library.version,
            gpu=gpu,
            # A mesh has no layers that could be half.
            precision="fp32" if path.name == MESH_GRAPH else precision,
            persons=astuple(PROFILE),
        )
        result.append(Plan(path, graph, signature, key))
    return result


def build_plan(plan: Plan, library: Library, report: Report | None = None) -> bytes:
    """The engine of a plan, built now; raises EngineError."""
    return build(
        plan.graph,
        plan.signature,
        library,
        name=plan.path.name,
        precision=plan.key.precision,
        gpu=plan.key.gpu != "none",
        report=report,
    )


def open_engines(
    bundle: Bundle,
    library: Library,
    driver: Driver,
    cache: EngineCache,
    *,
    precision: str = PRECISION,
    build_missing: bool = False,
    recorded: int = RECORDED,
) -> tuple[TensorRTEngine, TensorRTEngine]:
    """The engines of a bundle's pose and mesh graphs, ready to run.

    Args:
        build_missing: build what the cache does not have, which may take minutes, and keep it.
        recorded: up to so many persons a run is a recorded graph.

    Raises:
        EngineError: an engine is not there, refused by the cache or by the library, or fails.
    """
    opened = list(plans(bundle, library, driver.gpu, precision))
    contents = list(_contents(opened, library, cache, build_missing))  # all there before any runs
    with ExitStack() as undo:
        engines = []
        for plan, content in zip(opened, contents, strict=True):
            kernels_key = replace(plan.key, part="kernels")
            kernels = _kept_kernels(cache, kernels_key)
            engine = TensorRTEngine(
                content,
                plan.signature,
                library,
                driver,
                name=plan.path.name,
                recorded=recorded,
                kernels=kernels,
            )
            undo.callback(engine.close)
            compiled = engine.kernels()
            if compiled is not None and compiled != kernels:
                _keep_kernels(cache, kernels_key, compiled)
            engines.append(engine)
        undo.pop_all()
    pose, mesh = engines
    return pose, mesh


def _contents(
    opened: list[Plan], library: Library, cache: EngineCache, build_missing: bool
) -> Iterator[bytes]:
    for plan in opened:
        content = cache.read(plan.key)
        if content is None:
            if not build_missing:
                raise EngineError(
                    f"{plan.path.name}: no engine of {library} for {plan.key.gpu} yet: build it "
                    f"with `key2mesh build-engine --model {plan.path.parent}`"
                )
            _LOG.warning("building the engine of %s, once; this may take minutes", plan.path.name)
            content = build_plan(plan, library)
            cache.write(plan.key, content)
        yield content


# Compiled kernels only save time: without them the engine runs all the same.


def _kept_kernels(cache: EngineCache, key: EngineKey) -> bytes | None:
    try:
        return cache.read(key)
    except EngineError as error:
        _LOG.warning("%s", error)
        return None


def _keep_kernels(cache: EngineCache, key: EngineKey, content: bytes) -> None:
    try:
        cache.write(key, content)
    except EngineError as error:
        _LOG.warning("%s", error)
