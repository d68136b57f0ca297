# SPDX-License-Identifier: Apache-2.0
"""Up to how many persons 8-bit weights on one thread beat 32-bit weights on all threads.

Few persons wait for memory, and 8-bit weights are a quarter of it; many wait for arithmetic, and
products of 32-bit floats are the faster ones. Where the two meet depends on the processor. With
VNNI it is known; on any other processor it is measured when a graph is first loaded, in a tenth
of a second, and kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.io import cache_folder, write_text

WITH_VNNI = 6
"""Measured on x86-64 with AVX-512 VNNI (Xeon, two cores): joints of 4 persons take 3.3 ms by 8-bit
weights and 4.5 ms by floats, those of 8 take 4.7 and 4.3 ms."""

_SIZES = (1, 2, 4, 8, 16)
_TURNS = 5


def most_persons_of_few(few: Any, many: Any, name: str) -> int:
    """The most persons that session `few` is faster for than session `many`; 0 if it never is.

    Args:
        few: an ONNX Runtime session with weights in blocks.
        many: the same graph with float weights.
        name: of the graph, the library and its settings: what the result depends on besides the
            processor.
    """
    processor = _processor()
    if "vnni" in processor:
        return WITH_VNNI
    digest = hashlib.sha256(f"{processor} {name}".encode()).hexdigest()
    path = cache_folder() / "crossover" / f"{digest[:24]}.json"
    try:
        found = json.loads(path.read_text())
        if found in (0, *_SIZES):
            return found
    except (OSError, ValueError):  # not measured yet, or damaged: measured again
        pass
    found = measure(few, many)
    with contextlib.suppress(OSError):  # a read-only home: measured again next time
        write_text(path, json.dumps(found))
    return found


def measure(few: Any, many: Any) -> int:
    """As `most_persons_of_few`, measured now: both sessions in turns, the fastest of each."""
    found = 0
    for size in _SIZES:
        inputs = {
            each.name: np.ones((size, *each.shape[1:]), np.float32) for each in few.get_inputs()
        }
        best = {few: np.inf, many: np.inf}
        for _ in range(_TURNS + 1):
            for session in best:
                start = time.perf_counter()
                session.run(None, inputs)
                best[session] = min(best[session], time.perf_counter() - start)
        if best[few] > best[many]:
            break
        found = size
    return found


@functools.cache
def _processor() -> str:
    """Its name and whether it multiplies 8-bit integers fast, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    told = {key.strip(): value.strip() for key, value in told.items()}
    # ARM has no name of a model; its numbers of implementer and part serve as one.
    name = " ".join(
        told.get(key, "") for key in ("model name", "CPU implementer", "CPU part", "CPU revision")
    )
    vnni = {"avx512_vnni", "avx_vnni"} & set(told.get("flags", "").split())
    return f"{platform.machine()} {name}{' vnni' if vnni else ''}"
