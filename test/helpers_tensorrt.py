# SPDX-License-Identifier: Apache-2.0
"""A GPU and TensorRT for machines that have neither: cuda-core's and TensorRT's calls, and rules.

Both are strict where the real ones are, or where those would be undefined. Whether our calls have
the right names and arguments is checked by mypy against the real types (test_types.py); here are
the rules that no type holds, each from its owner's public text:

- nothing enqueued happens before the stream is waited for (CUDA programming guide, Asynchronous
  Concurrent Execution): a result that is read earlier is not there yet;
- the GPU's memory is not the host's: its addresses lead nowhere, and begin as NaN;
- copies are of two buffers of one size (cuda-core, _buffer.pyx, Buffer.copy_to);
- while a stream records nothing runs, and to wait for it spoils the recording
  (CUDA driver API, cuStreamBeginCapture and cuStreamSynchronize);
- a thread that has no current context can do nothing (cuCtxGetCurrent);
- addresses of tensors and of scratch memory are aligned to 256 bytes, and scratch memory is as
  large as device_memory_size_v2 says (NvInferRuntime.h, setTensorAddress; set_device_memory's
  docstring);
- shapes lie within the profile and are set, as all addresses are, before a run (setInputShape,
  enqueueV3);
- a graph is recorded after a run with the same shapes, and holds until its context is changed
  (TensorRT's documentation, CUDA Graphs: enqueueV3 once after a change of shapes);
- version 11 has no EXPLICIT_BATCH and no switches for precision (its release notes).
"""

from __future__ import annotations

import enum
import functools
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest

from key2mesh_core.model.engines.onnx import import_onnxruntime
from key2mesh_core.model.engines.tensorrt_build import Library

PLAN = b"stand-in plan\n"
MOST = 512
AWAY = 1 << 46  # from an address of the host to the "GPU's"
NAME = "Stand-in (8.6)"


class CUDAError(Exception):
    """As cuda-core's."""


