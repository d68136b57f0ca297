# SPDX-License-Identifier: Apache-2.0
"""Starts and ends the demo's programs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from key2mesh_core.errors import Key2MeshError

PATIENCE_S = 5.0
"""How long a process may take to end when asked to [s]."""


class DemoError(Key2MeshError):
    """The demo cannot continue."""


def find_node_program() -> Path:
    """The installed `mesh_node`, as `ros2 run` would find it.

    Raises:
        DemoError: it is not installed.
    """
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for prefix in prefixes:
        program = Path(prefix) / "lib" / "key2mesh_ros" / "mesh_node"
        if program.exists():
            return program
    raise DemoError(
        "the node is not installed in any of the environment's prefixes "
        f"({os.pathsep.join(prefixes) or 'AMENT_PREFIX_PATH is empty'}): run `make demo`, or "
        "`colcon build` and source install/setup.bash first"
    )


class Child:
    """A process in its own session, so that Ctrl-C reaches it only through the demo."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self) -> str:
        """The last part of the process's output."""
        return "\n".join(self._log.read_text(errors="replace").strip().splitlines()[-15:])

    def check_alive(self) -> None:
        """Raise DemoError, with the process's last lines, if it has ended."""
        status = self._process.poll()
        if status is not None:
            raise DemoError(f"the {self.name} ended with status {status}; it says:\n{self.log()}")

    def end(self) -> None:
        """Ask the process to end, and kill it if it does not."""
        for request in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            os.killpg(self._process.pid, request)
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                continue


class Processes:
    """The demo's processes, which end together; their logs are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def start(self, name: str, command: list[str]) -> Child:
        """Start a process that `end` will end."""
        child = Child(name, command, self._folder / f"{name}.log")
        self._children.append(child)
        return child

    def check_alive(self) -> None:
        """Raise DemoError if one of them has ended."""
        for child in self._children:
            child.check_alive()

    def end(self) -> None:
        """End all of them, the last started first; a second Ctrl-C does not stop this."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            while self._children:
                self._children.pop().end()
        finally:
            signal.signal(signal.SIGINT, before)
