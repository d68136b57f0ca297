# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.adaptation --table NAME ...`: one table of docs/measurements/adaptation.md.

    python -m benchmarks.adaptation --table terms --aistpp-keypoints keypoints2d \\
        --aistpp-truth truth.npz --motions cmu_mocap/train
"""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.adaptation.config import TablesConfig
from key2mesh_core.errors import Key2MeshError


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
    import os

    import tyro

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `key2mesh`
    try:
        main(tyro.cli(TablesConfig, description=__doc__))
    except Key2MeshError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
