# SPDX-License-Identifier: Apache-2.0
"""TensorRT on an NVIDIA GPU: an engine that allocates nothing after its creation.

For each small batch size there is a captured CUDA graph of the whole run (copies in, network,
copies out), so that a run is one launch and one wait. A captured graph needs its own execution
context; all contexts share one scratch memory, because they share one stream and so never run at
once. Other batch sizes share one more context and are enqueued step by step, as is everything that
cannot be captured.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.model.engines.cuda import Gpu, open_gpu
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.protocol import Tensors, described
from key2mesh_core.model.engines.tensorrt_build import PRECISION, Library, Plan, build, plans

if TYPE_CHECKING:
    import tensorrt as trt

RECORDED = 8
"""Up to this many people, a run is a captured CUDA graph: the usual number of people in one
image."""

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
        build_missing: build and store engines that are not in the cache, which may take minutes.
        recorded: largest number of people for which a run is a captured CUDA graph; 0: none.

    Raises:
        EngineError: an engine is missing, is refused by the cache or the library, or fails.
    """
    missing = EngineError(
        f"no engine of {library} is built for {bundle.name} on this GPU: "
        f"`key2mesh build-engine --model {bundle.path}` builds it"
    )
    # A CUDA context takes 100 MB and more: open it only if an engine may exist.
    if not build_missing and not any(cache.folder.glob("*.engine")):
        raise missing
    engines: list[TensorRTEngine] = []
    try:
        for plan in plans(bundle, library, open_gpu().name, precision):
            content = cache.read(plan.file())
            if content is None:
                if not build_missing:
                    raise missing
                _LOG.warning("building the engine of %s once; it may take minutes", plan.name)
                content = build(plan)
                cache.write(plan.file(), content)
            engines.append(TensorRTEngine(content, plan, open_gpu(), cache, recorded))
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return engines


