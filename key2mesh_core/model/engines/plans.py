# SPDX-License-Identifier: Apache-2.0
"""From a bundle to its two engines of TensorRT: looked up in the cache, or built and kept there."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import MESH_GRAPH, Bundle, mesh_signature, pose_signature
from key2mesh_core.model.engines.cuda import open_gpu
from key2mesh_core.model.engines.engine_cache import EngineCache, EngineKey
from key2mesh_core.model.engines.onnx import read_graph
from key2mesh_core.model.engines.protocol import Signature
from key2mesh_core.model.engines.tensorrt import RECORDED, TensorRTEngine
from key2mesh_core.model.engines.tensorrt_build import PROFILE, Report, build
from key2mesh_core.model.engines.tensorrt_library import Library

PRECISION = "fp16"
"""Half precision where it costs nothing that matters (see `typed_graph`); measured against float:
vertices 0.03 mm off on average, 0.44 mm at worst among a thousand people."""

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

    def build(self, library: Library, report: Report | None = None) -> bytes:
        """The engine, built now; raises EngineError."""
        return build(
            self.graph,
            self.signature,
            library,
            name=self.path.name,
            precision=self.key.precision,
            gpu=self.key.gpu != "none",
            report=report,
        )


def plans(bundle: Bundle, library: Library, gpu: str, precision: str = PRECISION) -> list[Plan]:
    """The plans of the pose graph and of the mesh graph.

    Args:
        gpu: from `Gpu.name`, or "none".

    Raises:
        EngineError: a graph cannot be read, or keeps tensors in other files.
    """
    pose, mesh = pose_signature(bundle.keypoints), mesh_signature(bundle.vertex_count)
    result = []
    for path, signature in ((bundle.pose_path, pose), (bundle.mesh_path, mesh)):
        graph = read_graph(path)
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


def open_engines(
    bundle: Bundle,
    library: Library,
    cache: EngineCache,
    *,
    precision: str = PRECISION,
    build_missing: bool = False,
    recorded: int = RECORDED,
) -> tuple[TensorRTEngine, TensorRTEngine]:
    """The engines of a bundle's pose and mesh graphs, ready to run.

    Args:
        build_missing: build what the cache does not have, which may take minutes, and keep it;
            without it, no GPU is touched unless the cache's folder holds something.
        recorded: up to so many persons a run is a recorded graph.

    Raises:
        EngineError: an engine is not there, refused by the cache or by the library, or fails.
    """
    missing = EngineError(
        f"no engine of {library} is built for {bundle.name} on this GPU: "
        f"`key2mesh build-engine --model {bundle.path}` builds it"
    )
    # A GPU's context costs 100 MB and more: it is opened only where an engine may be found.
    if not build_missing and not any(cache.folder.glob("*.engine")):
        raise missing
    wanted = plans(bundle, library, open_gpu().name, precision)
    contents = []
    for plan in wanted:
        content = cache.read(plan.key)
        if content is None:
            if not build_missing:
                raise missing
            _LOG.warning("building the engine of %s once; it may take minutes", plan.path.name)
            content = plan.build(library)
            cache.write(plan.key, content)
        contents.append(content)
    pose = _open(wanted[0], contents[0], library, cache, recorded)
    try:
        return pose, _open(wanted[1], contents[1], library, cache, recorded)
    except BaseException:
        pose.close()
        raise


def _open(
    plan: Plan, content: bytes, library: Library, cache: EngineCache, recorded: int
) -> TensorRTEngine:
    # Compiled kernels only save time: without them the engine runs all the same.
    key, kernels = replace(plan.key, part="kernels"), None
    with contextlib.suppress(EngineError):
        kernels = cache.read(key)
    engine = TensorRTEngine(
        content,
        plan.signature,
        library,
        open_gpu(),
        name=plan.path.name,
        recorded=recorded,
        kernels=kernels,
    )
    compiled = engine.kernels()
    if compiled is not None and compiled != kernels:
        with contextlib.suppress(EngineError):
            cache.write(key, compiled)
    return engine
