# SPDX-License-Identifier: Apache-2.0
"""JSON files of detections, read with suspicion: limited in size, every number checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import TargetError


def read_json(path: Path, max_bytes: int) -> Any:
    """What a JSON file says.

    Raises:
        TargetError: the file cannot be read, is larger than `max_bytes`, breaks off or is no JSON.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise TargetError(
                f"{path} has {size} bytes; JSON of this kind is read up to {max_bytes}: split it"
            )
        return json.loads(path.read_bytes())
    except OSError as error:
        raise TargetError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise TargetError(f"{path} is not JSON, or breaks off: {error}") from error


def keypoint_list(path: Path, where: str, values: Any) -> NDArray[np.float32]:
    """A flat list x, y, confidence, x, ... as (K, 3) float32; NaN is let through, as unseen.

    Raises:
        TargetError: no list of numbers, or not three for each keypoint.
    """
    if not isinstance(values, list):
        raise TargetError(f"{path}: {where} is {_short(values)}, not a list of numbers")
    for at, value in enumerate(values):
        if type(value) not in (int, float):
            raise TargetError(f"{path}: {where}[{at}] is {_short(value)}, not a number")
    if len(values) % 3:
        raise TargetError(
            f"{path}: {where} has {len(values)} numbers, not three (x, y, confidence) a keypoint"
        )
    try:
        with np.errstate(over="ignore"):  # too large for float32: infinite, so unseen
            return np.array(values, dtype=np.float64).astype(np.float32).reshape(-1, 3)
    except OverflowError as error:
        raise TargetError(f"{path}: {where} has a number beyond all floats") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
