# SPDX-License-Identifier: Apache-2.0
"""The paper's runtime comparison in one run: the time per body of each method.

Everybody at one and at 512 persons; those that are fast enough also in between, for the plot. Those
that have the same network must give the same bodies, which is looked at in millimetres before
anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks import floors
from benchmarks.engine import engines
from benchmarks.learned_descent import learned_descent
from benchmarks.names import ENGINE, ENGINE_PUBLISHED, FLOAT32, PUBLISHED, TORCH
from benchmarks.people import Contestant, centred, largest_difference_mm, people
from benchmarks.published import pytorch
from benchmarks.smplify import smplify
from benchmarks.timing import SETTLE_S, interleave
from key2mesh_core.body.data import BodyData
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.network.key2mesh import Key2Mesh
from key2mesh_core.network.weights import load_network

SIZES = (1, 512)
BETWEEN = (2, 4, 8, 16, 32, 64, 128, 256)
#: Who is measured in between.
_ON_THE_PLOT = (ENGINE, ENGINE_PUBLISHED, FLOAT32, TORCH, PUBLISHED)
_COMPARED = 128


def run(
    bundle: Bundle,
    data: BodyData,
    *,
    sizes: Sequence[int] = SIZES,
    between: Sequence[int] = BETWEEN,
    threads: int = 2,
    budget_s: float = 24.0,
    rounds: int = 3,
    settle_s: float = SETTLE_S,
    limit_s: float = 0.15,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Rows of times [ms], floors and ratios, and everybody's distance from PyTorch [mm].

    Args:
        bundle: what is shipped.
        data: its body.
        sizes: persons in a call, for everybody.
        between: the same, for those on the plot.
        threads: CPU threads of every contestant.
        budget_s: for one of `sizes` [s]; what is slow is measured once a round, however long.
        rounds: turns of each contestant.
        settle_s: pause before a turn.
        limit_s: for each try at the limits of the machine [s].
        say: takes lines of progress.

    Raises:
        Key2MeshError: the body is not the bundle's.
    """
    if data.identifier != bundle.body_model:
        raise Key2MeshError(
            f"the bundle {bundle.name} is of the body {bundle.body_model}, not of "
            f"{data.identifier}: give the body that it was made with"
        )
    torch.set_num_threads(threads)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    say("what this machine can do")
    limits = {device: floors.measure(threads, device, limit_s) for device in devices}
    torch.manual_seed(0)
    network, published = load_network(bundle), Key2Mesh().eval()
    rows: list[dict[str, Any]] = []
    with engines(bundle, data, network, published, threads) as contestants:
        for device in devices:
            contestants += pytorch(bundle, data, network, published, device)
            contestants += learned_descent(data, device)
            contestants.append(smplify(data, bundle.card["detector_keypoints"], device))
        say(f"{len(contestants)} contestants give the same bodies?")
        differences = largest_difference_mm(contestants, centred(people(_COMPARED)), TORCH)
        for count in sorted({*sizes, *between}):
            here = [each for each in contestants if count in sizes or each.name in _ON_THE_PLOT]
            share = 1.0 if count in sizes else len(here) / len(contestants) / 2
            say(f"{count} persons: {len(here)} contestants, at least {share * budget_s:.0f} s")
            keypoints = people(count)
            calls = {
                (each, mesh): _call(each, keypoints, mesh)
                for each in here
                for mesh in ((True, False) if each.without_mesh else (True,))
            }
            timings = interleave(calls, budget_s=share * budget_s, rounds=rounds, settle_s=settle_s)
            rows += _rows(timings, count, limits)
    return {
        "rows": rows,
        "limits": {device: each.as_dict() for device, each in limits.items()},
        "difference_mm": {
            name: {"largest": largest, "mean": mean}
            for name, (largest, mean) in differences.items()
        },
    }


def _call(contestant: Contestant, keypoints: Any, mesh: bool) -> Callable[[], object]:
    return lambda: contestant.answer(keypoints, mesh)


def _rows(
    timings: dict[Any, Any], count: int, limits: dict[str, floors.Limits]
) -> list[dict[str, Any]]:
    engine = {
        mesh: timing.median_ms for (each, mesh), timing in timings.items() if each.name == ENGINE
    }
    rows = []
    for (each, mesh), timing in timings.items():
        stages = each.stages if mesh else each.stages[:1]
        # TensorRT may be there without a torch that could measure its GPU.
        known = stages and each.device in limits
        floor = limits[each.device].floor_ms(stages, count) if known else None
        rows.append(
            {
                "name": each.label,
                "device": each.device,
                "persons": count,
                "mesh": mesh,
                "timing": asdict(timing),
                "floor_ms": floor,
                "times_the_floor": None if floor is None else timing.median_ms / floor,
                "times_the_engine": timing.median_ms / engine[mesh],
            }
        )
    return rows
