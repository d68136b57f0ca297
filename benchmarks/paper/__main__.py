# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.paper WHAT --data DATA ...`: a table or a figure of the paper.

    python -m benchmarks.paper table3 --data 3dpw --root 3DPW --body-folder smpl \\
        --regressor J_regressor_h36m.npy --motions AMASS --body smpl/SMPL_NEUTRAL.pkl
    python -m benchmarks.paper table3 --data aistpp --root keypoints2d --aistpp-truth truth.npz \\
        --motions CMU --held-out 'test/*.npz'
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from benchmarks.command import run_as_program
from benchmarks.paper.config import PaperConfig, What
from key2mesh_core.io import write_text

_FIGURES = {"figure5": "overlays", "figure7": "features", "figure8": "worst_cases"}


def main(config: PaperConfig) -> dict[str, Any]:
    """Make what is asked for; write NAME.md (tables), NAME.png (figures) and NAME.json."""
    if config.what == "pretrain":
        from benchmarks.paper.runs import pretrained

        return {"model": pretrained(config)}
    if config.what != "all":
        return _one(config)
    parts: tuple[What, ...] = ("table2", "table3", "figure5", "figure8")
    if config.data == "h36m":
        parts = ("table1", *parts[1:])
    return {what: _one(replace(config, what=what)) for what in parts}


def _one(config: PaperConfig) -> dict[str, Any]:
    # Load only what is needed.
    if config.what in _FIGURES:
        from benchmarks.paper import figures

        result = getattr(figures, _FIGURES[config.what])(config)
        text = json.dumps(result, indent=1)
    else:
        from benchmarks.paper import tables

        result = tables.run(config)
        text = tables.to_markdown(result)
        write_text(config.output / f"{config.what}.md", text)
    write_text(config.output / f"{config.what}.json", json.dumps(result, indent=1) + "\n")
    print(f"\n{text}\nwritten to {config.output}", flush=True)
    return result


if __name__ == "__main__":
    run_as_program(main, PaperConfig, __doc__)
