# SPDX-License-Identifier: Apache-2.0
"""Runs nodes as a process, from rclpy's initialisation to a clean shutdown."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from .parameters import ParameterError

PROFILE = Path(__file__).with_name("fastdds.xml")

OLD_NAME, NAME = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
"""The variable that names the profile: Jazzy's Fast DDS 2.14 reads only the first; Fast DDS 3
(Kilted, Lyrical) reads the second, and Kilted warns about the first."""

# The user's own settings: one of these variables, or a Fast DDS file in the working directory.
_DECISIONS = (OLD_NAME, NAME, "FASTDDS_BUILTIN_TRANSPORTS")
_FILES_IN_FOLDER = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")

PATIENCE_S = 10.0
"""At shutdown, the process does not wait longer than this [s] for a callback, for example one that
builds an engine."""


def run(
    *make_nodes: Callable[[], Any],
    arguments: Sequence[str] | None = None,
    executor: Callable[[], Executor] = SingleThreadedExecutor,
) -> int:
    """Run nodes in one executor until SIGINT or SIGTERM; 0, or 1 if a parameter is wrong.

    Args:
        make_nodes: called after rclpy is initialised; the `start` method of a node is called if it
            has one.
        arguments: command line arguments; None for the process's own.
        executor: makes the executor.
    """
    make_room_for_meshes()
    with ExitStack() as ended:
        signals = _StopSignals()
        ended.callback(signals.ignore)
        try:
            # rclpy's own signal handler shuts ROS down from another thread during callbacks, which
            # sometimes crashes.
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
            ended.callback(rclpy.try_shutdown)
            running = executor()
            for make_node in make_nodes:
                node = make_node()
                ended.callback(node.destroy_node)
                running.add_node(node)
                getattr(node, "start", bool)()
            ended.callback(running.shutdown)
            gc.freeze()  # collecting all of this would delay frames
            _spin(running, signals)
        except (ParameterError, ParameterException) as error:  # the node's; rclpy's
            rclpy.logging.get_logger("key2mesh_ros").fatal(f"wrong parameter: {error}")
            return 1
    return 0


class _StopSignals:
    """Waits for SIGINT and SIGTERM in the main thread.

    Python runs signal handlers only in the main thread, between two bytecodes. That thread
    therefore waits for the byte that Python's C handler writes to a pipe, whichever thread gets the
    signal.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._NUMBERS:
            signal.signal(number, lambda *_: None)

    def wait(self) -> None:
        """Wait until a signal arrives, or has arrived since the start, or `wake` is called."""
        os.read(self._read, 1)

    def wake(self) -> None:
        """End the wait, from any thread."""
        os.write(self._write, b"\0")

    def ignore(self) -> None:
        """Ignore signals until the process ends: a second Ctrl-C changes nothing."""
        for number in self._NUMBERS:
            signal.signal(number, signal.SIG_IGN)


def _spin(executor: Executor, signals: _StopSignals) -> None:
    """Run the executor in another thread until a signal arrives or ROS is shut down."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set() and executor.context.ok():
            try:
                executor.spin_once()
            except ExternalShutdownException:
                break
            except Exception:  # rclpy's own: our callbacks are guarded
                rclpy.logging.get_logger("key2mesh_ros").error(traceback.format_exc())
                time.sleep(0.1)
        signals.wake()

    thread = threading.Thread(target=work, name="executor", daemon=True)
    thread.start()
    signals.wait()
    stopped.set()
    executor.create_task(bool)  # wakes `spin_once`, so that it returns
    thread.join(PATIENCE_S)
    if thread.is_alive():
        rclpy.logging.get_logger("key2mesh_ros").warning(
            f"shutting down without waiting for a callback that takes more than {PATIENCE_S:g} s"
        )
        os._exit(0)


def make_room_for_meshes(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Make Fast DDS, if it is the middleware, send messages of ten people through shared memory.

    Call this before rclpy.init(), and only in the process that publishes meshes. Returns whether
    the variables were set; other middlewares do not read them.
    """
    decided = any(name in environment for name in _DECISIONS)
    if decided or any(Path(name).exists() for name in _FILES_IN_FOLDER):
        return False
    names = {"jazzy": [OLD_NAME], "": [OLD_NAME, NAME]}  # by distribution, if known
    for name in names.get(environment.get("ROS_DISTRO", ""), [NAME]):
        environment[name] = str(PROFILE)
    return True
