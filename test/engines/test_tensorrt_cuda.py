# SPDX-License-Identifier: Apache-2.0
"""The driver's calls, against a stand-in library with its C interface."""

from __future__ import annotations

import ctypes
import threading

import pytest
from helpers_tensorrt import StandinDriver

from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines.cuda import Driver


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return StandinDriver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def standin(compiled):
    compiled.reset()
    before = compiled.alive
    yield compiled
    compiled.reset()
    assert compiled.alive == before


@pytest.fixture
def memory(standin):
    """driver, stream, and 16 bytes here and there."""
    driver = Driver(standin.path)
    stream, pinned, device = driver.create_stream(), driver.allocate_pinned(16), driver.allocate(16)
    yield driver, stream, pinned, device
    driver.free(device)
    driver.free_pinned(pinned)
    driver.destroy_stream(stream)


def write(address: int, content: bytes) -> None:
    ctypes.memmove(address, content, len(content))


def test_the_gpu_says_who_it_is(standin):
    assert Driver(standin.path).gpu == "Stand-in (8.6)"


def test_addresses_keep_all_their_bits(memory):
    assert min(memory[1:]) > 1 << 32


def test_copies_go_there_and_back_once_they_are_waited_for(memory):
    driver, stream, pinned, device = memory
    write(pinned, b"0123456789abcdef")
    driver.copy_in(device, pinned, 16, stream)
    driver.synchronise(stream)
    write(pinned, b"-" * 16)
    driver.copy_out(pinned, device + 4, 8, stream)
    assert ctypes.string_at(pinned, 16) == b"-" * 16
    driver.synchronise(stream)
    assert ctypes.string_at(pinned, 16) == b"456789ab" + b"-" * 8


def test_a_recording_is_run_when_it_is_launched_and_each_time(memory):
    driver, stream, pinned, device = memory
    driver.begin_capture(stream)
    driver.copy_in(device, pinned, 8, stream)
    driver.copy_out(pinned + 8, device, 8, stream)
    graph = driver.end_capture(stream)
    for text in (b"once....", b"again..."):
        write(pinned, text + b"-" * 8)
        driver.launch(graph, stream)
        driver.synchronise(stream)
        assert ctypes.string_at(pinned + 8, 8) == text
    driver.destroy_graph(graph)


def test_a_spoilt_recording_is_told_and_the_stream_goes_on(memory):
    driver, stream, pinned, device = memory
    driver.begin_capture(stream)
    with pytest.raises(EngineError, match="cuStreamSynchronize"):
        driver.synchronise(stream)
    with pytest.raises(EngineError, match="cuStreamEndCapture"):
        driver.end_capture(stream)
    driver.copy_in(device, pinned, 16, stream)
    driver.synchronise(stream)


def test_a_copy_past_the_end_is_told(memory):
    driver, stream, pinned, device = memory
    for copy in (
        lambda: driver.copy_in(device, pinned, 17, stream),
        lambda: driver.copy_out(pinned, device + 1, 16, stream),
    ):
        with pytest.raises(EngineError, match=r"cuMemcpy.*Async_v2 failed"):
            copy()


def test_a_thread_needs_the_gpu_first(memory):
    driver = memory[0]
    results = []

    def work(first: bool) -> None:
        try:
            if first:
                driver.activate()
            driver.free(driver.allocate(8))
            results.append("done")
        except EngineError as error:
            results.append(str(error))

    for first in (False, True):
        thread = threading.Thread(target=work, args=(first,))
        thread.start()
        thread.join()
    assert "cuMemAlloc_v2 failed" in results[0]
    assert results[1] == "done"


def test_no_driver_and_an_old_one_are_told(standin, tmp_path):
    with pytest.raises(EngineError, match=r"no NVIDIA GPU here: .*libcuda_nowhere"):
        Driver("libcuda_nowhere.so.1")
    (tmp_path / "broken.so").write_bytes(b"\x7fELF")
    with pytest.raises(EngineError, match="no NVIDIA GPU here"):
        Driver(str(tmp_path / "broken.so"))
    with pytest.raises(EngineError, match=r"no NVIDIA GPU here: .*cuInit"):
        Driver("libm.so.6")
    standin.version(11020)
    with pytest.raises(EngineError, match=r"for CUDA 11\.2, and 11\.4 is needed"):
        Driver(standin.path)


@pytest.mark.parametrize("call", range(1, 9))
def test_each_call_that_fails_on_the_way_is_named(standin, call):
    standin.calls()
    standin.fail(call, 100)
    with pytest.raises(EngineError, match=r"NVIDIA's driver: cu\w+ failed: \w+ \(100\)"):
        Driver(standin.path)
    assert len(standin.calls()) == call
