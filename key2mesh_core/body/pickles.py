# SPDX-License-Identifier: Apache-2.0
"""Read the pickles of the official SMPL downloads without running anything in them."""

from __future__ import annotations

from pathlib import Path

from ..errors import BodyFileError


def read_pickle(path: Path) -> dict[str, object]:
    """Arrays of an SMPL `.pkl` file."""
    raise BodyFileError(f"{path}: not supported yet; use an .npz")
