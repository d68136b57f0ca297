# SPDX-License-Identifier: Apache-2.0
"""What was asked for and what was seen, as one table; put into docs/reliability.md on demand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.report import machine_line
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.evaluation.tables import markdown_table

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_MARKED = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def load(output: Path) -> dict[str, Any]:
    """The newest results of each part that was ever run, by its name.

    Raises:
        Key2MeshError: none was.
    """
    found = {path.stem: json.loads(path.read_text()) for path in sorted(output.glob("*.json"))}
    if not found:
        raise Key2MeshError(f"{output}: no results; run `make bench-reliability` first")
    return found


def table(results: dict[str, Any]) -> str:
    """A row for each thing that was asked of each part."""
    rows = []
    for name, result in results.items():
        scale = result["scale"]
        part = name if scale == 1 else f"{name} ({scale:g} of its length)"
        for each in result["checks"]:
            seen = " ".join(each["seen"].split()).replace("|", "/")[:300]
            rows.append((part, each["asked"], seen, "yes" if each["met"] else "NO"))
    return markdown_table(("part", "asked", "seen", "met"), rows)


def machine(results: dict[str, Any]) -> str:
    """What it ran on, and how busy that was; each part may have run another day."""
    parts: dict[str, list[str]] = {}
    for name, result in results.items():
        described = result["machine"]
        line = machine_line(described | {"load_before": 0.0})
        parts.setdefault(line, []).append(f"{name} {described['load_before']:.1f}")
    return "\n\n".join(
        f"{line}.\nLoad when a part began: {', '.join(names)}." for line, names in parts.items()
    )


def update(output: Path, page: Path = PAGE) -> None:
    """Puts table and machine where the page marks their places.

    Raises:
        Key2MeshError: nothing was measured yet, or the page has no place for a part.
    """
    results = load(output)
    texts = {"machine": machine(results), "checks": table(results)}
    text = page.read_text()
    missing = set(texts) - {match[2] for match in _MARKED.finditer(text)}
    if missing:
        raise Key2MeshError(f"{page} has no place for {sorted(missing)}")
    page.write_text(
        _MARKED.sub(lambda m: f"{m[1]}\n{texts[m[2]]}\n\n{m[3]}" if m[2] in texts else m[0], text)
    )
    print(f"{page}: {', '.join(results)}")
