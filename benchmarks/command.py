# SPDX-License-Identifier: Apache-2.0
"""Runs a benchmark as a program, as the `key2mesh` command runs its commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from key2mesh_core.errors import Key2MeshError


def run_as_program(main: Callable[[Any], object], config: type, description: str | None) -> None:
    """Calls `main` with a `config` from the command line; prints an error in one line and exits
    with status 2."""
    import tyro

    # As in `key2mesh`, and before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        main(tyro.cli(config, description=description))
    except Key2MeshError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
