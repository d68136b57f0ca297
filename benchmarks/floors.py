# SPDX-License-Identifier: Apache-2.0
"""Lower bounds on time: the machine's memory and arithmetic speed, and what the work requires.

A floor is the cost of the *job* on this machine, not of an implementation: reading every weight
once per call, every product at the speed of a large matrix product, writing the result. Limits are
the best of several tries with the methods' number of threads, because a floor raised by other load
would flatter the methods.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from key2mesh_core.body.data import BodyData
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.network.key2mesh import BETAS, FEATURES, JOINTS

#: What is read again and again stays in the caches if it fits: hence a speed for each size [bytes].
READ_SIZES = (1 << 20, 7 << 20, 26 << 20, 256 << 20)
_MATRIX = 1024

NETWORK_WEIGHTS = (
    2 * len(KEYPOINTS) * FEATURES + 6 * FEATURES * FEATURES + FEATURES * (BETAS + 6 * JOINTS)
)
"""Weights of the published network's eight layers, biases left out."""


@dataclass(frozen=True)
class Stage:
    """A stage of work; stages run one after the other.

    `read`: bytes of weights, once a call; `written`: bytes of results a person; `operations`: a
    person's additions and multiplications, of kind `arithmetic`.
    """

    read: float
    operations: float
    written: float = 0.0
    arithmetic: str = "float32"


@dataclass(frozen=True)
class Limits:
    """The machine's limits: bytes read per second by size, bytes written, operations per second."""

    reads: dict[int, float]
    writes: float
    operations: dict[str, float] = field(default_factory=dict)

    def reading_s(self, size: float) -> float:
        """Seconds to read this many bytes repeatedly."""
        if size <= 0:
            return 0.0
        sizes = sorted(self.reads)
        speed = np.interp(np.log(size), np.log(sizes), [self.reads[each] for each in sizes])
        return size / float(speed)

    def floor_ms(self, stages: Sequence[Stage], persons: int) -> float:
        """Lower bound on the time of a call [ms]: the longer of memory and arithmetic of each
        stage."""
        seconds = 0.0
        for stage in stages:
            memory = self.reading_s(stage.read) + persons * stage.written / self.writes
            arithmetic = persons * stage.operations / self.operations[stage.arithmetic]
            seconds += max(memory, arithmetic)
        return 1e3 * seconds

    def as_dict(self) -> dict[str, Any]:
        """For the results file: GB/s and Gop/s."""
        return {
            "read_gb_per_s": {size >> 20: speed / 1e9 for size, speed in self.reads.items()},
            "write_gb_per_s": self.writes / 1e9,
            "gop_per_s": {name: speed / 1e9 for name, speed in self.operations.items()},
        }


def measure(threads: int, device: str = "cpu", seconds: float = 0.15) -> Limits:
    """The limits of this machine with so many threads; `seconds` for each of about 20 tries."""
    torch.set_num_threads(threads)
    reads = {size: _read_speed(size, device, seconds) for size in READ_SIZES}
    written = torch.empty(READ_SIZES[-1] // 4, device=device)
    writes = 4 * written.numel() / _fastest(lambda: written.fill_(1.0), device, seconds)
    operations = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        matrix = torch.randn(_MATRIX, _MATRIX, device=device).to(kind)
        operations[name] = 2 * _MATRIX**3 / _fastest(_product(matrix), device, seconds)
    whole = torch.randint(-9, 9, (_MATRIX, _MATRIX), dtype=torch.int8, device=device)
    try:
        fastest = _fastest(lambda: torch._int_mm(whole, whole), device, seconds)
        operations["int8"] = 2 * _MATRIX**3 / fastest
    except (AttributeError, RuntimeError):  # a build of torch without it
        operations["int8"] = 4 * operations["float32"]
    return Limits(reads, writes, operations)


def network_stage(weight_bytes: float = 4.0, arithmetic: str = "float32") -> Stage:
    """One pass of the published network; `weight_bytes` for each weight, its share of scales
    included."""
    return Stage(weight_bytes * NETWORK_WEIGHTS, 2 * NETWORK_WEIGHTS, arithmetic=arithmetic)


def mesh_stage(data: BodyData) -> Stage:
    """Skinning a mesh by the joints that move each vertex (four at most, for most bodies)."""
    count = len(data.template)
    directions = BETAS
    if data.pose_directions is not None and np.any(data.pose_directions):
        directions += data.pose_directions.shape[2]
    ties = float((data.skinning_weights > 0).sum()) / count
    # A vertex: its place, shifted along every direction; its transform, mixed of 12 numbers a
    # joint; the product of the two. A tie is a weight and a joint's number.
    operations = 2 * 3 * directions + 2 * 12 * ties + 18
    read = count * (4 * 3 * (1 + directions) + 5 * ties)
    return Stage(read, count * operations, written=12 * count)


def _product(matrix: torch.Tensor) -> Callable[[], object]:
    return lambda: matrix @ matrix


def _read_speed(size: int, device: str, seconds: float) -> float:
    """Bytes a second, by whichever of these reads fastest."""
    values = torch.ones(size // 4, device=device)
    rows = values.view(-1, 1024)
    column = torch.ones(1024, device=device)
    ways = [values.sum, lambda: torch.dot(values, values), lambda: rows @ column]
    if device == "cpu":
        array, vector = rows.numpy(), column.numpy()
        ways.append(lambda: array @ vector)
    return size / min(_fastest(way, device, seconds / len(ways)) for way in ways)


def _fastest(call: Callable[[], object], device: str, seconds: float) -> float:
    """The shortest of as many calls as fit into so many seconds, at least three [s]."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 4 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])
