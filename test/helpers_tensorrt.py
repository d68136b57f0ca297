# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for what a machine without a GPU lacks, at the narrowest place: memory and launch.

`StandinDriver` compiles and drives `standins/cuda_driver.c`, which has the C interface of NVIDIA's
driver. `standin_library` has the part of TensorRT's Python interface that an engine uses; its
engines are ONNX graphs which ONNX Runtime computes, but only when the stand-in driver runs the
"kernel", on what lies in the "GPU's" memory then. Contexts complain where the real ones would, or
where the real ones would be undefined: an address that is not aligned, a shape outside the profile,
a recording without a run before it, a context that was changed after it was recorded.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import math
import subprocess
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime

from key2mesh_core.model.engines.tensorrt_library import Library

PLAN = b"stand-in plan\n"
MOST = 512
_SOURCE = Path(__file__).parent / "standins" / "cuda_driver.c"
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class StandinDriver:
    """The compiled stand-in library, and what it lets tests ask for."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "libcuda_standin.so")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", self.path, _SOURCE], check=True)
        self._library = ctypes.CDLL(self.path)
        self._library.standin_calls.restype = ctypes.c_char_p
        self._library.standin_memory.restype = ctypes.c_void_p
        self._library.standin_memory.argtypes = [ctypes.c_uint64]
        self._library.standin_has.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
        self.lost = 0  # what a test did not let be given back
        self._library.cuLaunchHostFunc.argtypes = [ctypes.c_void_p, _KERNEL, ctypes.c_void_p]

    def fail(self, call: int, status: int = 2) -> None:
        """Lets the `call`-th call from now fail; 0: none."""
        self._library.standin_fail(call, status)

    def calls(self) -> list[str]:
        """Names of all calls since the last time."""
        names = self._library.standin_calls().decode().split()
        self._library.standin_forget_calls()
        return names

    @property
    def alive(self) -> int:
        """Pieces of memory, streams and graphs that were not given back."""
        return self._library.standin_alive()

    @property
    def recording(self) -> bool:
        return bool(self._library.standin_recording())

    def reset(self) -> None:
        self._library.standin_reset()
        self._library.standin_version(12040)

    def version(self, number: int) -> None:
        self._library.standin_version(number)

    def forget_context(self) -> None:
        """As if the calling thread had never called before."""
        self._library.standin_forget_context()

    def has(self, address: int, size: int) -> bool:
        return bool(self._library.standin_has(address, size))

    def array(self, address: int, shape: tuple[int, ...]) -> np.ndarray:
        """What lies in the "GPU's" memory."""
        size = math.prod(shape)
        assert self.has(address, 4 * size)
        memory = (ctypes.c_float * size).from_address(self._library.standin_memory(address))
        return np.frombuffer(memory, np.float32).reshape(shape)

    def launch(self, stream: int, kernel: object) -> int:
        return self._library.cuLaunchHostFunc(stream, kernel, None)


@functools.cache
def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class _ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class _DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY, EAGER, NONE = range(3)


class _Context:
    def __init__(self, engine: _Engine, strategy: object = None) -> None:
        self._engine = engine
        self._shapes, self._addresses, self._memory = {}, {}, None
        # Changes are counted, as a recording holds only until the next one. Apart from the
        # context, as kernels that were recorded must not keep it alive.
        self._history = SimpleNamespace(changes=0, recorded=set())
        self._flushed = False  # whether a run has followed the last change of shape
        engine.contexts += 1
        engine.strategies.append(strategy)

    def __del__(self) -> None:
        self._engine.contexts -= 1
        if self._memory and not self._engine.driver.has(*self._memory):
            self._engine.faults.append("a context outlived its memory")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        expected = self._engine.inputs.get(name)
        if expected is None or not 1 <= shape[0] <= MOST or tuple(shape[1:]) != expected:
            return self._engine.complain(f"shape {shape} of {name} is outside the profile")
        self._shapes[name] = shape[0]
        self._history.changes += 1
        self._flushed = False
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if memory % 256:
            return self._engine.complain(f"address {memory} of {name} is not aligned")
        self._addresses[name] = memory
        self._history.changes += 1
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        persons = set(self._shapes.values())
        return (persons.pop() if len(persons) == 1 else -1, *self._engine.outputs[name])

    def _take_memory(self, address: int, size: int) -> None:
        if size < self._engine.scratch or not self._engine.driver.has(address, size):
            self._engine.complain("the scratch memory is too small")
        else:
            self._memory = (address, size)

    def execute_async_v3(self, stream: int) -> bool:
        engine, driver = self._engine, self._engine.driver
        if self._memory is None or set(self._shapes) != set(engine.inputs):
            return engine.complain("no memory, or no shapes")
        if set(self._addresses) != {*engine.inputs, *engine.outputs}:
            return engine.complain("no addresses")
        if driver.recording and not self._flushed:
            return engine.complain("recorded before a run with these shapes")
        self._flushed = True
        persons, history = next(iter(self._shapes.values())), self._history
        places, memory, changes = dict(self._addresses), self._memory, history.changes

        def compute(_: object) -> None:
            if history.changes != changes and changes in history.recorded:
                engine.faults.append("a context was changed after it had been recorded")
            driver.array(memory[0], (engine.scratch // 4,))[:] = np.nan  # it is nobody else's
            values = {
                name: driver.array(places[name], (persons, *shape)).copy()
                for name, shape in engine.inputs.items()
            }
            results = engine.session.run(list(engine.outputs), values)
            for (name, shape), result in zip(engine.outputs.items(), results, strict=True):
                driver.array(places[name], (persons, *shape))[...] = result

        kernel = _KERNEL(compute)
        engine.kernels.append(kernel)  # as long as a graph might launch it
        if driver.recording:
            history.recorded.add(changes)
        if driver.launch(stream, kernel):
            return engine.complain("cannot launch")
        return True


class Context8(_Context):
    device_memory = property(
        None, lambda self, address: self._take_memory(address, self._engine.scratch)
    )


class Context10(_Context):
    def set_device_memory(self, memory: int, size: int) -> None:
        self._take_memory(memory, size)


class ContextRtx(Context10):
    def is_stream_capturable(self, stream: int) -> bool:
        return self._engine.capturable


class _Engine:
    scratch = 4096
    capturable = True

    def __init__(self, driver: StandinDriver, complaints: deque[str], graph: bytes) -> None:
        self.driver, self._complaints = driver, complaints
        self.session = _session(graph)
        arguments = (self.session.get_inputs(), self.session.get_outputs())
        self.inputs, self.outputs = (
            {x.name: tuple(x.shape[1:]) for x in each} for each in arguments
        )
        self.faults, self.kernels, self.strategies = [], [], []
        self.contexts = 0

    def complain(self, text: str) -> bool:
        self._complaints.append(text)
        return False

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


class Engine8(_Engine):
    device_memory_size = _Engine.scratch

    def create_execution_context_without_device_memory(self) -> Context8:
        return Context8(self)


class Engine10(_Engine):
    device_memory_size_v2 = _Engine.scratch

    def create_execution_context(self, strategy: object) -> Context10:
        assert strategy is _ExecutionContextAllocationStrategy.USER_MANAGED
        return Context10(self)


class EngineRtx(_Engine):
    device_memory_size_v2 = _Engine.scratch

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, runtime_config: RuntimeConfig) -> ContextRtx:
        assert runtime_config.allocation is _ExecutionContextAllocationStrategy.USER_MANAGED
        runtime_config.cache.content += b"k"  # what is compiled for a context
        return ContextRtx(self, runtime_config.dynamic_shapes_kernel_specialization_strategy)


class RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = _DynamicShapesKernelSpecializationStrategy.LAZY

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True

    def set_execution_context_allocation_strategy(self, strategy: object) -> None:
        self.allocation = strategy


class RuntimeCache:
    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"kernels "):
            return False
        self.content = blob.removeprefix(b"kernels ")
        return True

    def serialize(self) -> bytes:
        return b"kernels " + bytes(sorted(set(self.content)))


FLAVOURS = {"8.6": Engine8, "10.8": Engine10, "rtx": EngineRtx}


def standin_library(driver: StandinDriver, flavour: str = "rtx") -> Library:
    """A library of one of `FLAVOURS`; `module.engines` lists what it has loaded."""
    complaints: deque[str] = deque(maxlen=3)
    engines: list[_Engine] = []

    class Runtime:
        def __init__(self, logger: object) -> None:
            assert logger == "logger"

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            if not plan.startswith(PLAN):
                complaints.append("this is no plan")
                return None
            engines.append(FLAVOURS[flavour](driver, complaints, plan.removeprefix(PLAN)))
            return engines[-1]

    module = SimpleNamespace(
        Runtime=Runtime, TensorIOMode=TensorIOMode, float32="float32", engines=engines
    )
    if flavour != "8.6":
        module.ExecutionContextAllocationStrategy = _ExecutionContextAllocationStrategy
    name = "tensorrt"
    if flavour == "rtx":
        name = "tensorrt_rtx"
        module.IRuntimeCache = RuntimeCache
        module.DynamicShapesKernelSpecializationStrategy = (
            _DynamicShapesKernelSpecializationStrategy
        )
    return Library(name, flavour, module, "logger", complaints)


def plan_of(graph: bytes | onnx.ModelProto) -> bytes:
    """The stand-in's engine of an ONNX graph."""
    return PLAN + (graph if isinstance(graph, bytes) else graph.SerializeToString())
