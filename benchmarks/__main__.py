# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: measure the engine, the node and training; write benchmarks/out/."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import machine, report
from key2mesh_core.errors import Key2MeshError

Part = Literal["table1", "node", "training", "adaptation"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures the engine and other methods, the node over DDS, and training steps."""

    only: tuple[Part, ...] = ("table1", "node", "training", "adaptation")
    """Parts to run."""
    quick: bool = False
    """Seconds instead of minutes: checks that everything runs; the measurements are inaccurate."""
    model: str = "default"
    """Model bundle for the engine and the node."""
    body: str = "default"
    """The body file that the bundle was trained with."""
    threads: int = 2
    """CPU threads for every method."""
    output: Path = Path(__file__).parent / "out"
    """Folder for results.json, results.md and persons.png."""


def main(config: BenchmarkConfig) -> dict[str, Any]:
    """Run the requested parts; name a part that cannot run here, with the reason."""
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:5.0f} s  {line}", flush=True)

    results: dict[str, Any] = {"machine": machine.describe(), "left_out": {}}
    parts = {"table1": _table1, "node": _node, "training": _training, "adaptation": _adaptation}
    config.output.mkdir(parents=True, exist_ok=True)
    for name in config.only:
        say(f"measuring: {name}")
        try:
            results[name] = parts[name](config, say)
        # ImportError: ROS without its libraries (use tools/with-ros), or no smplx.
        except (ImportError, Key2MeshError) as error:
            results["left_out"][name] = str(error)
    (config.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    text = report.to_markdown(results)
    (config.output / "results.md").write_text(text)
    print(f"\n{text}\nwritten to {config.output}")
    return results


def _table1(config: BenchmarkConfig, say: Say) -> dict[str, Any]:
    from benchmarks import table1
    from key2mesh_core.body.files import load_body
    from key2mesh_core.model.bundle import load_bundle

    quick = {"sizes": (1, 8), "between": (2,), "budget_s": 4.0, "rounds": 1}
    found = table1.run(
        load_bundle(config.model),
        load_body(config.body),
        threads=config.threads,
        say=say,
        **(quick if config.quick else {}),
    )
    title = f"{config.threads} threads of {machine.describe()['processor']}"
    report.draw_chart(found["rows"], title, config.output / "persons.png")
    return found


def _node(config: BenchmarkConfig, say: Say) -> list[dict[str, Any]]:
    from benchmarks import node_latency

    return node_latency.run(config.model, seconds=3.0 if config.quick else 20.0)


def _training(config: BenchmarkConfig, say: Say) -> list[dict[str, Any]]:
    from benchmarks import floors, training_step

    budget = {"budget_s": 6.0, "rounds": 1} if config.quick else {"budget_s": 25.0, "rounds": 5}
    results = []
    for device in _devices():
        limits = floors.measure(config.threads, device)
        for precision in ("float32", "bfloat16"):
            say(f"pre-training, {precision}, {device}")
            how = {"precision": precision, "device": device, "limits": limits, **budget}
            results.append(training_step.run(config.body, threads=config.threads, **how))
    return results


def _adaptation(config: BenchmarkConfig, say: Say) -> list[dict[str, Any]]:
    from benchmarks import adaptation_step

    budget = {"budget_s": 3.0, "rounds": 1} if config.quick else {"budget_s": 15.0, "rounds": 3}
    results = []
    for device in _devices():
        for recipe in ("default", "paper"):
            for precision in ("float32", "bfloat16"):
                say(f"adaptation, {recipe}, {precision}, {device}")
                how = {"recipe": recipe, "precision": precision, "device": device, **budget}
                results.append(
                    adaptation_step.run(config.model, config.body, threads=config.threads, **how)
                )
    return results


def _devices() -> tuple[str, ...]:
    import torch

    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(BenchmarkConfig))
