# SPDX-License-Identifier: Apache-2.0
"""The two libraries that stand behind one engine, `tensorrt` and `tensorrt_rtx`, and where their
interfaces differ: between each other, and from version 8.6 to 11."""

from __future__ import annotations

import functools
import importlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

from key2mesh_core.errors import EngineError

MODULES = ("tensorrt", "tensorrt_rtx")
"""In the order they are preferred: TensorRT measures its kernels on this GPU, TensorRT for RTX
takes them from a recipe and compiles them when they are first run."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Library:
    """An imported library.

    Attributes:
        name: of the Python module.
        version: as the library says it.
        module: the Python module.
        logger: the one logger that all of the library's objects share; it asks for that.
        complaints: its latest errors, newest last.
    """

    name: str
    version: str
    module: Any
    logger: Any
    complaints: deque[str]

    def __str__(self) -> str:
        return f"{'TensorRT for RTX' if self.name == 'tensorrt_rtx' else 'TensorRT'} {self.version}"

    def complaint(self) -> str:
        """What the library last said was wrong, in a line; forgets it."""
        text = "; ".join(self.complaints) or "it gave no reason"
        self.complaints.clear()
        return text[:500]


def find_library(modules: tuple[str, ...] = MODULES) -> Library:
    """The first of the libraries that can be imported.

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
    raise EngineError(
        f"no TensorRT here ({'; '.join(reasons)}); docs/tensorrt.md says how to get it"
    )


@functools.cache
def _load(name: str) -> Library:
    module = importlib.import_module(name)
    complaints: deque[str] = deque(maxlen=3)

    class Logger(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            grave = severity in (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR)
            if grave:
                complaints.append(" ".join(message.split()))
            # Errors are raised with the file's name; the rest is for those who debug.
            _LOG.debug("%s: %s", name, message)

    return Library(name, module.__version__, module, Logger(), complaints)


def new_context(library: Library, engine: Any, kernels: Any, recorded: bool) -> Any:
    """An execution context that works in memory which we give it; None if the library refuses.

    Args:
        kernels: from `kernel_cache`.
        recorded: whether the context serves one number of persons, recorded in a graph.
    """
    module = library.module
    if kernels is not None:
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(
            module.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        # What is recorded must be final: its kernels are compiled now. Elsewhere a number of
        # persons that was never seen must not make anybody wait: it gets a general kernel first.
        strategies = module.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = (
            strategies.EAGER if recorded else strategies.LAZY
        )
        config.set_runtime_cache(kernels)
        return engine.create_execution_context(config)
    if hasattr(module, "ExecutionContextAllocationStrategy"):
        return engine.create_execution_context(
            module.ExecutionContextAllocationStrategy.USER_MANAGED
        )
    return engine.create_execution_context_without_device_memory()


def scratch_size(engine: Any) -> int:
    """Bytes that a context needs to work in, for every shape of the profile."""
    if hasattr(engine, "device_memory_size_v2"):
        return engine.device_memory_size_v2
    return engine.device_memory_size


def give_scratch(context: Any, address: int, size: int) -> None:
    """Lets a context work in this memory."""
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(address, size)
    else:
        context.device_memory = address


def kernel_cache(library: Library, engine: Any, content: bytes | None) -> Any:
    """Where TensorRT for RTX keeps the kernels it compiles; None for a library that has none.

    Args:
        content: what an earlier process kept; the library checks that it fits and leaves it if not.
    """
    if not hasattr(library.module, "IRuntimeCache"):
        return None
    cache = engine.create_runtime_config().create_runtime_cache()
    if content is not None and not cache.deserialize(content):
        _LOG.info("compiled kernels of an earlier run do not fit: %s", library.complaint())
    return cache


def capturable(context: Any, stream: int) -> bool:
    """Whether a context's work may be recorded; older versions can only be tried."""
    return not hasattr(context, "is_stream_capturable") or context.is_stream_capturable(stream)
