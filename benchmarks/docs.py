# SPDX-License-Identifier: Apache-2.0
"""The last run's tables and plot, put into docs/performance.md.

The page marks where each goes: what lies between `<!-- results: NAME -->` and `<!-- end -->` is
replaced; a part that was not run stays as it is.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from benchmarks import engine_options, report
from key2mesh_core.errors import Key2MeshError

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PLOT = "persons.png"
_MARKED = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def update(output: Path, page: Path = PAGE) -> dict[str, Any]:
    """Fills the page with what lies in `output`; returns the results.

    Raises:
        Key2MeshError: nothing was measured yet, or the page has no place for a part.
    """
    path = output / "results.json"
    if not path.exists():
        raise Key2MeshError(f"{path}: no such file; run `make bench` first")
    results = json.loads(path.read_text())
    texts = report.sections(results)
    options = output / engine_options.FILE
    if options.exists():
        texts["options"] = engine_options.table(json.loads(options.read_text()))
    if "persons" in texts and (output / PLOT).exists():
        picture = shutil.copyfile(output / PLOT, page.with_suffix(".png"))
        caption = f"![Time of a call against the number of persons in it]({picture.name})"
        texts["persons"] = f"{caption}\n\n{texts['persons']}"
    text = page.read_text()
    missing = set(texts) - {match[1] for match in _MARKED.findall(text)}
    if missing:
        raise Key2MeshError(f"{page} has no place for {sorted(missing)}")

    def filled(match: re.Match[str]) -> str:
        found = texts.get(match[2])
        return match[0] if found is None else f"{match[1]}\n{found}\n\n{match[3]}"

    page.write_text(_MARKED.sub(filled, text))
    print(f"{page}: {', '.join(texts)}")
    return results
