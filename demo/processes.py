# SPDX-License-Identifier: Apache-2.0
"""Starts the demo's processes, listens to them, and ends every one of them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from key2mesh_core.errors import Key2MeshError

PATIENCE_S = 5.0
"""How long a process may take to end when asked to [s]."""


class DemoError(Key2MeshError):
    """The demo cannot go on."""


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
    """One process, in a session of its own so that Ctrl-C reaches it through us only."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line.decode(errors="replace").strip())
        self._lines.put(None)

    def log(self) -> str:
        """The end of what the process wrote to its standard error."""
        return "\n".join(self._log.read_text(errors="replace").strip().splitlines()[-15:])

    def check_alive(self) -> None:
        """Raises DemoError, with the process's last words, if it has failed."""
        status = self.process.poll()
        if status not in (None, 0):
            raise DemoError(f"the {self.name} ended with status {status}; it says:\n{self.log()}")

    def read_line(self, timeout: float) -> str:
        """The next line of its standard output; DemoError if none comes in time."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            line = None
        if line is None:
            self.check_alive()
            raise DemoError(f"the {self.name} said nothing for {timeout:g} s:\n{self.log()}")
        return line

    def poll_event(self, timeout: float) -> dict[str, Any] | None:
        """The next JSON object it tells, or None if none comes in time.

        Raises:
            DemoError: the process has failed, or tells of an error.
        """
        try:
            line = self._lines.get(timeout=timeout) if timeout > 0 else self._lines.get_nowait()
        except queue.Empty:
            line = None
        if line is None:
            self.check_alive()
            return None
        if not line.startswith("{"):
            return None  # something else that a library prints
        event = json.loads(line)
        if "error" in event:
            raise DemoError(f"the {self.name}: {event['error']}")
        return event

    def is_silent(self) -> bool:
        """Whether it has told nothing that is still to be heard."""
        return self._lines.empty()

    def events(self, timeout: float, also_alive: Child) -> Iterator[dict[str, Any]]:
        """The events that come within `timeout` [s], while another process lives, too."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            event = self.poll_event(0.1)
            also_alive.check_alive()
            if event is not None:
                yield event

    def go_on(self) -> None:
        """Tells it, by a line on its standard input, to go on."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        """Closes its standard input, which is a request to finish its work, and waits."""
        self.process.stdin.close()
        try:
            self.process.wait(30.0)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the {self.name} did not finish:\n{self.log()}") from None
        self.check_alive()

    def end(self) -> None:
        """Asks it to end, insists if it does not."""
        for request in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is not None:
                break
            os.killpg(self.process.pid, request)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                continue
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self._reader.join(PATIENCE_S)
        self.process.stdout.close()


class Processes:
    """All of them, to be ended together; their logs are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def start(self, name: str, command: list[str]) -> Child:
        """Starts a process and remembers to end it."""
        child = Child(name, command, self._folder / f"{name}.log")
        self._children.append(child)
        return child

    def wait(self) -> None:
        """Until one of them fails (DemoError) or Ctrl-C."""
        while True:
            for child in self._children:
                child.check_alive()
            time.sleep(0.2)

    def end(self) -> None:
        """Ends all of them, the last started first; a second Ctrl-C does not stop this."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            while self._children:
                self._children.pop().end()
        finally:
            signal.signal(signal.SIGINT, before)
