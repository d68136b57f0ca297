# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.reliability PART...`: one part or several, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from benchmarks import machine

Part = Literal[
    "fuzz",
    "soak",
    "faults",
    "lifecycle",
    "publisher",
    "bag",
    "clock",
    "disk",
    "signals",
    "persons",
]
PARTS: tuple[Part, ...] = Part.__args__

SHIPPED = ("soak", "persons")
"""Parts about the node with the shipped model; the others are about what is around a model, and
take the tests' small one, whose numbers are known."""


@dataclass(frozen=True)
class ReliabilityConfig:
    """What the node bears: arbitrary messages, a million frames, failing engines, signals..."""

    parts: Positional[tuple[Part, ...]] = PARTS
    """Which to run."""
    scale: float = 1.0
    """Of the long forms' numbers: 0.01 shows that it runs."""
    minutes: float = 10.0
    """How long `persons` takes."""
    model: str = ""
    """A bundle for every part, instead of its own choice."""
    output: Path = Path(__file__).parents[1] / "out" / "reliability"
    """Folder for a JSON file of each part, and results.md."""
    docs: bool = False
    """Measure nothing: write the tables of `output` into docs/reliability.md."""
    alone: bool = False
    """Run the one part given in this process."""


def main(config: ReliabilityConfig) -> int:
    """Runs the parts asked for; 0 if all that was asked for was seen."""
    from benchmarks.reliability import report

    if config.docs:
        report.update(config.output)
        return 0
    config.output.mkdir(parents=True, exist_ok=True)
    if config.alone:
        (part,) = config.parts
        return _run(config, part)
    failed = False
    for part in config.parts:
        options = ["--scale", str(config.scale), "--minutes", str(config.minutes)]
        options += ["--output", str(config.output), "--alone"]
        options += ["--model", config.model] if config.model else []
        (config.output / f"{part}.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.reliability", part, *options]
        status = subprocess.run(command, env=os.environ | _quiet_corner()).returncode
        failed |= status != 0
        if not (config.output / f"{part}.json").exists():
            print(f"{part}: ended with status {status} and without a result", file=sys.stderr)
    results = report.load(config.output)
    text = f"{report.machine(results)}\n\n{report.table(results)}\n"
    (config.output / "results.md").write_text(text)
    print(f"\n{text}\nwritten to {config.output}")
    return int(failed)


def _quiet_corner() -> dict[str, str]:
    """Of the network, unless somebody has chosen one."""
    values = {
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(Path(tempfile.gettempdir()) / "key2mesh_reliability_logs"),
    }
    return {name: os.environ.get(name, value) for name, value in values.items()}


def _run(config: ReliabilityConfig, part: Part) -> int:
    import importlib

    import rclpy
    from helpers_bundle import make_bundle
    from rclpy.signals import SignalHandlerOptions

    begin, described = time.monotonic(), machine.describe()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {line}", flush=True)

    # A shell that runs this in the background has told it to ignore Ctrl-C; the programs that are
    # started and interrupted here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    work = importlib.import_module(f"benchmarks.reliability.{part}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        model = config.model or "default"
        if not config.model and part not in SHIPPED:
            model = str(make_bundle(folder / "small").path)
        outcome = work.run(model, folder, **_numbers(config, part, work), say=say)
    rclpy.try_shutdown()
    result = outcome.to_json() | {
        "machine": described,
        "scale": config.minutes / 10 if part == "persons" else config.scale,
        "seconds": round(time.monotonic() - begin),
    }
    (config.output / f"{part}.json").write_text(json.dumps(result, indent=2, default=float) + "\n")
    for failure in outcome.failures:
        print(f"{part}: NOT MET: {failure}", file=sys.stderr)
    say(f"{part}: {len(outcome.checks) - len(outcome.failures)} of {len(outcome.checks)} met")
    return int(bool(outcome.failures))


def _numbers(config: ReliabilityConfig, part: Part, work: Any) -> dict[str, float]:
    """The part's long form, scaled."""
    long = {
        "fuzz": {"count": "MESSAGES"},
        "soak": {"frames": "FRAMES", "warm_up": "WARM_UP"},
        "faults": {"calls": "CALLS"},
        "lifecycle": {"walks": "WALKS"},
        "publisher": {"restarts": "RESTARTS"},
        "bag": {"rounds": "ROUNDS"},
        "clock": {"jumps": "JUMPS"},
        "disk": {"limits": "LIMITS"},
        "signals": {"nodes": "NODES", "jobs": "JOBS"},
    }
    if part == "persons":
        return {"minutes": config.minutes}
    values = {name: getattr(work, constant) for name, constant in long[part].items()}
    return {name: max(2, round(value * config.scale)) for name, value in values.items()}


if __name__ == "__main__":
    import tyro

    sys.exit(main(tyro.cli(ReliabilityConfig)))