class Machine:
    """The "GPU": its memory, its one kind of stream, and what tests ask for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.alive: dict[int, tuple[int, np.ndarray]] = {}  # address -> size, memory
        self.fail_in, self.recordable = 0, True
        self.current = threading.local()
        self.capturing: list[Callable[[], None]] | None = None
        self.queue: list[Callable[[], None]] = []
        self.spoilt = False

    def call(self, name: str, needs_context: bool = True) -> None:
        """Every call begins so; fails if a test wants it to."""
        self.calls.append(name)
        if self.fail_in:
            self.fail_in -= 1
            if not self.fail_in:
                raise CUDAError(f"CUDA_ERROR_OUT_OF_MEMORY in {name}")
        if needs_context and not getattr(self.current, "set", False):
            raise CUDAError("CUDA_ERROR_INVALID_CONTEXT")

    def fail(self, call: int) -> None:
        """Lets the `call`-th call from now fail; 0: none."""
        self.calls, self.fail_in = [], call

    def enqueue(self, step: Callable[[], None]) -> None:
        (self.queue if self.capturing is None else self.capturing).append(step)

    def memory(self, address: int, size: int) -> np.ndarray:
        """Bytes at an address, which must lie within one living piece of memory."""
        for start, (length, content) in self.alive.items():
            if start <= address and address + size <= start + length:
                return content[address - start : address - start + size]
        raise CUDAError(f"CUDA_ERROR_ILLEGAL_ADDRESS: {size} bytes at {address:#x}")

    def allocate(self, size: int, away: int) -> Buffer:
        if self.capturing is not None:
            self.spoilt = True
            raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        block = np.full(size + 512, 255, np.uint8)  # NaN, as floats
        offset = -block.ctypes.data % 512
        content = block[offset : offset + size]
        address = content.ctypes.data + away
        self.alive[address] = (size, content)
        buffer = Buffer(self, address, size)
        weakref.finalize(buffer, self.alive.pop, address, None)
        return buffer


class Buffer:
    def __init__(self, machine: Machine, handle: int, size: int) -> None:
        self.machine, self.handle, self.size = machine, handle, size

    def copy_to(self, dst: Buffer, *, stream: object) -> Buffer:
        machine = self.machine
        machine.call("copy")
        if dst.size != self.size:
            raise ValueError("buffer sizes mismatch between src and dst")
        machine.memory(dst.handle, self.size), machine.memory(self.handle, self.size)
        to, source, size = dst.handle, self.handle, self.size

        def copy() -> None:
            machine.memory(to, size)[:] = machine.memory(source, size)

        machine.enqueue(copy)
        return dst


class Stream:
    def __init__(self, machine: Machine) -> None:
        self.machine, self.handle = machine, 77

    def sync(self) -> None:
        self.machine.call("sync")
        if self.machine.capturing is not None:
            self.machine.spoilt = True
            raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        queue, self.machine.queue = self.machine.queue, []
        for step in queue:
            step()

    def create_graph_builder(self) -> GraphBuilder:
        self.machine.call("create_graph_builder")
        return GraphBuilder(self)


class GraphBuilder:
    def __init__(self, stream: Stream) -> None:
        self.stream, self.steps = stream, None

    def begin_building(self, mode: str) -> GraphBuilder:
        self.stream.machine.call("begin_building")
        assert mode == "thread_local"
        assert not self.stream.machine.queue, "work that was enqueued before would not be recorded"
        self.stream.machine.capturing, self.stream.machine.spoilt = [], False
        return self

    def end_building(self) -> GraphBuilder:
        machine = self.stream.machine
        self.steps, machine.capturing = machine.capturing, None
        machine.call("end_building")
        if machine.spoilt or not machine.recordable:
            raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        return self

    def complete(self) -> Graph:
        self.stream.machine.call("complete")
        return Graph(self.stream.machine, list(self.steps))

    def close(self) -> None:
        self.stream.machine.capturing = None


class Graph:
    def __init__(self, machine: Machine, steps: list[Callable[[], None]]) -> None:
        self.machine, self.steps = machine, steps

    def launch(self, stream: Stream) -> None:
        self.machine.call("launch")
        for step in self.steps:
            self.machine.enqueue(step)


def install(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `import cuda.core` give the machine's."""

    class Device:
        name = "Stand-in"
        compute_capability = (8, 6)

        def __init__(self, device_id: int) -> None:
            assert device_id == 0

        def set_current(self) -> None:
            machine.call("set_current", needs_context=False)
            machine.current.set = True

        def create_stream(self) -> Stream:
            machine.call("create_stream")
            return Stream(machine)

        def allocate(self, size: int, *, stream: Stream) -> Buffer:
            machine.call("allocate")
            return machine.allocate(size, AWAY)

    class LegacyPinnedMemoryResource:
        def allocate(self, size: int, *, stream: Stream) -> Buffer:
            machine.call("allocate_pinned")
            return machine.allocate(size, 0)

    class Views:
        @staticmethod
        def from_handle(ptr: int, size: int) -> Buffer:
            return Buffer(machine, ptr, size)

    module = ModuleType("cuda.core")
    module.Device, module.Buffer = Device, Views
    module.LegacyPinnedMemoryResource = LegacyPinnedMemoryResource
    package = ModuleType("cuda")
    package.core = module
    monkeypatch.setitem(__import__("sys").modules, "cuda", package)
    monkeypatch.setitem(__import__("sys").modules, "cuda.core", module)


# TensorRT: engines are ONNX graphs which ONNX Runtime computes when the "kernel" runs.


@functools.cache
def _session(graph: bytes) -> object:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class _Strategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class _Specialization(enum.Enum):
    LAZY, EAGER, NONE = range(3)


