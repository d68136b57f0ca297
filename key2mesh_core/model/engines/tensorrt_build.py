# SPDX-License-Identifier: Apache-2.0
"""TensorRT, and what it builds: the library (`tensorrt` 10.16 or 11, or `tensorrt_rtx`) is found,
a bundle's graphs are typed, parsed, checked, and compiled for the GPU here."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import Bundle, mesh_signature, pose_signature
from key2mesh_core.model.engines.onnx import read_graph
from key2mesh_core.model.engines.protocol import Signature

if TYPE_CHECKING:
    import tensorrt as trt

MODULES = ("tensorrt", "tensorrt_rtx")
"""In the order they are preferred: TensorRT measures its kernels on this GPU, TensorRT for RTX
takes them from a recipe and compiles them when they are first run."""

_OLDEST = (10, 13)  # has runtime configurations; JetPack 7.2 has 10.16

PRECISION = "fp16"
"""Half precision where it costs nothing that matters (see `typed_graph`); measured against float:
vertices 0.03 mm off on average, 0.44 mm at worst among a thousand people."""

PERSONS = (1, 8, 512)
"""Numbers of persons that an engine is built for: the least, the usual and the most."""

RECIPE = 3
"""Raised when this version builds engines differently from the one before."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Library:
    """An imported library: `tensorrt` or `tensorrt_rtx`, which have the same interface."""

    name: str  # of the Python module
    version: str
    module: Any
    logger: trt.ILogger  # the one that all of the library's objects must share
    complaints: deque[str]  # its latest errors, newest last

    def __str__(self) -> str:
        return f"{'TensorRT for RTX' if self.name == 'tensorrt_rtx' else 'TensorRT'} {self.version}"

    def complaint(self) -> str:
        """What the library last said was wrong, in a line; forgets it."""
        text = "; ".join(self.complaints) or "it gave no reason"
        self.complaints.clear()
        return text[:500]


def find_library(modules: tuple[str, ...] = MODULES) -> Library:
    """The first of the libraries that can be imported; touches no GPU.

    Raises:
        EngineError: none can, with each one's reason.
    """
    reasons = []
    for name in modules:
        try:
            return _load(name)
        # A wheel without its shared libraries, or for another driver, fails in ways of its own.
        except Exception as error:
            reasons.append(f"{name}: {(str(error) or repr(error)).strip().splitlines()[0]}")
    raise EngineError(f"TensorRT is not installed ({'; '.join(reasons)}); see docs/tensorrt.md")


@functools.cache
def _load(name: str) -> Library:
    module = importlib.import_module(name)
    version = module.__version__
    if name == "tensorrt" and tuple(map(int, version.split(".")[:2])) < _OLDEST:
        raise EngineError(f"version {version} is too old: 10.13 or newer is needed")
    complaints: deque[str] = deque(maxlen=3)

    class Logger(module.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR):
                complaints.append(" ".join(message.split()))
            # Errors are raised with the file's name; the rest is for those who debug.
            _LOG.debug("%s: %s", name, message)

    return Library(name, version, module, Logger(), complaints)


@dataclass(frozen=True, eq=False)
class Plan:
    """One graph of a bundle, and all that its engine depends on."""

    name: str  # the graph's file name in the bundle
    graph: bytes
    signature: Signature
    library: Library
    gpu: str  # name and compute capability, or "none" for a trial without one
    precision: str  # "fp32" or "fp16"
    persons: tuple[int, int, int] = PERSONS

    def file(self, part: str = "engine") -> str:
        """The engine's name in the cache, with a hash of all that it is built from; `part` is
        "kernels" for what TensorRT for RTX compiled when it first ran it."""
        graph, library = hashlib.sha256(self.graph).hexdigest(), self.library
        built_from = (RECIPE, self.name, graph, str(self.signature), library.name, library.version)
        key = json.dumps([*built_from, self.gpu, self.precision, self.persons])
        digest = hashlib.sha256(key.encode()).hexdigest()
        return f"{Path(self.name).stem}-{self.precision}-{digest[:24]}.{part}"


