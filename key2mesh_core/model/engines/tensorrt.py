# SPDX-License-Identifier: Apache-2.0
"""TensorRT on an NVIDIA GPU: an engine that allocates nothing once it is made.

For each small number of persons there is a recorded CUDA graph of the whole way (copy in, network,
copy out), so that a run is one launch and one wait. TensorRT asks for an execution context of its
own for each recorded graph; all contexts work in the same scratch memory, as they share one stream
and so never run at once. Larger numbers share one more context and are enqueued step by step.

Inputs lie packed in one piece of pinned memory and outputs in another, at offsets that depend on
the number of persons: one copy in and one out, however many tensors there are.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines.cuda import Driver
from key2mesh_core.model.engines.packed import ALIGNMENT, Layout
from key2mesh_core.model.engines.protocol import Signature, Tensors
from key2mesh_core.model.engines.tensorrt_library import (
    Library,
    capturable,
    give_scratch,
    kernel_cache,
    new_context,
    scratch_size,
)

RECORDED = 8
"""Up to so many persons a run is a recorded graph: people at one camera, as a rule."""

_OTHERS = 0
_LOG = logging.getLogger(__name__)

Views = Mapping[str, NDArray[np.float32]]


@dataclass
class _Way:
    """How one number of persons goes through: a context set up for it, and its places in memory."""

    context: Any
    persons: int = 0
    inputs: Views | None = None
    outputs: Views | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    graph: int | None = None


class TensorRTEngine:
    """One built engine on the GPU. Threads that call `run` at once wait for each other.

    Args:
        plan: from `tensorrt_build.build`, by the same version of the library, for this GPU.
        signature: what the engine must look like.
        name: for messages.
        recorded: up to so many persons a run is a recorded graph; 0 records none.
        kernels: what `kernels` gave in an earlier process; only saves time.

    Raises:
        EngineError: the library refuses the plan, it is not as expected, or the GPU's memory does
            not hold it.
    """

    def __init__(
        self,
        plan: bytes,
        signature: Signature,
        library: Library,
        driver: Driver,
        *,
        name: str,
        recorded: int = RECORDED,
        kernels: bytes | None = None,
    ) -> None:
        self._library, self._driver, self._name, self._signature = library, driver, name, signature
        self._lock = threading.Lock()
        self._resources = ExitStack()  # undone in reverse; holds no reference to this engine
        self._loaded: dict[str, Any] = {}  # the library's objects
        self._ways: dict[int, _Way] = {}  # by number of persons; _OTHERS for all other numbers
        self._closed = False
        try:
            self._load(plan, kernels)
            self._allocate()
            self._ways[_OTHERS] = self._prepare(self._most, recorded=False)
            for persons in range(1, min(recorded, self._most) + 1):
                self._ways[persons] = self._prepare(persons, recorded=True)
        except BaseException:
            with contextlib.suppress(EngineError):  # the first failure is the one to tell
                self.close()
            raise
        graphs = sum(way.graph is not None for way in self._ways.values())
        self.device = f"{driver.gpu}, {library}, graphs for up to {graphs} persons"

    @property
    def most(self) -> int:
        """The most persons of one run."""
        return self._most

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs by name; see `Engine.run`. At most `most` persons."""
        with self._lock:
            if self._closed:
                raise EngineError(f"{self._name}: the engine is closed")
            persons = self._checked(inputs)
            self._driver.activate()
            way = self._ways.get(persons) or self._ways[_OTHERS]
            try:
                if way.persons != persons:
                    self._set_up(way, persons)
                for name, view in way.inputs.items():
                    view[...] = inputs[name]
                if way.graph is None:
                    self._enqueue(way)
                else:
                    self._driver.launch(way.graph, self._stream)
                self._driver.synchronise(self._stream)
            except BaseException as error:
                # Whatever still runs must not meet the next call's numbers in the same memory.
                with contextlib.suppress(EngineError):
                    self._driver.synchronise(self._stream)
                if isinstance(error, EngineError):
                    raise EngineError(f"{self._name}: {error}") from error
                raise
            return {name: view.copy() for name, view in way.outputs.items()}

    def kernels(self) -> bytes | None:
        """What TensorRT for RTX compiled for the runs so far, to be kept; None if nothing is."""
        with self._lock:
            cache = self._loaded.get("kernels")
            if cache is None:
                return None
            self._driver.activate()
            content = cache.serialize()
            return None if content is None else bytes(content)

    def close(self) -> None:
        """Free the GPU's memory; later runs raise EngineError."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with self._resources:  # all of it is undone, whatever fails
                self._driver.activate()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # not all made, or the process is ending
            self.close()

    # Making.

    def _load(self, plan: bytes, kernels: bytes | None) -> None:
        module = self._library.module
        runtime = module.Runtime(self._library.logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._refused("cannot load it")
        for name, value in (("runtime", runtime), ("engine", engine)):
            self._loaded[name] = value
            self._resources.callback(self._loaded.pop, name)
        kinds: dict[Any, dict[str, list[int | str]]] = {
            module.TensorIOMode.INPUT: {},
            module.TensorIOMode.OUTPUT: {},
        }
        for k in range(engine.num_io_tensors):
            name = engine.get_tensor_name(k)
            if engine.get_tensor_dtype(name) != module.float32:
                raise EngineError(f"{self._name}: '{name}' must hold 32-bit floats")
            shape = ["N" if size == -1 else size for size in engine.get_tensor_shape(name)]
            kinds[engine.get_tensor_mode(name)][name] = shape
        self._signature.check(self._name, *kinds.values())
        limits = [engine.get_tensor_profile_shape(name, 0) for name in self._signature.inputs]
        self._most = min(int(most[0]) for _, _, most in limits)
        self._loaded["kernels"] = kernel_cache(self._library, engine, kernels)
        self._resources.callback(self._loaded.pop, "kernels")

    def _allocate(self) -> None:
        driver = self._driver

        def kept(make: Callable[[int], int], free: Callable[[int], None], size: int) -> int:
            address = make(size)
            self._resources.callback(free, address)
            return address

        largest_in = Layout.of(self._signature.inputs, self._most).size
        largest_out = Layout.of(self._signature.outputs, self._most).size
        self._pinned_in = kept(driver.allocate_pinned, driver.free_pinned, largest_in)
        self._pinned_out = kept(driver.allocate_pinned, driver.free_pinned, largest_out)
        ctypes.memset(self._pinned_in, 0, largest_in)
        self._device_in = kept(driver.allocate, driver.free, largest_in)
        self._device_out = kept(driver.allocate, driver.free, largest_out)
        self._scratch_size = max(scratch_size(self._loaded["engine"]), ALIGNMENT)
        self._scratch = kept(driver.allocate, driver.free, self._scratch_size)
        self._stream = driver.create_stream()
        self._resources.callback(driver.destroy_stream, self._stream)
        self._resources.callback(self._ways.clear)

    def _prepare(self, persons: int, recorded: bool) -> _Way:
        """A way for some persons, run once: libraries load and compile when first asked."""
        loaded = self._loaded
        context = new_context(self._library, loaded["engine"], loaded["kernels"], recorded)
        if context is None:
            raise self._refused("cannot make a context")
        give_scratch(context, self._scratch, self._scratch_size)
        way = _Way(context)
        self._set_up(way, persons)
        self._enqueue(way)
        self._driver.synchronise(self._stream)
        if recorded:
            self._record(way)
        return way

    def _record(self, way: _Way) -> None:
        if not capturable(way.context, self._stream):
            _LOG.warning("%s: %s cannot be recorded as a graph", self._name, self._library)
            return
        self._driver.begin_capture(self._stream)
        try:
            self._enqueue(way)
        except BaseException:
            # The stream must leave the capture, whatever comes of it.
            with contextlib.suppress(EngineError):
                self._driver.destroy_graph(self._driver.end_capture(self._stream))
            raise
        way.graph = self._driver.end_capture(self._stream)
        self._resources.callback(self._driver.destroy_graph, way.graph)
        self._driver.launch(way.graph, self._stream)
        self._driver.synchronise(self._stream)

    def _set_up(self, way: _Way, persons: int) -> None:
        way.persons = 0  # until all of it is done
        inputs = Layout.of(self._signature.inputs, persons)
        outputs = Layout.of(self._signature.outputs, persons)
        for name, shape in inputs.shapes.items():
            if not way.context.set_input_shape(name, shape):
                raise self._refused(f"does not take {shape} as '{name}'")
        for layout, address in ((inputs, self._device_in), (outputs, self._device_out)):
            for name, offset in layout.offsets.items():
                if not way.context.set_tensor_address(name, address + offset):
                    raise self._refused(f"does not take the address of '{name}'")
        for name, shape in outputs.shapes.items():
            if tuple(way.context.get_tensor_shape(name)) != shape:
                found = tuple(way.context.get_tensor_shape(name))
                raise EngineError(f"{self._name}: '{name}' would be {found}, not {shape}")
        way.inputs, way.outputs = inputs.views(self._pinned_in), outputs.views(self._pinned_out)
        way.bytes_in, way.bytes_out = inputs.size, outputs.size
        way.persons = persons

    # Running.

    def _enqueue(self, way: _Way) -> None:
        driver, stream = self._driver, self._stream
        driver.copy_in(self._device_in, self._pinned_in, way.bytes_in, stream)
        if not way.context.execute_async_v3(stream):
            raise self._refused("failed to run")
        driver.copy_out(self._pinned_out, self._device_out, way.bytes_out, stream)

    def _checked(self, inputs: Tensors) -> int:
        expected = self._signature.inputs
        if set(inputs) != set(expected):
            raise EngineError(f"{self._name}: inputs must be {sorted(expected)}, {sorted(inputs)}")
        persons = len(next(iter(inputs.values())))
        if not 1 <= persons <= self._most:
            raise EngineError(f"{self._name}: 1 to {self._most} persons a run, got {persons}")
        for name, shape in expected.items():
            found = inputs[name]
            if found.shape != (persons, *shape) or found.dtype != np.float32:
                raise EngineError(
                    f"{self._name}: '{name}' must be {(persons, *shape)} of float32, is "
                    f"{found.shape} of {found.dtype}"
                )
        return persons

    def _refused(self, what: str) -> EngineError:
        return EngineError(
            f"{self._name}: {self._library} {what}: {self._library.complaint()}; if this stays, "
            "`key2mesh build-engine --rebuild` builds its engine again"
        )
