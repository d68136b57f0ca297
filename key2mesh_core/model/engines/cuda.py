# SPDX-License-Identifier: Apache-2.0
"""The few calls of NVIDIA's driver that an engine needs: memory, copies, one stream, graphs.

Made of ctypes on `libcuda.so.1`, the library that the GPU's driver itself brings. Two alternatives
were weighed: pycuda is built from source against a CUDA toolkit that a robot seldom has, and of
cuda-bindings each major version of CUDA needs its own, so the right one depends on the driver. The
driver's C interface has been the same since CUDA 11.4, on desktops and on Jetsons, and what is
needed of it is one table. A test drives this file against a stand-in library with that interface.

Addresses are plain integers, sizes are in bytes. Every call raises EngineError if the driver
refuses it, naming the call and the driver's reason.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p

from key2mesh_core.errors import EngineError

LIBRARY = "libcuda.so.1"
_OLDEST = 11040  # CUDA 11.4: cuGraphInstantiateWithFlags

_NON_BLOCKING = 1  # a stream that does not wait for the legacy default stream
_THREAD_LOCAL = 1  # while capturing, other threads (another engine's) may do as they like
_MAJOR, _MINOR = 75, 76  # attributes: compute capability

_CALLS = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_uint64),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class Driver:
    """The first GPU that the process may see (CUDA_VISIBLE_DEVICES chooses), and its driver.

    Shares the device's primary context with TensorRT and with PyTorch. A thread calls `activate`
    before its first other call.

    Attributes:
        gpu: its name and compute capability, as "NVIDIA GeForce RTX 3080 Ti (8.6)".

    Raises:
        EngineError: no driver, one that is too old, or no GPU.
    """

    def __init__(self, library: str | None = None) -> None:
        library = LIBRARY if library is None else library
        try:
            self._library = ctypes.CDLL(library)
            for name, arguments in _CALLS.items():
                function = getattr(self._library, name)
                function.argtypes, function.restype = arguments, c_int
        except (OSError, AttributeError) as error:
            raise EngineError(
                f"no NVIDIA GPU here: its driver's library cannot be used ({error})"
            ) from error
        version, device = c_int(), c_int()
        self._call("cuInit", 0)
        self._call("cuDriverGetVersion", byref(version))
        if version.value < _OLDEST:
            found = f"{version.value // 1000}.{version.value % 1000 // 10}"
            raise EngineError(
                f"NVIDIA's driver is too old: it is for CUDA {found}, and 11.4 is needed"
            )
        self._call("cuDeviceGet", byref(device), 0)
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), device)
        capability = []
        for attribute in (_MAJOR, _MINOR):
            value = c_int()
            self._call("cuDeviceGetAttribute", byref(value), attribute, device)
            capability.append(str(value.value))
        self.gpu = f"{name.value.decode(errors='replace')} ({'.'.join(capability)})"
        # Never released: it is the process's, and PyTorch or TensorRT may stand on it, too.
        self._context = c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device)
        self.activate()

    def activate(self) -> None:
        """Makes the GPU the calling thread's."""
        self._call("cuCtxSetCurrent", self._context)

    # Memory.

    def allocate(self, size: int) -> int:
        """Memory of the GPU, aligned to 256 bytes at least."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size)
        return address.value

    def free(self, address: int) -> None:
        self._call("cuMemFree_v2", address)

    def allocate_pinned(self, size: int) -> int:
        """Memory of the host that the GPU copies from and to by itself."""
        address = c_void_p()
        self._call("cuMemHostAlloc", byref(address), size, 0)
        return address.value

    def free_pinned(self, address: int) -> None:
        self._call("cuMemFreeHost", address)

    # A stream: what is enqueued runs in order, and later than the call returns.

    def create_stream(self) -> int:
        stream = c_void_p()
        self._call("cuStreamCreate", byref(stream), _NON_BLOCKING)
        return stream.value

    def destroy_stream(self, stream: int) -> None:
        self._call("cuStreamDestroy_v2", stream)

    def copy_in(self, device: int, pinned: int, size: int, stream: int) -> None:
        """Enqueues a copy from the host to the GPU."""
        self._call("cuMemcpyHtoDAsync_v2", device, pinned, size, stream)

    def copy_out(self, pinned: int, device: int, size: int, stream: int) -> None:
        """Enqueues a copy from the GPU to the host."""
        self._call("cuMemcpyDtoHAsync_v2", pinned, device, size, stream)

    def synchronise(self, stream: int) -> None:
        """Waits for all that was enqueued; raises what failed on the way."""
        self._call("cuStreamSynchronize", stream)

    # Graphs: work recorded once and launched as one.

    def begin_capture(self, stream: int) -> None:
        """From here on the stream records instead of running."""
        self._call("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """What was recorded, ready to be launched."""
        graph, launchable = c_void_p(), c_void_p()
        self._call("cuStreamEndCapture", stream, byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", byref(launchable), graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)
        return launchable.value

    def launch(self, graph: int, stream: int) -> None:
        """Enqueues all that was recorded."""
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", graph)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            words = []
            for describe in (self._library.cuGetErrorName, self._library.cuGetErrorString):
                text = c_char_p()
                describe(status, byref(text))
                words.append((text.value or b"unknown").decode(errors="replace"))
            raise EngineError(f"NVIDIA's driver: {name} failed: {words[0]} ({status}), {words[1]}")
