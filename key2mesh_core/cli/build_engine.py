# SPDX-License-Identifier: Apache-2.0
"""`key2mesh build-engine`: builds a bundle's TensorRT engines on the machine that runs them."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError, Key2MeshError
from key2mesh_core.keypoints.table import STANDING
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.engines.cuda import open_gpu
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.onnx import OnnxEngine
from key2mesh_core.model.engines.protocol import Engine
from key2mesh_core.model.engines.tensorrt import open_engines
from key2mesh_core.model.engines.tensorrt_build import (
    PRECISION,
    Plan,
    build,
    find_library,
    plans,
)

ALLOWED_MM = {"fp32": 0.1, "fp16": 1.0}
"""Largest allowed distance of a vertex from ONNX Runtime's [mm], both relative to the pelvis."""


@dataclass(frozen=True)
class BuildEngineConfig:
    """Builds the TensorRT engines of a model bundle for this machine's GPU.

    Every program that uses the bundle finds them in your cache folder (~/.cache/key2mesh/engines).
    Build them again after changing TensorRT or the GPU; a stale engine is never used. Each engine
    is run and compared with ONNX Runtime before it is kept.
    """

    model: str = "default"
    """Model bundle: its folder, or 'default'."""
    precision: str = PRECISION
    """fp16 (hidden layers in half precision) or fp32. Programs use fp16."""
    rebuild: bool = False
    """Rebuild engines that exist."""

    def __post_init__(self) -> None:
        if self.precision not in ALLOWED_MM:
            raise Key2MeshError(
                f"--precision must be one of {', '.join(ALLOWED_MM)}, got {self.precision!r}"
            )


def build_engine(config: BuildEngineConfig) -> int:
    """Builds, runs, compares and stores the engines; without a GPU, only tests whether the graphs
    build.

    Raises:
        EngineError: TensorRT is missing or refuses a graph, or an engine's result is wrong; such an
            engine is not kept.
    """
    bundle = load_bundle(config.model)
    library = find_library()
    try:
        gpu = open_gpu().name
    except EngineError as error:
        print(f"{error}\nbuilding without a GPU, as a test: no program will use these engines")
        gpu = "none"
    print(f"{library}, {gpu if gpu != 'none' else 'no GPU'}, {config.precision}")
    cache = EngineCache()
    wanted = plans(bundle, library, gpu, config.precision)
    for plan in wanted:
        _build(plan, cache, config.rebuild)
    if gpu == "none":
        return 0
    try:
        start = time.monotonic()
        engines = open_engines(bundle, library, cache, precision=config.precision)
        print(f"first start: {time.monotonic() - start:.1f} s, {engines[0].device}")
        try:
            found, allowed = difference_mm(wanted, engines), ALLOWED_MM[config.precision]
        finally:
            for engine in engines:
                engine.close()
        if not found <= allowed:
            raise EngineError(
                f"the engines' vertices are {found:.3g} mm from ONNX Runtime's, {allowed:g} mm are "
                f"allowed for {config.precision}: they are not kept; try --precision fp32"
            )
    except BaseException:
        for plan in wanted:
            cache.remove(plan.file())
        raise
    print(f"vertices agree with ONNX Runtime to {found:.3f} mm (limit {allowed:g} mm)")
    return 0


def _build(plan: Plan, cache: EngineCache, rebuild: bool) -> None:
    name, path = plan.name, cache.folder / plan.file()
    if not rebuild and cache.read(plan.file()) is not None:
        print(f"{name}: already built, {path}")
        return
    print(f"{name}: building, which may take minutes", flush=True)
    start = time.monotonic()
    # The library returns only when it is done; Ctrl-C ends the process, because nothing is
    # half-written.
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        content = build(plan)
    finally:
        signal.signal(signal.SIGINT, previous)
    cache.write(plan.file(), content)
    cache.remove(plan.file("kernels"))  # compiled for the previous engine
    took, size = time.monotonic() - start, len(content) / 1e6
    print(f"{name}: built in {took:.1f} s, {size:.1f} MB, {path}")


def difference_mm(wanted: Sequence[Plan], engines: Sequence[Engine]) -> float:
    """The largest distance of a vertex from ONNX Runtime's with float weights, relative to the
    pelvis [mm], over 64 people, alone and together."""
    from key2mesh_core.model.engines.typed_graph import typed

    people = sample_people(64, wanted[0].signature.inputs["keypoints"][0])
    inputs = {
        "keypoints": people,
        "intrinsics": np.tile(np.float32([500, 510, 320, 240]), (len(people), 1)),
    }
    with tempfile.TemporaryDirectory() as folder:
        references = []
        for plan in wanted:
            path = Path(folder) / plan.name
            path.write_bytes(typed(plan.graph, "fp32"))
            references.append(OnnxEngine(path, signature=plan.signature))
    expected = _centred_vertices(references, inputs)
    largest = []
    for size in (1, 3, len(people)):
        few = {name: values[:size] for name, values in inputs.items()}
        distance = np.linalg.norm(_centred_vertices(engines, few) - expected[:size], axis=2)
        largest.append(1000.0 * distance.max())
    return float(np.max(largest))  # NaN if any distance is NaN


def _centred_vertices(
    engines: Sequence[Engine], inputs: dict[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    pose, mesh = engines
    bodies = pose.run(inputs)
    chosen = {name: bodies[name] for name in ("betas", "rotations", "translation")}
    return mesh.run(chosen)["vertices"] - bodies["translation"][:, None]


def sample_people(count: int, keypoints: int) -> NDArray[np.float32]:
    """(count, K, 3) keypoints of standing people in different poses."""
    random = np.random.default_rng(0)
    place = [320, 240] + 60 * random.standard_normal((count, 1, 2))
    noise = 10 * random.standard_normal((count, keypoints, 2))
    points = place + 320 * np.array(STANDING[:keypoints]) + noise
    confidence = random.uniform(0.3, 1.0, (count, keypoints, 1))
    return np.concatenate([points, confidence], axis=2).astype(np.float32)
