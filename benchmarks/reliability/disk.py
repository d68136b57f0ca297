# SPDX-License-Identifier: Apache-2.0
"""A disk that is full: while a bag is written, and under a running node's log.

Stood in for by a limit to the size of files, which a process without privileges can have: what
goes beyond fails as on a full disk.
"""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from helpers_ros import people, standing

from benchmarks.reliability import recording
from benchmarks.reliability.checks import Outcome
from benchmarks.reliability.link import link, ready

LIMITS = 20
SMALLEST = 100  # bytes


def run(
    model: str, folder: Path, limits: int = LIMITS, say: Callable[[str], None] = print
) -> Outcome:
    """A bag under each of `limits` sizes of a disk, then the node."""
    result = Outcome()
    _write_bags(result, model, folder, limits, say)
    _run_node(result, model, folder)
    return result


def _write_bags(
    result: Outcome, model: str, folder: Path, limits: int, say: Callable[[str], None]
) -> None:
    source, whole = recording.make_source(folder), folder / "whole"
    _, error = recording.start(source, whole, model).communicate()
    expected = recording.content(whole) if whole.exists() else []
    result.check("an undisturbed bag", f"{len(expected):,} messages {error[-200:]}", expected)
    largest = max((path.stat().st_size for path in whole.rglob("*")), default=SMALLEST + 1)
    unexplained, half_made, differing = [], [], []
    for number, size in enumerate(np.geomspace(SMALLEST, 0.95 * largest, limits).astype(int)):
        target = folder / f"bag_{number}"
        process = recording.start(source, target, model, int(size))
        _, error = process.communicate()
        if process.returncode != 2 or "no room" not in error or "Traceback" in error:
            unexplained.append(f"at {size} bytes: exit status {process.returncode}: {error[-300:]}")
        if target.exists():
            half_made.append(f"at {size} bytes")
            shutil.rmtree(target)
        process = recording.start(source, target, model)
        _, error = process.communicate()
        if process.returncode != 0 or recording.content(target) != expected:
            differing.append(f"at {size} bytes: exit status {process.returncode}: {error[-300:]}")
        shutil.rmtree(target, ignore_errors=True)
        say(f"disk: full at {size} bytes")
    result.none(f"full disk of {limits} that is not explained", unexplained)
    result.none("half-made bag under the name of a whole one", half_made)
    result.none("bag unlike the undisturbed one when there is room again", differing)


def _run_node(result: Outcome, model: str, folder: Path, frames: int = 50) -> None:
    """Its log cannot grow any more: it must work on, and say in the diagnostics what it would."""
    with link(model, folder) as node:
        keypoints = ready(node)
        size = node.resident_bytes()
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        for number in range(frames):
            node.send(keypoints, people(standing(), layout=f"unknown_{number}"))
        bodies = [len(node.exchange(keypoints, people(standing())).bodies) for _ in range(frames)]
        refused = int(node.fresh_values().get("refused.unknown_layout", 0))
        lives, grown = node.running(), (node.resident_bytes() - size) / 2**20
    seen = f"{sum(bodies)} frames answered, {refused} bad ones refused and counted"
    result.check("a node that cannot write its log works on", seen, lives and all(bodies))
    result.check("its refusals are counted all the same", refused, refused >= frames - 5)
    result.figures["node_grown_mib"] = round(grown, 2)
