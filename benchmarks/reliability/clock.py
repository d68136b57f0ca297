# SPDX-License-Identifier: Apache-2.0
"""A clock that jumps: stamps by nanoseconds to decades, back and forth, and simulated time.

Behind each jump a frame must be answered with finite numbers; behind one backwards, with what the
node says of somebody it has never seen. A jump backwards is counted, one forwards is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from helpers_ros import people, standing
from rosgraph_msgs.msg import Clock

from benchmarks.reliability.checks import Outcome
from benchmarks.reliability.link import Link, link, numbers, ready

JUMPS = 10_000
SECOND = 1_000_000_000
LAST = (2**31 - 1) * SECOND  # of what a stamp can hold
SCALES = (1, 1_000, 33_000_000, SECOND, 3_600 * SECOND, 365 * 86_400 * SECOND, LAST)


def run(
    model: str, folder: Path, jumps: int = JUMPS, say: Callable[[str], None] = print
) -> Outcome:
    """`jumps` of the stamps, half of them while /clock jumps likewise."""
    result = Outcome()
    for simulated in (False, True):
        (folder / str(simulated)).mkdir(parents=True, exist_ok=True)
        with link(model, folder / str(simulated), use_sim_time=simulated) as node:
            _jump(result, node, jumps // 2, simulated)
        say(f"clock: {jumps // 2} jumps, simulated time: {simulated}")
    return result


def _jump(result: Outcome, node: Link, jumps: int, simulated: bool) -> None:
    keypoints = ready(node)
    clock = node.publisher(Clock, "/clock") if simulated else None
    moments = random.Random(int(simulated))
    # People move with time, so that what a filter remembers shows in the numbers.
    places = [standing(200.0 + 10 * place) for place in range(16)]
    fresh = [numbers(_answer(node, keypoints, place, 16 - n)) for n, place in enumerate(places)]
    now, backwards = 17 * SECOND, 0
    _answer(node, keypoints, places[0], 17)
    counted = int(node.fresh_values().get("warning.clock_jump", 0))
    not_finite, stale, before = [], [], now
    for number in range(jumps):
        step = moments.randrange(1, moments.choice(SCALES) + 1)
        now = min(max(before + moments.choice((-1, 1)) * step, 1), LAST)
        if now == before:
            now = 17 * SECOND
        if clock is not None:
            clock.publish(Clock(clock=_time(now)))
        place = moments.randrange(16)
        answer = numbers(_answer(node, keypoints, places[place], now / SECOND, _time(now)))
        if not np.isfinite(answer).all():
            not_finite.append(f"jump {number} by {now - before} ns")
        if now < before:
            backwards += 1
            if not np.allclose(answer, fresh[place], rtol=1e-4, atol=1e-5):
                stale.append(f"jump {number} by {now - before} ns")
        before = now
    counted = int(node.fresh_values().get("warning.clock_jump", 0)) - counted
    name = "simulated time: " if simulated else ""
    result.check(f"{name}{jumps:,} jumps answered", f"{jumps:,}", True)
    result.none(f"{name}number that is not finite", not_finite)
    result.none(f"{name}memory of a time that is not yet", stale)
    seen = f"{counted:,} of {backwards:,}"
    result.check(f"{name}each jump backwards counted, and no other", seen, counted == backwards)


def _answer(node: Link, keypoints: Any, place: np.ndarray, at: float, stamp: Any = None) -> Any:
    message = people(place, stamp=at)
    if stamp is not None:
        message.header.stamp = stamp
    return node.exchange(keypoints, message)


def _time(nanoseconds: int) -> Time:
    return Time(sec=nanoseconds // SECOND, nanosec=nanoseconds % SECOND)
