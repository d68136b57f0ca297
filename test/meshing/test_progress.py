# SPDX-License-Identifier: Apache-2.0
"""Progress: one line on a terminal, nothing elsewhere."""

from __future__ import annotations

import io

from key2mesh_core.meshing import progress
from key2mesh_core.meshing.progress import Progress

# Progress.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(progress, "PERIOD_S", 0.0)
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        line = Progress(100, earlier={"images": 50}, stream=stream)
        line.add(25, 3)
        line.end()
    assert "[###############     ] 75 of 100 frames" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()
    assert log.getvalue() == ""
