# SPDX-License-Identifier: Apache-2.0
"""Times of several contestants in one run, taken in turns.

A machine's speed drifts (heat, other work), so contestants take turns and what is reported is the
ratio of medians. Before its turn each waits until the others' threads have gone to sleep (idle
OpenMP threads keep a core busy for a while) and runs once unmeasured. Those whose one call takes
longer than a turn should are run unmeasured in their first turn only.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Longer than the default of OpenMP runtimes for spinning after the last parallel region.
SETTLE_S = 0.25
# Calls in one turn: a median needs no more.
MOST_CALLS = 200


@dataclass(frozen=True)
class Timing:
    """Times of one contestant's calls [ms]."""

    median_ms: float
    fastest_ms: float
    slowest_ms: float
    calls: int

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """Summary of measured calls [s]."""
        return cls(
            median_ms=1e3 * statistics.median(seconds),
            fastest_ms=1e3 * min(seconds),
            slowest_ms=1e3 * max(seconds),
            calls=len(seconds),
        )

    def divided_by(self, times: int) -> Timing:
        """The time of one of the equal things that each call did `times`."""
        return Timing(
            self.median_ms / times, self.fastest_ms / times, self.slowest_ms / times, self.calls
        )


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    *,
    budget_s: float = 10.0,
    rounds: int = 5,
    settle_s: float = SETTLE_S,
) -> dict[str, Timing]:
    """Time each contestant in `rounds` turns, about `budget_s` in all.

    Every turn has at least one measured call, however slow it is. The order is turned round every
    other time, so that nobody always follows the same neighbour.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    turn_s = budget_s / max(1, rounds * len(contestants))
    names = list(contestants)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            call = contestants[name]
            time.sleep(settle_s)
            first_s = _time(call)
            calls = min(MOST_CALLS, math.floor(turn_s / max(first_s, 1e-9)))
            if calls < 1 and number > 0:
                seconds[name].append(first_s)
                continue
            for _ in range(max(1, calls)):
                seconds[name].append(_time(call))
    return {name: Timing.of(each) for name, each in seconds.items()}


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