def plans(bundle: Bundle, library: Library, gpu: str, precision: str = PRECISION) -> list[Plan]:
    """The plans of the pose graph and of the mesh graph for `gpu`, a GPU's name or "none".

    Raises:
        EngineError: a graph cannot be read, or keeps tensors in other files.
    """
    graphs = {
        bundle.pose_path: (pose_signature(bundle.keypoints), precision),
        bundle.mesh_path: (mesh_signature(bundle.vertex_count), "fp32"),  # no layers to halve
    }
    return [
        Plan(path.name, read_graph(path), signature, library, gpu, kind)
        for path, (signature, kind) in graphs.items()
    ]


def build(plan: Plan) -> bytes:
    """The engine of a plan, as the library writes it.

    Takes seconds with TensorRT for RTX, up to minutes with TensorRT, which tries each kernel.
    Without a GPU, only TensorRT for RTX can build.

    Raises:
        EngineError: the graph is not as expected, the library refuses it, or `onnx` is missing.
    """
    try:
        from key2mesh_core.model.engines.typed_graph import typed

        return _compile(*define(typed(plan.graph, plan.precision), plan), plan)
    except ModuleNotFoundError as error:
        reason = f"building an engine needs the package {error.name!r}: pip install onnx"
        raise EngineError(f"{plan.name}: {reason}") from error
    except EngineError as error:
        raise EngineError(f"{plan.name}: {error}") from error


def define(content: bytes, plan: Plan) -> tuple[trt.Builder, trt.INetworkDefinition]:
    """A typed graph as the library parsed it, with its builder.

    Raises:
        EngineError: the library refuses it, or it is not as the plan expects.
    """
    library, module = plan.library, plan.library.module
    builder: trt.Builder | None = module.Builder(library.logger)
    if builder is None:
        raise EngineError(f"{library} cannot build here: {library.complaint()}")
    flags = module.NetworkDefinitionCreationFlag
    # Version 11 has no other networks than strongly typed ones.
    strong = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
    network = builder.create_network(strong)
    parser: trt.OnnxParser = module.OnnxParser(network, library.logger)
    if not parser.parse(content):
        reasons = "; ".join(str(parser.get_error(k)) for k in range(parser.num_errors))
        raise EngineError(f"{library} cannot parse it: {reasons[:500]}")
    inputs = [network.get_input(k) for k in range(network.num_inputs)]
    outputs = [network.get_output(k) for k in range(network.num_outputs)]
    for tensor in (*inputs, *outputs):
        if tensor.dtype != module.float32:
            raise EngineError(f"'{tensor.name}' must hold 32-bit floats, is {tensor.dtype}")
    found = ({each.name: each.shape for each in kind} for kind in (inputs, outputs))
    plan.signature.check(str(library), *found)
    return builder, network


def _compile(builder: trt.Builder, network: trt.INetworkDefinition, plan: Plan) -> bytes:
    library, module = plan.library, plan.library.module
    config = builder.create_builder_config()
    profile: Any = builder.create_optimization_profile()  # its stubs know no tuples as shapes
    for name, shape in plan.signature.inputs.items():
        profile.set_shape(name, *((count, *shape) for count in plan.persons))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{library} refuses {plan.persons} persons: {library.complaint()}")
    # Ten bits of a float's fraction would be a millimetre at a body's length.
    config.clear_flag(module.BuilderFlag.TF32)
    if hasattr(module.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)  # else no graphs (RTX)
    rtx: Any = config  # TensorRT's own has no such settings
    if plan.gpu != "none" and hasattr(rtx, "set_compute_capability"):
        rtx.num_compute_capabilities = 1
        rtx.set_compute_capability(module.ComputeCapability.CURRENT, 0)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise EngineError(f"{library} cannot build its engine: {library.complaint()}")
    return bytes(built)
