# SPDX-License-Identifier: Apache-2.0
"""Finds the TensorRT library (`tensorrt` 10.16 or 11, or `tensorrt_rtx`), and types, parses, checks
and compiles a bundle's graphs for the GPU."""

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
"""In order of preference: TensorRT tunes its kernels on this GPU, TensorRT for RTX selects them by
heuristics and compiles them at their first run."""

_OLDEST = (10, 13)  # the first with runtime configurations; JetPack 7.2 has 10.16

PRECISION = "fp16"
"""Half precision where it hardly costs accuracy (see `typed_graph`): compared with float, vertices
are 0.03 mm off on average and 0.44 mm at most for a thousand people."""

PERSONS = (1, 8, 512)
"""Numbers of people that an engine is built for: minimum, optimum and maximum."""

RECIPE = 3
"""Increment this when engines are built differently than before."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Library:
    """An imported library: `tensorrt` or `tensorrt_rtx`, which have the same interface."""

    name: str  # the Python module's name
    version: str
    module: Any
    logger: trt.ILogger  # all of the library's objects must share this one
    complaints: deque[str]  # the library's latest errors, newest last

    def __str__(self) -> str:
        return f"{'TensorRT for RTX' if self.name == 'tensorrt_rtx' else 'TensorRT'} {self.version}"

    def complaint(self) -> str:
        """The library's last error in one line; clears it."""
        text = "; ".join(self.complaints) or "it gave no reason"
        self.complaints.clear()
        return text[:500]


def find_library(modules: tuple[str, ...] = MODULES) -> Library:
    """The first of the libraries that can be imported; does not open a GPU.

    Raises:
        EngineError: none can be imported; gives the reason for each.
    """
    reasons = []
    for name in modules:
        try:
            return _load(name)
        # A wheel without its shared libraries, or for another driver, may raise anything.
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
            # Errors are raised with the file's name; other messages are for debugging.
            _LOG.debug("%s: %s", name, message)

    return Library(name, version, module, Logger(), complaints)


@dataclass(frozen=True, eq=False)
class Plan:
    """One graph of a bundle, and everything that its engine depends on."""

    name: str  # the graph's file name in the bundle
    graph: bytes
    signature: Signature
    library: Library
    gpu: str  # name and compute capability, or "none" for a test without a GPU
    precision: str  # "fp32" or "fp16"
    persons: tuple[int, int, int] = PERSONS

    def file(self, part: str = "engine") -> str:
        """The engine's file name in the cache, with a hash of everything that it is built from;
        `part` is "kernels" for the kernels that TensorRT for RTX compiled at the first run."""
        graph, library = hashlib.sha256(self.graph).hexdigest(), self.library
        built_from = (RECIPE, self.name, graph, str(self.signature), library.name, library.version)
        key = json.dumps([*built_from, self.gpu, self.precision, self.persons])
        digest = hashlib.sha256(key.encode()).hexdigest()
        return f"{Path(self.name).stem}-{self.precision}-{digest[:24]}.{part}"


def plans(bundle: Bundle, library: Library, gpu: str, precision: str = PRECISION) -> list[Plan]:
    """The plans of the pose graph and of the mesh graph for `gpu`, a GPU's name or "none".

    Raises:
        EngineError: a graph cannot be read, or stores tensors in other files.
    """
    graphs = {
        bundle.pose_path: (pose_signature(bundle.keypoints), precision),
        bundle.mesh_path: (mesh_signature(bundle.vertex_count), "fp32"),  # nothing to halve
    }
    return [
        Plan(path.name, read_graph(path), signature, library, gpu, kind)
        for path, (signature, kind) in graphs.items()
    ]


def build(plan: Plan) -> bytes:
    """The engine of a plan, serialised by the library.

    Takes seconds with TensorRT for RTX, and up to minutes with TensorRT, which times each kernel.
    Without a GPU, only TensorRT for RTX can build.

    Raises:
        EngineError: the graph does not match its signature, the library refuses it, or `onnx` is
            missing.
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
    """A typed graph as parsed by the library, with its builder.

    Raises:
        EngineError: the library refuses it, or it does not match the plan.
    """
    library, module = plan.library, plan.library.module
    builder: trt.Builder | None = module.Builder(library.logger)
    if builder is None:
        raise EngineError(f"{library} cannot build here: {library.complaint()}")
    flags = module.NetworkDefinitionCreationFlag
    # Version 11 has only strongly typed networks.
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
    profile: Any = builder.create_optimization_profile()  # its stubs do not accept tuples as shapes
    for name, shape in plan.signature.inputs.items():
        profile.set_shape(name, *((count, *shape) for count in plan.persons))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{library} refuses {plan.persons} persons: {library.complaint()}")
    # TF32 keeps ten bits of the mantissa, which is a millimetre at the size of a body.
    config.clear_flag(module.BuilderFlag.TF32)
    if hasattr(module.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        config.set_flag(
            module.BuilderFlag.REQUIRE_USER_ALLOCATION
        )  # RTX cannot capture graphs otherwise
    rtx: Any = config  # TensorRT itself has no such settings
    if plan.gpu != "none" and hasattr(rtx, "set_compute_capability"):
        rtx.num_compute_capabilities = 1
        rtx.set_compute_capability(module.ComputeCapability.CURRENT, 0)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise EngineError(f"{library} cannot build its engine: {library.complaint()}")
    return bytes(built)
