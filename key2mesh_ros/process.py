# SPDX-License-Identifier: Apache-2.0
"""The mesh node as a process: how it starts, and how it ends."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.signals import SignalHandlerOptions

from .executor import UrgentFirstExecutor
from .middleware import make_room_for_meshes
from .parameters import ParameterError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(make_node: Callable[[], Any], name: str, arguments: Sequence[str] | None) -> int:
    """Run a node, which has a `start`, until SIGINT or SIGTERM; 0, or 1 if its parameters are
    wrong."""
    make_room_for_meshes()
    with ExitStack() as ended:
        try:
            # rclpy's own handling of signals shuts everything down in another thread, while this
            # one is in the midst of a frame: a crash in one of a hundred.
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
            ended.callback(shut_down)
            executor = UrgentFirstExecutor()
            ended.enter_context(_signals_call(executor.stop))
            node = make_node()
            ended.callback(node.destroy_node)
            ended.callback(executor.shutdown)
            executor.add_node(node)
            node.start()
            gc.freeze()  # what is here stays: searching it for garbage would hold up frames for ms
            executor.spin()
        except (ParameterError, ParameterException) as error:
            rclpy.logging.get_logger(name).fatal(f"wrong parameter: {error}")
            return 1
        except (KeyboardInterrupt, ExternalShutdownException):
            pass  # the usual ways to end
    return 0


@contextmanager
def _signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop` in a thread of its own, and interrupt nothing.

    Python's own handlers would have to wait until the main thread comes back from waiting.
    """
    heard, tell = os.pipe()
    os.set_blocking(tell, False)

    def listen() -> None:
        while os.read(heard, 1):
            stop()

    handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(tell)  # which ends the thread
        thread.join()
        os.close(heard)


def shut_down() -> None:
    """Shut rclpy down, unless a signal did."""
    with suppress(RuntimeError):  # rclpy's own thread for signals may just be doing the same
        rclpy.try_shutdown()
