# SPDX-License-Identifier: Apache-2.0
"""TensorRT on an NVIDIA GPU: an engine that allocates nothing once it is made.

For each small number of persons there is a recorded CUDA graph of the whole way (copies in,
network, copies out), so that a run is one launch and one wait. A recorded graph needs an execution
context of its own; all contexts work in the same scratch memory, as they share one stream and so
never run at once. Other numbers share one more context and are enqueued step by step, as is
everything that cannot be recorded.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.model.engines.cuda import Gpu, open_gpu
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.protocol import Signature, Tensors
from key2mesh_core.model.engines.tensorrt_build import PRECISION, Library, build, plans

if TYPE_CHECKING:
    import tensorrt as trt

RECORDED = 8
"""Up to so many persons a run is a recorded graph: people at one camera, as a rule."""

_OTHERS = 0
_LOG = logging.getLogger(__name__)


def open_engines(
    bundle: Bundle,
    library: Library,
    cache: EngineCache,
    *,
    precision: str = PRECISION,
    build_missing: bool = False,
    recorded: int = RECORDED,
) -> list[TensorRTEngine]:
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
    engines: list[TensorRTEngine] = []
    try:
        for plan in plans(bundle, library, open_gpu().name, precision):
            content = cache.read(plan.key)
            if content is None:
                if not build_missing:
                    raise missing
                _LOG.warning("building the engine of %s once; it may take minutes", plan.key.graph)
                content = build(plan, library)
                cache.write(plan.key, content)
            # Compiled kernels only save time: without them the engine runs all the same.
            key, kernels = replace(plan.key, part="kernels"), None
            with contextlib.suppress(EngineError):
                kernels = cache.read(key)
            engine = TensorRTEngine(
                content, plan.signature, library, open_gpu(), key.graph, recorded, kernels
            )
            engines.append(engine)
            compiled = engine.kernels()
            if compiled not in (None, kernels):
                with contextlib.suppress(EngineError):
                    cache.write(key, compiled)
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return engines


@dataclass
class _Way:
    """A context, the number of persons it is set up for, and what launches its recorded graph."""

    context: trt.IExecutionContext
    persons: int = 0
    launch: Callable[[], None] | None = None


class TensorRTEngine:
    """One built engine on the GPU. Threads that call `run` at once wait for each other.

    Args:
        plan: from `tensorrt_build.build`, by the same version of the library, for this GPU.
        signature: what the engine must look like.
        gpu: its own.
        name: for messages.
        recorded: up to so many persons a run is a recorded graph; 0 records none.
        kernels: what `kernels` gave in an earlier process; only saves time.

    Attributes:
        most: the most persons of one run.

    Raises:
        EngineError: the library refuses the plan, it is not as expected, or the GPU's memory does
            not hold it.
    """

    def __init__(
        self,
        plan: bytes,
        signature: Signature,
        library: Library,
        gpu: Gpu,
        name: str,
        recorded: int = RECORDED,
        kernels: bytes | None = None,
    ) -> None:
        self._library, self._gpu, self._name, self._signature = library, gpu, name, signature
        self._lock = threading.Lock()
        self._ways: dict[int, _Way] = {}  # empty until it is made, and once it is closed
        with self._failing(), gpu.active():
            self._engine = self._load(plan)
            self._kernels = self._kernel_cache(kernels)
            shapes = {**signature.inputs, **signature.outputs}
            self._tensors = {name: gpu.tensor((self.most, *each)) for name, each in shapes.items()}
            floats = self._engine.device_memory_size_v2 // 4 + 64
            self._scratch, self._scratch_size = gpu.tensor((floats,), on_host=False), 4 * floats
            ways = {_OTHERS: self._prepare(self.most, recorded=False)}
            for persons in range(1, min(recorded, self.most) + 1):
                way = self._prepare(persons, recorded=True)
                if way.launch is None:
                    break
                ways[persons] = way
            self._ways = ways
        self.device = f"{gpu.name}, {library}, graphs for up to {len(self._ways) - 1} persons"

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs by name; see `Engine.run`. At most `most` persons."""
        with self._lock, self._failing():
            if not self._ways:
                raise EngineError("the engine is closed")
            persons = self._checked(inputs)
            way = self._ways.get(persons) or self._ways[_OTHERS]
            with self._gpu.active():
                try:
                    self._set_up(way, persons)
                    for name in self._signature.inputs:
                        self._tensors[name].host[:persons] = inputs[name]
                    if way.launch is None:
                        self._enqueue(way)
                    else:
                        way.launch()
                    self._gpu.synchronise()
                except BaseException:
                    # Whatever still runs must not meet the next call's numbers.
                    with contextlib.suppress(Exception):
                        self._gpu.synchronise()
                    raise
            return {
                name: self._tensors[name].host[:persons].copy() for name in self._signature.outputs
            }

    def kernels(self) -> bytes | None:
        """What TensorRT for RTX compiled for the runs so far, to be kept; None if nothing is."""
        with self._lock, self._failing(), self._gpu.active():
            content = None if self._kernels is None else self._kernels.serialize()
            return None if content is None else bytes(content)

    def close(self) -> None:
        """Free the GPU's memory; later runs raise EngineError."""
        with self._lock:
            if self._ways:
                with self._failing(), self._gpu.active():
                    self._ways, self._kernels = {}, None
                    del self._engine, self._runtime  # contexts go before them
                    del self._scratch
                    self._tensors.clear()

    @contextlib.contextmanager
    def _failing(self) -> Any:
        """Turns whatever the libraries raise into an EngineError that names the graph."""
        try:
            yield
        except EngineError as error:
            raise EngineError(f"{self._name}: {error}") from error
        except Exception as error:  # cuda-core and pycuda have several kinds
            raise EngineError(f"{self._name}: {type(error).__name__}: {error}") from error

    # Making.

    def _load(self, plan: bytes) -> trt.ICudaEngine:
        module = self._library.module
        self._runtime: trt.Runtime = module.Runtime(self._library.logger)
        engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._refused("cannot load it")
        inputs: dict[str, Any] = {}
        outputs: dict[str, Any] = {}
        for k in range(engine.num_io_tensors):
            name = engine.get_tensor_name(k)
            if engine.get_tensor_dtype(name) != module.float32:
                raise EngineError(f"'{name}' must hold 32-bit floats")
            is_input = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
            (inputs if is_input else outputs)[name] = engine.get_tensor_shape(name)
        self._signature.check("the engine", inputs, outputs)
        limits = [engine.get_tensor_profile_shape(name, 0) for name in self._signature.inputs]
        self.most = min(int(next(iter(most))) for _, _, most in limits)
        return engine

    def _kernel_cache(self, content: bytes | None) -> Any:
        """Where TensorRT for RTX keeps the kernels it compiles; None for a library without it."""
        if not hasattr(self._library.module, "IRuntimeCache"):
            return None
        config: Any = self._engine.create_runtime_config()
        cache = config.create_runtime_cache()
        if content is not None and not cache.deserialize(content):  # it checks that they fit
            _LOG.info("kernels of an earlier run do not fit: %s", self._library.complaint())
        return cache

    def _new_context(self, recorded: bool) -> trt.IExecutionContext:
        """A context that works in memory which we give it."""
        module = self._library.module
        strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
        asked: Any = strategy
        if self._kernels is not None:
            asked = self._engine.create_runtime_config()
            asked.set_execution_context_allocation_strategy(strategy)
            # What is recorded must be final: its kernels are compiled now. Elsewhere a number of
            # persons that was never seen must not make anybody wait: it gets a general kernel.
            kinds = module.DynamicShapesKernelSpecializationStrategy
            kind = kinds.EAGER if recorded else kinds.LAZY
            asked.dynamic_shapes_kernel_specialization_strategy = kind
            asked.set_runtime_cache(self._kernels)
        context: trt.IExecutionContext | None = self._engine.create_execution_context(asked)
        if context is None:
            raise self._refused("cannot make a context")
        return context

    def _prepare(self, persons: int, recorded: bool) -> _Way:
        """A way for some persons, run once: libraries load and compile when first asked."""
        way = _Way(self._new_context(recorded))
        way.context.set_device_memory(self._scratch.address, self._scratch_size)
        for name, tensor in self._tensors.items():
            if not way.context.set_tensor_address(name, tensor.address):
                raise self._refused(f"does not take the address of '{name}'")
        self._set_up(way, persons)
        self._enqueue(way)
        self._gpu.synchronise()
        if recorded:
            try:
                way.launch = self._gpu.record(lambda: self._enqueue(way))
                way.launch()
                self._gpu.synchronise()
            except Exception as error:
                way.launch = None
                _LOG.info("%s: enqueued, not recorded as a graph: %s", self._name, error)
        return way

    def _set_up(self, way: _Way, persons: int) -> None:
        if way.persons == persons:
            return
        way.persons = 0  # until all of it is done
        for name, shape in self._signature.inputs.items():
            if not way.context.set_input_shape(name, (persons, *shape)):
                raise self._refused(f"does not take {(persons, *shape)} as '{name}'")
        for name, shape in self._signature.outputs.items():
            found: Any = tuple(cast("Any", way.context.get_tensor_shape(name)))
            if found != (persons, *shape):
                raise EngineError(f"'{name}' would be {found}, not {(persons, *shape)}")
        way.persons = persons

    # Running.

    def _enqueue(self, way: _Way) -> None:
        for name in self._signature.inputs:
            self._gpu.copy(self._tensors[name], way.persons, into_gpu=True)
        if not way.context.execute_async_v3(self._gpu.stream):
            raise self._refused("failed to run")
        for name in self._signature.outputs:
            self._gpu.copy(self._tensors[name], way.persons, into_gpu=False)

    def _checked(self, inputs: Tensors) -> int:
        persons = len(next(iter(inputs.values()), ()))
        if not 1 <= persons <= self.most:
            raise EngineError(f"1 to {self.most} persons a run, got {persons}")
        wanted = {name: (persons, *shape) for name, shape in self._signature.inputs.items()}
        found = {name: values.shape for name, values in inputs.items()}
        kinds = {str(values.dtype) for values in inputs.values()}
        if found != wanted or kinds != {"float32"}:
            raise EngineError(f"inputs must be {wanted} of float32, are {found} of {kinds}")
        return persons

    def _refused(self, what: str) -> EngineError:
        return EngineError(
            f"{self._library} {what}: {self._library.complaint()}; if this stays, "
            "`key2mesh build-engine --rebuild` builds its engine again"
        )
