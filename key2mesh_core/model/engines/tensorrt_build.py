# SPDX-License-Identifier: Apache-2.0
"""A bundle's graph -> an engine of TensorRT: parsed, checked, typed, compiled for the GPU here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines.protocol import Signature
from key2mesh_core.model.engines.tensorrt_library import Library, open_shape

if TYPE_CHECKING:
    import tensorrt as trt

Report = Callable[[str, float], None]
"""Called while an engine is built, with the library's name of what it does and a share 0..1."""


@dataclass(frozen=True)
class Profile:
    """Numbers of persons that an engine is built for: the least, the usual and the most."""

    least: int = 1
    usual: int = 8
    most: int = 512


PROFILE = Profile()


def build(
    graph: bytes,
    signature: Signature,
    library: Library,
    *,
    name: str,
    precision: str,
    profile: Profile = PROFILE,
    gpu: bool = True,
    report: Report | None = None,
) -> bytes:
    """The engine of one graph, as the library writes it.

    Takes seconds with TensorRT for RTX, up to minutes with TensorRT, which tries each kernel.

    Args:
        graph: an .onnx file's content, as bundles hold it.
        signature: what the graph must look like.
        name: the graph's file, for messages.
        precision: "fp32" or "fp16"; see `typed_graph`.
        gpu: whether a GPU is here to build for. Without one, only TensorRT for RTX can build.

    Raises:
        EngineError: the graph is not as expected, the library refuses it, or `onnx` is missing.
    """
    try:
        from key2mesh_core.model.engines.typed_graph import typed
    except ModuleNotFoundError as error:
        raise EngineError(
            f"{name}: building an engine needs the package {error.name!r}: pip install onnx"
        ) from error
    try:
        content = typed(graph, precision)
    except EngineError as error:
        raise EngineError(f"{name}: {error}") from error
    builder, network = define(content, signature, library, name)
    config = builder.create_builder_config()
    _configure(config, builder, network, library, name, profile, gpu)
    stopped = _attach_report(config, library, report)
    plan = builder.build_serialized_network(network, config)
    if stopped:
        raise KeyboardInterrupt
    if plan is None:
        raise EngineError(f"{name}: {library} cannot build its engine: {library.complaint()}")
    return bytes(plan)


def define(
    content: bytes, signature: Signature, library: Library, name: str
) -> tuple[trt.Builder, trt.INetworkDefinition]:
    """A typed graph as the library parsed it, with its builder; raises EngineError if unlike."""
    module = library.module
    builder: trt.Builder | None = module.Builder(library.logger)
    if builder is None:
        raise EngineError(f"{name}: {library} cannot build here: {library.complaint()}")
    flags = module.NetworkDefinitionCreationFlag
    # Version 11 has no other networks than strongly typed ones.
    strong = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
    network = builder.create_network(strong)
    parser: trt.OnnxParser = module.OnnxParser(network, library.logger)
    if not parser.parse(content):
        reasons = "; ".join(str(parser.get_error(k)) for k in range(parser.num_errors))
        raise EngineError(f"{name}: {library} cannot parse it: {reasons[:500]}")
    inputs = [network.get_input(k) for k in range(network.num_inputs)]
    outputs = [network.get_output(k) for k in range(network.num_outputs)]
    for tensor in (*inputs, *outputs):
        if tensor.dtype != module.float32:
            raise EngineError(f"{name}: '{tensor.name}' must hold 32-bit floats, is {tensor.dtype}")
    shapes = [{each.name: open_shape(each.shape) for each in x} for x in (inputs, outputs)]
    signature.check(name, *shapes)
    return builder, network


def _configure(
    config: Any,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    library: Library,
    name: str,
    profile: Profile,
    gpu: bool,
) -> None:
    module = library.module
    persons: Any = builder.create_optimization_profile()  # its stubs know no tuples as shapes
    for k in range(network.num_inputs):
        tensor = network.get_input(k)
        least, usual, most = (
            (n, *open_shape(tensor.shape)[1:]) for n in (profile.least, profile.usual, profile.most)
        )
        persons.set_shape(tensor.name, least, usual, most)
    if config.add_optimization_profile(persons) < 0:
        raise EngineError(f"{name}: {library} refuses {profile}: {library.complaint()}")
    # Ten bits of a float's fraction would be a millimetre at a body's length.
    config.clear_flag(module.BuilderFlag.TF32)
    if hasattr(module.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)  # else no graphs (RTX)
    if gpu and hasattr(config, "set_compute_capability"):  # RTX
        config.num_compute_capabilities = 1
        config.set_compute_capability(module.ComputeCapability.CURRENT, 0)


def _attach_report(
    config: trt.IBuilderConfig, library: Library, report: Report | None
) -> list[bool]:
    """Lets the library tell how far it is; what comes back is filled once Ctrl-C was pressed."""
    stopped: list[bool] = []

    class Monitor(library.module.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            library.module.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            # An exception must not leave a callback of the library.
            try:
                if report is not None and phase_name in self.steps:
                    report(phase_name, (step + 1) / max(self.steps[phase_name], 1))
            except KeyboardInterrupt:
                stopped.append(True)
            return not stopped

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    config.progress_monitor = Monitor()
    return stopped