class TensorRTEngine:
    """One built engine on the GPU. Concurrent calls of `run` are serialised.

    Args:
        content: the result of `build` with the same version of the library, for this GPU.
        gpu: the GPU, used by this engine alone.
        cache: stores the kernels that TensorRT for RTX compiles; they only save time.
        recorded: see `open_engines`.

    Attributes:
        most: largest number of people in one run.

    Raises:
        EngineError: the library refuses the content, it does not match the plan, or the GPU's
            memory is too small.
    """

    def __init__(
        self, content: bytes, plan: Plan, gpu: Gpu, cache: EngineCache, recorded: int = RECORDED
    ) -> None:
        self._name, self._library, self._signature = plan.name, plan.library, plan.signature
        self._gpu, self._lock, self.most = gpu, threading.Lock(), plan.persons[-1]
        # By number of people: the function that launches a graph, and the context that it was
        # captured from.
        self._graphs: dict[int, tuple[Callable[[], None], trt.IExecutionContext]] = {}
        self._context: trt.IExecutionContext | None = None  # for other sizes
        self._kernels: Any = None
        with self._failing(), gpu.active():
            self._runtime: trt.Runtime = plan.library.module.Runtime(plan.library.logger)
            self._engine: trt.ICudaEngine = self._runtime.deserialize_cuda_engine(content)
            if self._engine is None:
                raise self._refused("cannot load it")
            shapes = {**self._signature.inputs, **self._signature.outputs}
            self._tensors = {name: gpu.tensor((self.most, *x)) for name, x in shapes.items()}
            floats = self._engine.device_memory_size_v2 // 4 + 64
            self._scratch = gpu.tensor((floats,), on_host=False)
            with self._kept_kernels(cache, plan.file("kernels")):
                context = self._new_context(self.most, recorded=False)
                self._record_graphs(min(recorded, self.most))
            self._context = context
        self.device = f"{gpu.name}, {plan.library}, graphs for up to {len(self._graphs)} persons"

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs by name; see `Engine.run`. At most `most` persons."""
        with self._lock, self._failing():
            if self._context is None:
                raise EngineError("the engine is closed")
            persons = self._signature.persons(inputs)
            if not 1 <= persons <= self.most:
                wanted = f"1 to {self.most} persons' {dict(self._signature.inputs)} of float32"
                raise EngineError(f"inputs must be {wanted}, are {described(inputs)}")
            with self._gpu.active():
                try:
                    for name in self._signature.inputs:
                        self._tensors[name].host[:persons] = inputs[name]
                    if persons in self._graphs:
                        self._graphs[persons][0]()
                    else:
                        self._set_persons(self._context, persons)
                        self._enqueue(self._context, persons)
                    self._gpu.synchronise()
                except BaseException:
                    # Work that is still running must not mix with the next call's numbers.
                    with contextlib.suppress(Exception):
                        self._gpu.synchronise()
                    raise
            tensors = self._tensors
            return {name: tensors[name].host[:persons].copy() for name in self._signature.outputs}

    def close(self) -> None:
        """Free the GPU's memory; later runs raise EngineError."""
        with self._lock:
            if self._context is not None:
                with self._failing(), self._gpu.active():
                    self._context = self._kernels = None
                    self._graphs.clear()
                    del self._engine, self._runtime, self._scratch  # contexts are freed first
                    self._tensors.clear()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Turns the libraries' exceptions into an EngineError that names the graph."""
        try:
            yield
        except EngineError as error:
            raise EngineError(f"{self._name}: {error}") from error
        except Exception as error:  # cuda-core and pycuda raise several kinds
            raise EngineError(f"{self._name}: {type(error).__name__}: {error}") from error

    @contextlib.contextmanager
    def _kept_kernels(self, cache: EngineCache, file: str) -> Iterator[None]:
        """The cache of compiled kernels of TensorRT for RTX, for use while contexts are created."""
        if not hasattr(self._library.module, "IRuntimeCache"):  # TensorRT's are in the engine
            yield
            return
        config: Any = self._engine.create_runtime_config()
        self._kernels, found = config.create_runtime_cache(), None
        with contextlib.suppress(EngineError):
            found = cache.read(file)
        if found is not None and not self._kernels.deserialize(found):  # it checks that they match
            _LOG.info("kernels of an earlier run do not match: %s", self._library.complaint())
        yield
        compiled = self._kernels.serialize()
        if compiled is not None and bytes(compiled) != found:
            with contextlib.suppress(EngineError):
                cache.write(file, bytes(compiled))

    def _new_context(self, persons: int, recorded: bool) -> trt.IExecutionContext:
        """An execution context in the shared memory, run once because libraries load and compile at
        the first run."""
        module, config = self._library.module, cast("Any", self._engine.create_runtime_config())
        strategies = module.ExecutionContextAllocationStrategy
        config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        if self._kernels is not None:
            # A captured graph is final, so its kernels are compiled now. Otherwise a new number of
            # people gets a generic kernel, so that nobody waits for a compilation.
            kinds = module.DynamicShapesKernelSpecializationStrategy
            kind = kinds.EAGER if recorded else kinds.LAZY
            config.dynamic_shapes_kernel_specialization_strategy = kind
            config.set_runtime_cache(self._kernels)
        context: trt.IExecutionContext | None = self._engine.create_execution_context(config)
        if context is None:
            raise self._refused("cannot create an execution context")
        context.set_device_memory(self._scratch.address, self._engine.device_memory_size_v2)
        for name, tensor in self._tensors.items():
            if not context.set_tensor_address(name, tensor.address):
                raise self._refused(f"does not take the address of '{name}'")
        self._set_persons(context, persons)
        for name, shape in self._signature.outputs.items():
            found: Any = context.get_tensor_shape(name)
            if tuple(found) != (persons, *shape):
                raise EngineError(f"'{name}' would be {tuple(found)}, not {(persons, *shape)}")
        self._enqueue(context, persons)
        self._gpu.synchronise()
        return context

    def _record_graphs(self, most: int) -> None:
        for persons in range(1, most + 1):
            context = self._new_context(persons, recorded=True)
            try:
                launch = self._gpu.record(partial(self._enqueue, context, persons))
                launch()
                self._gpu.synchronise()
            except Exception as error:
                _LOG.info("%s: enqueued, not captured as a CUDA graph: %s", self._name, error)
                return
            self._graphs[persons] = launch, context

    def _set_persons(self, context: trt.IExecutionContext, persons: int) -> None:
        for name, shape in self._signature.inputs.items():
            size: Any = (persons, *shape)  # its stubs do not accept tuples as shapes
            if not context.set_input_shape(name, size):
                raise self._refused(f"does not take {size} as '{name}'")

    def _enqueue(self, context: trt.IExecutionContext, persons: int) -> None:
        for name in self._signature.inputs:
            self._gpu.copy(self._tensors[name], persons, into_gpu=True)
        if not context.execute_async_v3(self._gpu.stream):
            raise self._refused("failed to run")
        for name in self._signature.outputs:
            self._gpu.copy(self._tensors[name], persons, into_gpu=False)

    def _refused(self, what: str) -> EngineError:
        return EngineError(
            f"{self._library} {what}: {self._library.complaint()}; if this persists, "
            "run `key2mesh build-engine --rebuild`"
        )
