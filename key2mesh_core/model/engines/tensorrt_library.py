# SPDX-License-Identifier: Apache-2.0
"""The libraries behind one engine: `tensorrt` 10.16 and 11, and `tensorrt_rtx`."""

from __future__ import annotations

import functools
import importlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from key2mesh_core.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

MODULES = ("tensorrt", "tensorrt_rtx")
"""In the order they are preferred: TensorRT measures its kernels on this GPU, TensorRT for RTX
takes them from a recipe and compiles them when they are first run."""

OLDEST = 10
"""TensorRT's oldest major version that is supported: JetPack 7 has 10.16."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Library:
    """An imported library.

    Attributes:
        name: of the Python module.
        version: as the library says it.
        module: the Python module; both have the interface of `tensorrt`.
        logger: the one logger that all of the library's objects share; it asks for that.
        complaints: its latest errors, newest last.
    """

    name: str
    version: str
    module: Any
    logger: trt.ILogger
    complaints: deque[str]

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
    if name == "tensorrt" and int(version.split(".")[0]) < OLDEST:
        raise EngineError(f"version {version} is too old: {OLDEST} or newer is needed")
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


def open_shape(shape: Any) -> list[int | str]:
    """A shape with its open sizes by a name, as `Signature.check` takes it."""
    return ["N" if size == -1 else int(size) for size in tuple(shape)]


def new_context(
    library: Library, engine: trt.ICudaEngine, kernels: Any, recorded: bool
) -> trt.IExecutionContext | None:
    """An execution context that works in memory which we give it; None if the library refuses.

    Args:
        kernels: from `kernel_cache`.
        recorded: whether the context serves one number of persons, recorded in a graph.
    """
    module = library.module
    strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
    if kernels is None:
        return engine.create_execution_context(strategy)
    config: Any = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    # What is recorded must be final: its kernels are compiled now. Elsewhere a number of persons
    # that was never seen must not make anybody wait: it gets a general kernel first.
    kinds = module.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER if recorded else kinds.LAZY
    config.set_runtime_cache(kernels)
    return engine.create_execution_context(config)


def kernel_cache(library: Library, engine: trt.ICudaEngine, content: bytes | None) -> Any:
    """Where TensorRT for RTX keeps the kernels it compiles; None for a library that has none.

    Args:
        content: what an earlier process kept; the library checks that it fits and leaves it if not.
    """
    if not hasattr(library.module, "IRuntimeCache"):
        return None
    config: Any = engine.create_runtime_config()
    cache = config.create_runtime_cache()
    if content is not None and not cache.deserialize(content):
        _LOG.info("compiled kernels of an earlier run do not fit: %s", library.complaint())
    return cache