class Context:
    def __init__(self, engine: Engine, strategy: object = None) -> None:
        self._engine, self._shapes, self._addresses, self._memory = engine, {}, {}, None
        # Apart from the context, as kernels that were recorded must not keep it alive.
        self._history = SimpleNamespace(changes=0, recorded=set(), flushed=False)
        engine.contexts += 1
        engine.strategies.append(strategy)

    def __del__(self) -> None:
        self._engine.contexts -= 1

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        expected = self._engine.inputs.get(name)
        if expected is None or not 1 <= shape[0] <= MOST or tuple(shape[1:]) != expected:
            return self._engine.complain(f"shape {shape} of {name} is outside the profile")
        self._shapes[name] = shape[0]
        self._history.changes += 1
        self._history.flushed = False
        return self._engine.answer("set_input_shape")

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if memory % 256:
            return self._engine.complain(f"address {memory} of {name} is not aligned")
        self._addresses[name] = memory
        self._history.changes += 1
        return self._engine.answer("set_tensor_address")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        persons = set(self._shapes.values())
        return (persons.pop() if len(persons) == 1 else -1, *self._engine.outputs[name])

    def set_device_memory(self, memory: int, size: int) -> None:
        if size < self._engine.device_memory_size_v2 or memory % 256:
            self._engine.complain("the scratch memory is too small, or not aligned")
        else:
            self._memory = memory

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, machine, history = self._engine, self._engine.machine, self._history
        if not engine.answer("execute"):
            return False
        if stream_handle != 77 or self._memory is None or set(self._shapes) != set(engine.inputs):
            return engine.complain("no stream, no memory, or no shapes")
        if set(self._addresses) != {*engine.inputs, *engine.outputs}:
            return engine.complain("no addresses")
        if machine.capturing is not None:
            if not history.flushed:
                return engine.complain("recorded before a run with these shapes")
            history.recorded.add(history.changes)
        history.flushed = True
        persons, changes = next(iter(self._shapes.values())), history.changes
        places, scratch = dict(self._addresses), self._memory

        def floats(address: int, shape: tuple[int, ...]) -> np.ndarray:
            size = 4 * int(np.prod(shape, dtype=int))
            return machine.memory(address, size).view(np.float32).reshape(shape)

        def compute() -> None:
            if history.changes != changes and changes in history.recorded:
                engine.faults.append("a context was changed after it had been recorded")
            floats(scratch, (engine.device_memory_size_v2 // 4,))[:] = np.nan
            values = {n: floats(places[n], (persons, *s)).copy() for n, s in engine.inputs.items()}
            results = engine.session.run(list(engine.outputs), values)
            for (name, shape), result in zip(engine.outputs.items(), results, strict=True):
                floats(places[name], (persons, *shape))[...] = result

        machine.enqueue(compute)
        return True


class RuntimeCache:
    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, blob: bytes) -> bool:
        self.content = blob.removeprefix(b"kernels ") if blob.startswith(b"kernels ") else b""
        return blob.startswith(b"kernels ")

    def serialize(self) -> bytes:
        return b"kernels " + bytes(sorted(set(self.content)))


class RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = _Specialization.LAZY
    _cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self._cache = cache
        return True

    def set_execution_context_allocation_strategy(self, strategy: object) -> None:
        self.allocation = strategy


class Engine:
    device_memory_size_v2 = 4096

    def __init__(self, machine: Machine, complaints: deque[str], graph: bytes) -> None:
        self.machine, self._complaints = machine, complaints
        self.session = _session(graph)
        arguments = (self.session.get_inputs(), self.session.get_outputs())
        self.inputs, self.outputs = (
            {x.name: tuple(x.shape[1:]) for x in each} for each in arguments
        )
        self.faults, self.strategies, self.contexts = [], [], 0

    def complain(self, text: str) -> bool:
        self._complaints.append(text)
        return False

    def answer(self, name: str) -> bool:
        """Whether a call works; TensorRT's answer False where CUDA's raise."""
        try:
            self.machine.call(name)
        except CUDAError as error:
            return self.complain(str(error))
        return True

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self.outputs, *self.inputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *(self.inputs | self.outputs)[name])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [(persons, *self.inputs[name]) for persons in (1, 8, MOST)]

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, asked: RuntimeConfig) -> Context | None:
        if not self.answer("create_execution_context"):
            return None
        assert asked.allocation is _Strategy.USER_MANAGED
        if asked._cache is None:
            return Context(self)
        asked._cache.content += b"k"  # what is compiled for a context
        return Context(self, asked.dynamic_shapes_kernel_specialization_strategy)


FLAVOURS = ("10.16.1", "11.4.0", "rtx")


def standin_library(machine: Machine, flavour: str = "rtx") -> Library:
    """A library of one of `FLAVOURS`; `module.engines` lists what it has loaded."""
    complaints: deque[str] = deque(maxlen=3)
    engines: list[weakref.ref[Engine]] = []

    class Runtime:
        def __init__(self, logger: object) -> None:
            assert logger == "logger"

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
            if not serialized_engine.startswith(PLAN):
                complaints.append("this is no plan")
                return None
            engine = Engine(machine, complaints, serialized_engine.removeprefix(PLAN))
            if not engine.answer("deserialize"):
                return None
            engines.append(engine)
            return engine

    module = SimpleNamespace(
        Runtime=Runtime,
        TensorIOMode=TensorIOMode,
        float32="float32",
        engines=engines,
        ExecutionContextAllocationStrategy=_Strategy,
    )
    if flavour == "rtx":
        module.IRuntimeCache = RuntimeCache
        module.DynamicShapesKernelSpecializationStrategy = _Specialization
    name = "tensorrt_rtx" if flavour == "rtx" else "tensorrt"
    return Library(name, flavour, module, "logger", complaints)


def plan_of(graph: bytes | onnx.ModelProto) -> bytes:
    """The stand-in's engine of an ONNX graph."""
    return PLAN + (graph if isinstance(graph, bytes) else graph.SerializeToString())
