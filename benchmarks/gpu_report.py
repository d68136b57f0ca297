# SPDX-License-Identifier: Apache-2.0
"""The results of `benchmarks.gpu` as tables."""

from __future__ import annotations

from typing import Any

from key2mesh_core.evaluation.report import markdown_table


def to_markdown(results: dict[str, Any]) -> str:
    """One Markdown text; parts without results are left out, with the reasons at the end."""
    described = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in described["packages"].items())
    parts = [
        f"# {results['gpu']}, {results['library']}",
        f"{described['processor']}, {described['cores']} cores, Python {described['python']}, "
        f"{packages}; PyTorch's CUDA: {described['torch_cuda'] or 'none'}.",
    ]
    if results["built"]:
        parts += ["## Building", _built(results["built"])]
    if results["parity"]:
        parts += ["## Distance of vertices from PyTorch's", _parity(results["parity"])]
    if results["latency"]:
        parts += ["## Latency, from arrays of the host to arrays of the host"]
        for mesh, title in ((True, "With mesh"), (False, "Joints only")):
            rows = [row for row in results["latency"] if row["mesh"] is mesh]
            if rows:
                parts += [f"### {title}", _latency(rows)]
    for result in results["training"]:
        parts += [f"## Training step, {result['precision']}", _training(result)]
    if results["left_out"]:
        parts.append("## Not run")
        parts.append("\n".join(f"- {name}: {why}" for name, why in results["left_out"].items()))
    return "\n\n".join(parts) + "\n"


def _built(rows: list[dict[str, Any]]) -> str:
    cells = [
        (row["graph"], row["precision"], f"{row['seconds']:.1f}", f"{row['megabytes']:.1f}")
        for row in rows
    ]
    return markdown_table(("graph", "precision", "seconds", "MB"), cells)


def _parity(rows: list[dict[str, Any]]) -> str:
    cells = [
        (
            row["contestant"],
            str(row["batch"]),
            f"{row['largest_mm']:.4f}",
            f"{row['mean_mm']:.4f}",
            f"{row['allowed_mm']:g}",
            "yes" if row["largest_mm"] <= row["allowed_mm"] else "NO",
        )
        for row in rows
    ]
    header = ("", "persons", "largest mm", "mean mm", "allowed mm", "within")
    return (
        markdown_table(header, cells)
        + "\n\nPyTorch on the CPU in 32-bit floats; each body relative to its own middle."
    )


def _latency(rows: list[dict[str, Any]]) -> str:
    keys = ("p50_ms", "p90_ms", "p99_ms", "fastest_ms")
    cells = [
        (
            row["contestant"],
            str(row["batch"]),
            *(f"{row[key]:.3f}" for key in keys),
            f"{1e3 * row['p50_ms'] / row['batch']:.1f}",
            str(row["calls"]),
        )
        for row in rows
    ]
    header = ("", "persons", "p50 ms", "p90 ms", "p99 ms", "fastest ms", "µs a person", "calls")
    return markdown_table(header, cells)


def _training(result: dict[str, Any]) -> str:
    cells = [
        (name, f"{timing['median_ms']:.2f}", f"{result['times_the_bare_network'][name]:.2f}")
        for name, timing in result["timings"].items()
    ]
    busy = result.get("busy")
    text = markdown_table((f"batch of {result['batch_size']}", "ms", "times the network"), cells)
    return text + ("" if busy is None else f"\n\nThe GPU is busy {100 * busy:.0f} % of a step.")
