# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM at any moment: while Python loads, while the node configures, while it works,
and in the midst of `key2mesh mesh`. All must be over within 2 s, and no file half-made.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from helpers_ros import client, node_process, people, standing

from benchmarks.reliability import recording
from benchmarks.reliability.checks import Outcome

NODES, JOBS = 200, 60
WITHIN_S = 2.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ORDERLY = {0, 130, -signal.SIGINT, -signal.SIGTERM}


def allowed_s() -> float:
    """2 s; in proportion more while others keep the processors busy."""
    return WITHIN_S * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def orderly(code: int | None, printed: str) -> bool:
    """Whether a process ended as one does that is told to.

    While Python itself starts, before any program's code, an interrupt makes it fail with 1.
    """
    return code in ORDERLY or (code == 1 and "Fatal Python error: init_import_site" in printed)


def run(
    model: str,
    folder: Path,
    nodes: int = NODES,
    jobs: int = JOBS,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Signals to `nodes` nodes and `jobs` commands, each at another moment."""
    result = Outcome()
    _signal_nodes(result, model, folder, nodes, say)
    _signal_jobs(result, model, folder, jobs, say)
    return result


def _signal_nodes(
    result: Outcome, model: str, folder: Path, count: int, say: Callable[[str], None]
) -> None:
    moments, codes = random.Random(0), Counter()
    slow, unclean, longest = [], [], 0.0
    with client() as probe:
        begin = time.monotonic()
        with node_process(folder / "first.log", model=model):
            probe.wait(lambda: _answered(probe), "the first mesh")
            until_active = time.monotonic() - begin
        for number in range(count):
            chosen = SIGNALS[number % 2]
            # Evenly over the start and a while of work behind it.
            delay = 1.3 * until_active * (number + moments.random()) / count
            with node_process(folder / f"{number}.log", model=model) as process:
                end = time.monotonic() + delay
                while time.monotonic() < end:
                    probe.keypoints.publish(people(standing()))
                    probe.spin(min(0.02, max(0.0, end - time.monotonic())))
                limit = allowed_s()
                try:
                    code, seconds = process.end(chosen)
                except subprocess.TimeoutExpired:
                    code, seconds = None, float("inf")
                where = f"{chosen.name} {delay:.2f} s behind the start of {until_active:.2f} s"
                longest = max(longest, seconds)
                codes[code] += 1
                if seconds > limit:
                    slow.append(f"{where}: {seconds:.1f} s")
                # Python itself prints where an import was interrupted.
                if not orderly(code, process.log) or (code == 0 and "Traceback" in process.log):
                    unclean.append(f"{where}: exit status {code}: {process.log[-600:]}")
            if number % 20 == 19:
                say(f"signals: {number + 1} nodes")
    result.check(
        f"{count} nodes end within {WITHIN_S:g} s of a signal",
        f"the slowest in {longest:.2f} s{'; ' + slow[0] if slow else ''}",
        not slow,
    )
    result.none("node that ends in disorder", unclean)
    result.figures["node_exit_statuses"] = {str(code): number for code, number in codes.items()}
    result.figures["seconds_until_first_mesh"] = round(until_active, 2)


def _answered(probe: object) -> bool:
    probe.keypoints.publish(people(standing()))
    probe.spin(0.02)
    return bool(probe.meshes)


def _signal_jobs(
    result: Outcome, model: str, folder: Path, count: int, say: Callable[[str], None]
) -> None:
    moments, codes = random.Random(1), Counter()
    source, whole = recording.make_source(folder), folder / "whole"
    begin = time.monotonic()
    recording.start(source, whole, model).communicate()
    seconds_needed = time.monotonic() - begin
    expected = recording.content(whole)
    slow, unclean, differing, longest = [], [], [], 0.0
    for number in range(count):
        chosen, target = SIGNALS[number % 2], folder / f"signalled_{number}"
        process = recording.start(source, target, model)
        delay = seconds_needed * (number + moments.random()) / count
        time.sleep(delay)
        limit, begin = allowed_s(), time.monotonic()
        process.send_signal(chosen)
        _, error = process.communicate(timeout=60)
        seconds = time.monotonic() - begin
        longest = max(longest, seconds)
        codes[process.returncode] += 1
        where = f"{chosen.name} after {delay:.2f} of {seconds_needed:.2f} s"
        if seconds > limit:
            slow.append(f"{where}: {seconds:.1f} s")
        if not orderly(process.returncode, error):
            unclean.append(f"{where}: exit status {process.returncode}: {error[-300:]}")
        if not target.exists():  # whatever there is now must not keep the command from going on
            _, error = recording.start(source, target, model).communicate()
        if not target.exists() or recording.content(target) != expected:
            differing.append(f"{where}: {error[-300:]}")
        shutil.rmtree(target, ignore_errors=True)
        if number % 20 == 19:
            say(f"signals: {number + 1} commands")
    result.check(
        f"{count} commands end within {WITHIN_S:g} s of a signal",
        f"the slowest in {longest:.2f} s{'; ' + slow[0] if slow else ''}",
        not slow,
    )
    result.none("command that ends in disorder", unclean)
    result.none("bag unlike the undisturbed one when the command goes on", differing)
    result.figures["command_exit_statuses"] = {str(code): n for code, n in codes.items()}
    result.figures["command_seconds"] = round(seconds_needed, 2)
