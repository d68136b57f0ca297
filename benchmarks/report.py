# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' results as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.goals import goals
from benchmarks.names import ENGINE, FLOAT32, PUBLISHED, TORCH
from key2mesh_core.evaluation.tables import markdown_table

Results = dict[str, Any]
Row = dict[str, Any]


def to_markdown(results: Results) -> str:
    """Every part that was run, as one Markdown text; how far from the floor comes last."""
    titles = {
        "machine": None,
        "table1": "Who finds a body, and how fast",
        "persons": "More persons",
        "node": "The node over DDS",
        "training": "Training",
        "adaptation": "Adaptation",
        "goals": "What was asked for",
        "floors": "How far from the floor",
    }
    parts = []
    for name, text in sections(results).items():
        parts += [f"## {titles[name]}"] * (titles[name] is not None) + [text]
    for name, reason in results["left_out"].items():
        parts.append(f"Left out: {name}: {reason}")
    return "\n\n".join(parts) + "\n"


def sections(results: Results) -> dict[str, str]:
    """The text of each part that was run, by its name."""
    found = {"machine": machine_line(results["machine"])}
    if "table1" in results:
        found["table1"] = table1(results["table1"])
        found["persons"] = persons_table(results["table1"]["rows"])
    if "node" in results:
        found["node"] = node_table(results["node"])
    for name in ("training", "adaptation"):
        if name in results:
            found[name] = "\n\n".join(map(training_table, results[name]))
    asked = goals(results)
    if asked:
        header = ("asked", "seen", "met")
        found["goals"] = markdown_table(
            header, [(g.asked, g.seen, "yes" if g.met else "NO") for g in asked]
        )
    if rows := list(_floors(results)):
        header = ("figure", "ms", "floor ms", "times the floor", "the floor is")
        found["floors"] = markdown_table(header, rows)
    return found


def machine_line(machine: Results) -> str:
    """What it ran on, with a warning if that was busy."""
    text = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
    text += ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    if machine["load_before"] > 0.5:
        text += (
            f".\n\nThe machine was busy (load {machine['load_before']}): trust ratios, not times."
        )
    return text


def table1(result: Results) -> str:
    """A row for each contestant: median time, per person, against the engine and the floor."""
    rows, apart = result["rows"], result["difference_mm"]
    sizes = _sizes(rows, everybody=True)
    header = ["", "body"]
    for size in sizes:
        header += [f"{size}: ms"] + ["ms each"] * (size > 1) + ["engine", "floor"]
    header += ["mm mean", "mm largest"]
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
    note = (
        f"Medians for {' and '.join(map(str, sizes))} persons in a call; how many times the "
        "engine's, and how many times the floor; how far vertices lie from PyTorch's."
    )
    return f"{markdown_table(header, cells)}\n\n{note}"


def persons_table(rows: list[Row]) -> str:
    """A row for each number of persons, a column for each contestant on the plot."""
    columns = [
        (name, mesh)
        for name, mesh in dict.fromkeys((row["name"], row["mesh"]) for row in rows)
        if name in (ENGINE, FLOAT32, TORCH, PUBLISHED)
    ]
    header = ("persons", *(n if mesh else f"{n}, joints only" for n, mesh in columns), "floor")
    cells = []
    for size in _sizes(rows):
        found = [_row(rows, name, mesh, size) for name, mesh in columns]
        floor = _row(rows, ENGINE, True, size)["floor_ms"]
        cells.append((str(size), *("-" if r is None else _ms(r) for r in found), f"{floor:.2f}"))
    return (
        f"{markdown_table(header, cells)}\n\nMedians in ms; the floor is the engine's, with mesh."
    )


def node_table(rows: list[Row]) -> str:
    """Latency from keypoints published to mesh received, at a camera's rate and without pauses."""
    columns = {
        "persons": "people",
        "Hz": "rate_hz",
        "sent": "frames",
        "received": "meshes",
        "p50 ms": "latency_ms_p50",
        "p99 ms": "latency_ms_p99",
        "engine p50 ms": "engine_ms_p50",
        "p50 less engine ms": "overhead_ms_p50",
        "no-op p50 ms": "noop_node_ms_p50",
        "growth ms/s": "growth_ms_per_s",
    }
    hurried = {
        "persons": "people",
        "without pauses: p50 ms": "node_ms_p50",
        "engine p50 ms": "engine_ms_p50",
        "p50 less engine ms": "overhead_ms_p50",
        "no-op p50 ms": "noop_node_ms_p50",
    }
    tables = ((columns, rows), (hurried, [row | row["back_to_back"] for row in rows]))
    return "\n\n".join(
        markdown_table(
            tuple(names), [tuple(f"{row[key]:g}" for key in names.values()) for row in each]
        )
        for names, each in tables
    )


def training_table(result: Results) -> str:
    """A step's parts against the bare network."""
    where = "" if result["device"] == "cpu" else f", {result['device']}"
    title = f"{result['what']}, batch of {result['batch_size']}, {result['precision']}{where}"
    header = (title, "ms", "ratio", "samples/s")
    ratios, speeds = result["times_the_bare_network"], result["samples_per_s"]
    cells = [
        (name, f"{timing['median_ms']:.2f}", _ratio(ratios[name]), f"{speeds[name]:.0f}")
        for name, timing in result["timings"].items()
    ]
    step = result["step_over_network_and_adam"]
    text = (
        f"{markdown_table(header, cells)}\n\n"
        f"A whole step takes {step:.2f}x the time of the networks' passes and Adam alone."
    )
    if result["busy"] is not None:
        text += f" The GPU is busy {100 * result['busy']:.0f} % of it."
    return text


def _floors(results: Results) -> Iterator[tuple[str, ...]]:
    """Everything that was measured and has a floor."""
    rows = results.get("table1", {}).get("rows", [])
    for row in rows:
        if row["floor_ms"] is not None and row["persons"] in _sizes(rows, everybody=True):
            persons = "1 person" if row["persons"] == 1 else f"{row['persons']} persons"
            figure = f"{row['name']}, {persons}, {'mesh' if row['mesh'] else 'joints'}"
            yield _against(
                figure, row["timing"]["median_ms"], row["floor_ms"], "memory or arithmetic"
            )
    for row in results.get("node", []):
        figure = f"node, {row['people']} at {row['rate_hz']:g} Hz, p50"
        yield _against(figure, row["latency_ms_p50"], row["engine_ms_p50"], "the engine alone")
    for result in (*results.get("training", []), *results.get("adaptation", [])):
        precision, timings = result["precision"], result["timings"]
        bare = timings[result["bare"]]["median_ms"]
        name = f"{result['what']}, {precision}" + (
            "" if result["device"] == "cpu" else f", {result['device']}"
        )
        step = timings[result["step"]]["median_ms"]
        yield _against(f"{name}, step", step, bare, "the bare networks and Adam")
        if result["bare_floor_ms"] is not None:
            floor = result["bare_floor_ms"]
            yield _against(f"{name}, the bare networks", bare, floor, "memory and arithmetic")


def _against(figure: str, found: float, floor: float, what: str) -> tuple[str, ...]:
    return figure, f"{found:.2f}", f"{floor:.2f}", _ratio(found / floor), what


def _sizes(rows: list[Row], everybody: bool = False) -> list[int]:
    """Numbers of persons; only those at which everybody was measured."""
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
