# SPDX-License-Identifier: Apache-2.0
"""The first visible GPU, through NVIDIA's cuda-core, or through pycuda if only that is installed.

Both use the device's primary context, which TensorRT and PyTorch share. Failures after `open_gpu`
raise the library's own errors. Memory is freed with its `Tensor`.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError

if TYPE_CHECKING:
    from cuda.core import Stream
    from cuda.core.graph import GraphBuilder


@dataclass(eq=False)
class Tensor:
    """Floats in pinned host memory, and their memory on the GPU."""

    host: NDArray[np.float32]  # (N, ...) zeros, N the largest batch
    address: int  # in GPU memory, aligned to at least 256 bytes
    memory: tuple[Any, Any]  # owns the pinned and the GPU memory


def _size(shape: tuple[int, ...]) -> int:
    return max(4 * math.prod(shape), 1)


class CudaCore:
    """The GPU through cuda-core 1.x: `name` is like "NVIDIA GeForce RTX 3080 Ti (8.6)", `stream`
    the handle of the single stream on which copies and graphs are enqueued."""

    def __init__(self) -> None:
        from cuda.core import Buffer, Device, LegacyPinnedMemoryResource

        self._device = Device(0)
        self._device.set_current()
        major, minor = self._device.compute_capability
        self.name = f"{self._device.name} ({major}.{minor})"
        self._stream: Stream = self._device.create_stream()
        self.stream = int(self._stream.handle)
        self._pinned, self._view = LegacyPinnedMemoryResource(), Buffer.from_handle
        self._target: Stream | GraphBuilder = self._stream  # the builder, while a graph is captured

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Makes the GPU current for the calling thread, within a `with` block."""
        self._device.set_current()
        yield

    def tensor(self, shape: tuple[int, ...], on_host: bool = True) -> Tensor:
        """Memory for floats of this shape, on host and GPU or on the GPU alone."""
        device = self._device.allocate(_size(shape), stream=self._stream)
        if not on_host:
            return Tensor(np.empty(0, np.float32), device.handle, (None, device))
        pinned = self._pinned.allocate(_size(shape), stream=self._stream)
        numbers: Any = (ctypes.c_float * math.prod(shape)).from_address(pinned.handle)
        host = np.frombuffer(numbers, np.float32).reshape(shape)
        host[...] = 0
        return Tensor(host, device.handle, (pinned, device))

    def copy(self, tensor: Tensor, persons: int, into_gpu: bool) -> None:
        """Enqueues a copy of the first people's numbers, to or from the GPU."""
        size = _size((persons, *tensor.host.shape[1:]))
        # Views, which free nothing, because a copy needs two buffers of equal size.
        pinned, device = (self._view(each.handle, size) for each in tensor.memory)
        source, target = (pinned, device) if into_gpu else (device, pinned)
        source.copy_to(target, stream=self._target)

    def synchronise(self) -> None:
        """Waits until all enqueued work is done; raises its errors."""
        self._stream.sync()

    def record(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Captures what `enqueue` enqueues as a CUDA graph; returns a function that launches it."""
        builder = self._stream.create_graph_builder()
        try:
            # Other threads (another engine's) may use the GPU during the capture.
            self._target = builder.begin_building("thread_local")
            enqueue()
            graph = builder.end_building().complete()
        finally:
            self._target = self._stream
            builder.close()  # ends a failed capture
        return lambda: graph.launch(self._stream)


class PyCuda:
    """The same through pycuda, which Jetson users have; it cannot capture graphs."""

    def __init__(self) -> None:
        import pycuda.driver as driver  # type: ignore[import-not-found]

        self._driver: Any = driver
        driver.init()
        device = driver.Device(0)
        self.name = "{} ({}.{})".format(device.name(), *device.compute_capability())
        self._context = device.retain_primary_context()
        with self.active():
            self._stream = driver.Stream()
            self.stream = int(self._stream.handle)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    def tensor(self, shape: tuple[int, ...], on_host: bool = True) -> Tensor:
        host = self._driver.pagelocked_zeros(shape if on_host else (0,), np.float32)
        device = self._driver.mem_alloc(_size(shape))
        return Tensor(host, int(device), (host, device))

    def copy(self, tensor: Tensor, persons: int, into_gpu: bool) -> None:
        host = tensor.host[:persons]
        if into_gpu:
            self._driver.memcpy_htod_async(tensor.address, host, self._stream)
        else:
            self._driver.memcpy_dtoh_async(host, tensor.address, self._stream)

    def synchronise(self) -> None:
        self._stream.synchronize()

    def record(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        raise EngineError("pycuda cannot capture CUDA graphs, cuda-core can")


Gpu = CudaCore | PyCuda


def open_gpu() -> Gpu:
    """The GPU; raises EngineError if there is none, or neither library is installed."""
    reasons = []
    for kind in (CudaCore, PyCuda):
        try:
            return kind()
        except ImportError as error:
            reasons.append(str(error))
        except Exception as error:  # the libraries raise several kinds
            raise EngineError(f"CUDA: opening the GPU failed: {error or kind}") from error
    raise EngineError(
        f"the GPU needs the package cuda-core or pycuda ({'; '.join(reasons)}): "
        "pip install cuda-core cuda-bindings"
    )
