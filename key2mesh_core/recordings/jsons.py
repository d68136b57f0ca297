# SPDX-License-Identifier: Apache-2.0
"""Keypoints and ids from JSON files, every number checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import TargetError


def identity(value: Any) -> int | str | None:
    """An id: a name or a whole number (3.0 is 3); None for all else, true and false included."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def keypoint_list(path: Path, where: str, values: Any) -> NDArray[np.float32]:
    """Converts a list x, y, confidence, x, ..., flat or in triples, to (L, 3) float32; null becomes
    NaN, unseen. Raises TargetError if it is not one of numbers, three for each keypoint."""
    if not isinstance(values, list):
        raise TargetError(f"{path}: {where} is {values!r:.40}, not a list of numbers")
    if values and all(isinstance(value, list) and len(value) == 3 for value in values):
        values = [number for point in values for number in point]
    for at, value in enumerate(values):
        if type(value) not in (int, float, type(None)):
            raise TargetError(f"{path}: {where}[{at}] is {value!r:.40}, not a number")
    if len(values) % 3:
        raise TargetError(
            f"{path}: {where} has {len(values)} numbers, not three (x, y, confidence) per keypoint"
        )
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, hence unseen
            return np.array(values, dtype=np.float64).astype(np.float32).reshape(-1, 3)
    except OverflowError as error:
        raise TargetError(f"{path}: {where} has a number beyond the range of floats") from error
