# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: run the benchmarks, print tables, write benchmarks/out/."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import machine, report
from key2mesh_core.errors import Key2MeshError

Part = Literal["engine", "node", "training"]


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measures the engine against PyTorch and smplx, the node over DDS, and a training step."""

    only: tuple[Part, ...] = ("engine", "node", "training")
    """Which parts to run."""
    quick: bool = False
    """Seconds instead of minutes; noisier."""
    model: str = "default"
    """The bundle that the node runs. The engine part makes its own, with random weights."""
    body: str = "default"
    """The body file for the engine part and the training step."""
    threads: int = 2
    """CPU threads of every contestant."""
    output: Path = Path(__file__).parent / "out"
    """Folder for results.json and results.md."""


def main(config: BenchmarkConfig) -> dict[str, Any]:
    """Runs the parts asked for; what cannot run here is named with its reason."""
    results: dict[str, Any] = {"machine": machine.describe(), "left_out": {}}
    parts: dict[str, Callable[[BenchmarkConfig], Any]] = {
        "engine": _engine,
        "node": _node,
        "training": _training,
    }
    for name in config.only:
        print(f"measuring: {name}", flush=True)
        try:
            results[name] = parts[name](config)
        # ImportError: ROS is there but not its libraries (start it by tools/with-ros).
        except (ImportError, Key2MeshError) as error:
            results["left_out"][name] = str(error)
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (config.output / "results.md").write_text(report.to_markdown(results))
    print("\n" + report.to_markdown(results))
    print(f"written to {config.output}")
    return results


def _engine(config: BenchmarkConfig) -> list[dict[str, Any]]:
    from benchmarks import engine
    from key2mesh_core.body.files import load_body

    return engine.run(
        load_body(config.body), threads=config.threads, budget_s=3.0 if config.quick else 12.0
    )


def _node(config: BenchmarkConfig) -> list[dict[str, Any]]:
    from benchmarks import node_latency

    return node_latency.run(config.model, seconds=3.0 if config.quick else 20.0)["node_latency"]


def _training(config: BenchmarkConfig) -> list[dict[str, Any]]:
    from benchmarks import training_step

    return [
        training_step.run(
            config.body,
            threads=config.threads,
            precision=precision,
            budget_s=8.0 if config.quick else 40.0,
        )
        for precision in ("float32", "bfloat16")
    ]


if __name__ == "__main__":
    import tyro

    main(tyro.cli(BenchmarkConfig))
