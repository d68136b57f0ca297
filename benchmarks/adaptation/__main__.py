# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.adaptation --table NAME ...`: one table of docs/measurements/adaptation.md.

    python -m benchmarks.adaptation --table terms --aistpp-keypoints keypoints2d \\
        --aistpp-truth truth.npz --motions cmu_mocap/train
"""

from __future__ import annotations

import importlib
import json

from benchmarks.adaptation.config import TablesConfig
from benchmarks.command import run_as_program


def main(config: TablesConfig) -> None:
    """Make one table; write NAME.md and NAME.json to the output folder and print it."""
    config.output.mkdir(parents=True, exist_ok=True)
    # Load only what is needed.
    name = "features" if config.table == "features" else "tables"
    module = importlib.import_module(f"benchmarks.adaptation.{name}")
    result = module.run(config)
    text = module.to_markdown(result)
    (config.output / f"{config.table}.json").write_text(json.dumps(result, indent=1) + "\n")
    (config.output / f"{config.table}.md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    run_as_program(main, TablesConfig, __doc__)
