# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' results as tables, and the runtime comparison as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.names import ENGINE, ENGINE_PUBLISHED, FLOAT32, PUBLISHED, TORCH
from key2mesh_core.evaluation.report import markdown_table

Results = dict[str, Any]
Row = dict[str, Any]


def to_markdown(results: Results) -> str:
    """Every part that was run, as one Markdown text."""
    parts = [machine_line(results["machine"])]
    if "table1" in results:
        parts += ["## Runtime by method", table1(results["table1"])]
        parts += ["## Runtime by number of persons", persons_table(results["table1"]["rows"])]
    if "node" in results:
        parts += ["## The node over DDS", node_table(results["node"])]
    for name, title in (("training", "Pre-training"), ("adaptation", "Adaptation")):
        if name in results:
            parts += [f"## {title}", *map(training_table, results[name])]
    parts += [f"Not measured: {name}: {why}" for name, why in results["left_out"].items()]
    return "\n\n".join(parts) + "\n"


def machine_line(machine: Results) -> str:
    """What it ran on, with a warning if that machine was busy."""
    text = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
    text += ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    if machine["load_before"] > 0.5:
        text += (
            f".\n\nThe machine was busy (load {machine['load_before']}): trust ratios, not times."
        )
    return text


def table1(result: Results) -> str:
    """A row for each method: median time, per person, against the engine and the floor."""
    rows, apart = result["rows"], result["difference_mm"]
    sizes = _sizes(rows, everybody=True)
    header = ["", "output"]
    for size in sizes:
        header += [f"{size}: ms"] + ["ms each"] * (size > 1) + ["/ engine", "/ floor"]
    header += ["mean mm", "largest mm"]
    cells = []
    for name, mesh in dict.fromkeys((row["name"], row["mesh"]) for row in rows):
        line = [name, "mesh" if mesh else "joints"]
        for size in sizes:
            row = _row(rows, name, mesh, size)
            if row is None:
                line += ["-"] * (3 + (size > 1))
                continue
            line.append(_ms(row))
            line += [f"{row['timing']['median_ms'] / size:.3f}"] * (size > 1)
            line += [_ratio(row["times_the_engine"]), _ratio(row["times_the_floor"])]
        found = apart.get(name) if mesh else None
        line += ["-", "-"] if found is None else [f"{found['mean']:.3f}", f"{found['largest']:.3f}"]
        cells.append(tuple(line))
    return (
        f"{markdown_table(header, cells)}\n\n"
        f"Median time of a call with {' and '.join(map(str, sizes))} persons; its ratio to the "
        "engine's time and to the floor; distance of the vertices from PyTorch's."
    )


def persons_table(rows: list[Row]) -> str:
    """A row for each number of persons, a column for each method of the chart."""
    columns = _charted(rows)
    header = ("persons", *(_label(*column) for column in columns), "floor")
    cells = []
    for size in _sizes(rows):
        found = [_row(rows, name, mesh, size) for name, mesh in columns]
        floor = _row(rows, ENGINE, True, size)["floor_ms"]
        cells.append((str(size), *("-" if r is None else _ms(r) for r in found), f"{floor:.2f}"))
    return f"{markdown_table(header, cells)}\n\nMedians in ms; floor of the engine with mesh."


def node_table(rows: list[Row]) -> str:
    """Latency from keypoints published to meshes received, at a camera's rate and back to back."""
    columns = {
        "persons": "people",
        "Hz": "rate_hz",
        "sent": "frames",
        "received": "meshes",
        "p50 ms": "latency_ms_p50",
        "p99 ms": "latency_ms_p99",
        "engine p50 ms": "engine_ms_p50",
        "p50 - engine ms": "overhead_ms_p50",
        "back to back: p50 ms": "back_to_back_ms_p50",
        "engine p50 ms ": "back_to_back_engine_ms_p50",
    }
    return markdown_table(
        tuple(columns), [tuple(f"{row[key]:g}" for key in columns.values()) for row in rows]
    )


def training_table(result: Results) -> str:
    """A step's parts against the bare network."""
    where = "" if result["device"] == "cpu" else f", {result['device']}"
    title = f"{result['what']}, batch of {result['batch_size']}, {result['precision']}{where}"
    bare = result["timings"][result["bare"]]["median_ms"]
    cells = [
        (
            name,
            f"{timing['median_ms']:.2f}",
            _ratio(timing["median_ms"] / bare),
            f"{1e3 * result['batch_size'] / timing['median_ms']:.0f}",
        )
        for name, timing in result["timings"].items()
    ]
    text = markdown_table((title, "ms", "ratio", "samples/s"), cells)
    if result["bare_floor_ms"] is not None:
        text += f"\n\nFloor of '{result['bare']}': {result['bare_floor_ms']:.2f} ms."
    if result["busy"] is not None:
        text += f"\n\nThe GPU is busy {100 * result['busy']:.0f} % of a whole step."
    return text


def spread(values: Sequence[float]) -> str:
    """Mean over the seeds and half of their range; "-" if one was not measured."""
    numbers = np.asarray(values, float)
    if np.isnan(numbers).any():
        return "-"
    if len(numbers) < 2:
        return f"{numbers.mean():.1f}"
    return f"{numbers.mean():.1f} ± {np.ptp(numbers) / 2:.1f}"


def draw_chart(rows: list[Row], title: str, path: Path) -> None:
    """Write a chart of time against the number of persons, both on logarithmic scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    for name, mesh in dict.fromkeys((row["name"], row["mesh"]) for row in rows):
        points = [
            (row["persons"], row["timing"]["median_ms"])
            for row in rows
            if (row["name"], row["mesh"]) == (name, mesh)
        ]
        if mesh or name == ENGINE:
            axes.plot(*zip(*points, strict=True), marker="o", label=_label(name, mesh))
    floor = [(r["persons"], r["floor_ms"]) for r in rows if r["name"] == ENGINE and r["mesh"]]
    axes.plot(*zip(*floor, strict=True), "--", color="grey", label="floor of the engine")
    axes.set(title=title, xlabel="persons in a call", ylabel="time of a call [ms]")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _charted(rows: list[Row]) -> list[tuple[str, bool]]:
    found = dict.fromkeys((row["name"], row["mesh"]) for row in rows)
    return [
        each for each in found if each[0] in (ENGINE, ENGINE_PUBLISHED, FLOAT32, TORCH, PUBLISHED)
    ]


def _label(name: str, mesh: bool) -> str:
    return name if mesh else f"{name}, joints only"


def _sizes(rows: list[Row], everybody: bool = False) -> list[int]:
    """Numbers of persons; with `everybody` only those at which every method was measured."""
    counts: dict[int, int] = {}
    for row in rows:
        counts[row["persons"]] = counts.get(row["persons"], 0) + 1
    most = max(counts.values(), default=0)
    return [size for size, count in counts.items() if not everybody or count == most]


def _row(rows: list[Row], name: str, mesh: bool, persons: int) -> Row | None:
    wanted = (name, mesh, persons)
    return next((r for r in rows if (r["name"], r["mesh"], r["persons"]) == wanted), None)


def _ms(row: Row) -> str:
    return f"{row['timing']['median_ms']:.2f}"


def _ratio(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}x" if value < 100 else f"{value:.0f}x"
