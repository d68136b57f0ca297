# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: run the benchmarks, print tables, write benchmarks/out/."""

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


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures the engine against other ways to find a body, the node over DDS, and training."""

    only: tuple[Part, ...] = ("table1", "node", "training", "adaptation")
    """Which parts to run."""
    quick: bool = False
    """Seconds instead of minutes: shows that it runs, measures nothing well."""
    model: str = "default"
    """The bundle: the engine's and the node's."""
    body: str = "default"
    """The body file that the bundle was made with."""
    threads: int = 2
    """CPU threads of every contestant."""
    output: Path = Path(__file__).parent / "out"
    """Folder for results.json, results.md and persons.png."""
    docs: bool = False
    """Measure nothing: write the tables and the plot of `output` into docs/performance.md."""


def main(config: BenchmarkConfig) -> dict[str, Any]:
    """Runs the parts asked for; what cannot run here is named with its reason."""
    if config.docs:
        from benchmarks import docs

        return docs.update(config.output)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:5.0f} s  {line}", flush=True)

    results: dict[str, Any] = {"machine": machine.describe(), "left_out": {}}
    parts: dict[str, Callable[[BenchmarkConfig, Callable[[str], None]], Any]] = {
        "table1": _table1,
        "node": _node,
        "training": _training,
        "adaptation": _adaptation,
    }
    config.output.mkdir(parents=True, exist_ok=True)
    for name in config.only:
        say(f"measuring: {name}")
        try:
            results[name] = parts[name](config, say)
        # ImportError: ROS is there but not its libraries (start it by tools/with-ros).
        except (ImportError, Key2MeshError) as error:
            results["left_out"][name] = str(error)
    results["seconds"] = round(time.monotonic() - started)
    (config.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (config.output / "results.md").write_text(report.to_markdown(results))
    print("\n" + report.to_markdown(results))
    print(f"written to {config.output}, after {results['seconds']} s")
    return results


def _table1(config: BenchmarkConfig, say: Callable[[str], None]) -> dict[str, Any]:
    from benchmarks import plot, table1
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
    title = f"Time of a call, {config.threads} threads of {machine.describe()['processor']}"
    plot.draw(title, plot.curves(found["rows"])).save(config.output / "persons.png")
    return found


def _node(config: BenchmarkConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    from benchmarks import node_latency

    return node_latency.run(config.model, seconds=3.0 if config.quick else 20.0)["node_latency"]


def _training(config: BenchmarkConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    from benchmarks import floors, training_step

    results = []
    for device in _devices():
        limits = floors.measure(config.threads, device)
        for precision in ("float32", "bfloat16"):
            say(f"pre-training, {precision}, {device}")
            results.append(
                training_step.run(
                    config.body,
                    threads=config.threads,
                    precision=precision,
                    device=device,
                    limits=limits,
                    budget_s=6.0 if config.quick else 25.0,
                    rounds=1 if config.quick else 5,
                )
            )
    return results


def _adaptation(config: BenchmarkConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    from benchmarks import adaptation_step

    results = []
    for device in _devices():
        for recipe in ("default", "paper"):
            for precision in ("float32", "bfloat16"):
                say(f"adaptation, {recipe}, {precision}, {device}")
                results.append(
                    adaptation_step.run(
                        config.model,
                        config.body,
                        recipe=recipe,
                        threads=config.threads,
                        precision=precision,
                        device=device,
                        budget_s=3.0 if config.quick else 15.0,
                        rounds=1 if config.quick else 3,
                    )
                )
    return results


def _devices() -> tuple[str, ...]:
    import torch

    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(BenchmarkConfig))
