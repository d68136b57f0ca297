# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' results as tables."""

from __future__ import annotations

from typing import Any

from key2mesh_core.evaluation.tables import markdown_table


def to_markdown(results: dict[str, Any]) -> str:
    """Every part that was run, as one Markdown text."""
    machine = results["machine"]
    parts = [
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        + ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    ]
    if machine["load_before"] > 0.5:
        parts.append(
            f"The machine was busy (load {machine['load_before']}): trust ratios, not times."
        )
    if "engine" in results:
        parts += ["## Engine", engine_table(results["engine"])]
    if "node" in results:
        parts += ["## Node over DDS", node_table(results["node"])]
    if "training" in results:
        parts += ["## Training step", *map(training_table, results["training"])]
    for name, reason in results["left_out"].items():
        parts.append(f"Left out: {name}: {reason}")
    return "\n\n".join(parts) + "\n"


def engine_table(rows: list[dict[str, Any]]) -> str:
    """Median times a call, and how many times as long as the engine each other takes."""
    others = [name for name in rows[0]["timings"] if name != "engine"]
    header = ("persons", "mesh", "engine ms", *(f"{n} ms" for n in others), *others)
    cells = [
        (
            str(row["batch"]),
            "yes" if row["mesh"] else "no",
            *(_ms(row["timings"][name]) for name in ("engine", *others)),
            *(_ratio(row["times_the_engine"][name]) for name in others),
        )
        for row in rows
    ]
    worst = max(row["largest_difference_mm"] for row in rows)
    return (
        markdown_table(header, cells)
        + f"\n\nMedians, and how many times the engine's. All give the same bodies: {worst:.2g} mm."
    )


def node_table(rows: list[dict[str, Any]]) -> str:
    """Latency from keypoints published to mesh received."""
    columns = {
        "persons": "people",
        "Hz": "rate_hz",
        "sent": "frames",
        "received": "meshes",
        "p50 ms": "latency_ms_p50",
        "p99 ms": "latency_ms_p99",
        "engine p50 ms": "engine_ms_p50",
        "p50 less engine ms": "overhead_ms_p50",
        "growth ms/s": "growth_ms_per_s",
    }
    cells = [tuple(f"{row[key]:g}" for key in columns.values()) for row in rows]
    return markdown_table(tuple(columns), cells)


def training_table(result: dict[str, Any]) -> str:
    """A step's parts against the bare network."""
    header = (f"batch of {result['batch_size']}, {result['precision']}", "ms", "ratio")
    ratios = result["times_the_bare_network"]
    cells = [
        (name, _ms(timing), _ratio(ratios[name])) for name, timing in result["timings"].items()
    ]
    step = result["step_over_network_and_adam"]
    return (
        markdown_table(header, cells)
        + f"\n\nA whole step takes {step:.2f}x the bare network's forward, backward and Adam."
    )


def _ms(timing: dict[str, Any]) -> str:
    return f"{timing['median_ms']:.2f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}x"
