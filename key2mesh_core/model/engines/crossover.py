# SPDX-License-Identifier: Apache-2.0
"""Finds up to how many people 8-bit weights on one thread are faster than 32-bit weights on all
threads.

Few people are memory-bound, and 8-bit weights need a quarter of the memory traffic; many are
compute-bound, and products of 32-bit floats are faster. The crossover depends on the processor. For
processors with VNNI it is a constant; on any other processor it is measured when a graph is first
loaded, in a tenth of a second, and stored in the user's cache folder.
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
"""Measured on x86-64 with AVX-512 VNNI (Xeon, two cores): joints of 4 people take 3.3 ms with 8-bit
weights and 4.5 ms with floats; those of 8 take 4.7 and 4.3 ms."""

_SIZES = (1, 2, 4, 8, 16)
_TURNS = 5


def most_persons_of_few(few: Any, many: Any, name: str) -> int:
    """The largest number of people for which session `few` is faster than session `many`; 0 if it
    never is.

    Args:
        few: an ONNX Runtime session with weights in blocks.
        many: the same graph with float weights.
        name: identifies the graph, the library and its settings, on which the result depends
            besides the processor.
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
    except (OSError, ValueError):  # not measured yet, or damaged: measure it
        pass
    found = measure(few, many)
    with contextlib.suppress(OSError):  # a read-only home: measure again next time
        write_text(path, json.dumps(found))
    return found


def measure(few: Any, many: Any) -> int:
    """Like `most_persons_of_few`, measured now: the sessions alternate, and the fastest call of
    each counts."""
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
    """The processor's name and whether it multiplies 8-bit integers fast, as reported by Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    told = {key.strip(): value.strip() for key, value in told.items()}
    # ARM reports no model name; its implementer and part numbers serve as one.
    name = " ".join(
        told.get(key, "") for key in ("model name", "CPU implementer", "CPU part", "CPU revision")
    )
    vnni = {"avx512_vnni", "avx_vnni"} & set(told.get("flags", "").split())
    return f"{platform.machine()} {name}{' vnni' if vnni else ''}"
