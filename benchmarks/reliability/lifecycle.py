# SPDX-License-Identifier: Apache-2.0
"""The lifecycle walked again and again through every transition, legal and not.

What is illegal must be refused and change nothing; in the end the node must have as many topics,
threads and open files as in the beginning, and work.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from helpers_ros import Client, client, node_here, people, standing
from lifecycle_msgs.msg import Transition

from benchmarks.reliability.checks import Outcome

WALKS = 100

ALL = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "shutdown of the unconfigured": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    "shutdown of the inactive": Transition.TRANSITION_INACTIVE_SHUTDOWN,
    "shutdown of the active": Transition.TRANSITION_ACTIVE_SHUTDOWN,
    "create": Transition.TRANSITION_CREATE,
    "destroy": Transition.TRANSITION_DESTROY,
    "success": Transition.TRANSITION_CALLBACK_SUCCESS,
    "failure": Transition.TRANSITION_CALLBACK_FAILURE,
    "error": Transition.TRANSITION_CALLBACK_ERROR,
    "nothing known": 77,
}
LEGAL = {
    "unconfigured": {"configure", "shutdown of the unconfigured"},
    "inactive": {"activate", "cleanup", "shutdown of the inactive"},
    "active": {"deactivate", "shutdown of the active"},
    "finalized": set(),
}
WALK = ("configure", "cleanup", "configure", "activate", "deactivate", "activate", "deactivate")
"""Then cleanup, and in the end a shutdown from each state in turn."""

AFTER = {"configure": "inactive", "activate": "active", "deactivate": "inactive"}


def run(
    model: str, folder: Path, walks: int = WALKS, say: Callable[[str], None] = print
) -> Outcome:
    """`walks` walks; at each tenth of them the node is shut down and made anew."""
    wrong: list[str] = []
    counts = {"legal": 0, "illegal": 0}
    shutdowns = [name for name in ALL if name.startswith("shutdown")]
    left, nodes = walks, 0
    first: tuple[int, int] | None = None
    while left > 0:
        with node_here(model=model, diagnostics_period=0.1) as node, client() as probe:
            topics = _topics(node)
            many = min(max(1, walks // 10), left)
            for _ in range(many):
                for step in (*WALK, "cleanup"):
                    _refusals(probe, wrong, counts)
                    _step(probe, step, AFTER.get(step, "unconfigured"), wrong, counts)
                if _topics(node) != topics:
                    wrong.append(f"topics were left behind: {_topics(node)}")
            left -= many
            shutdown = shutdowns[nodes % 3]
            nodes += 1
            for step in WALK[2 : 2 + shutdowns.index(shutdown)]:
                _step(probe, step, AFTER[step], wrong, counts)
            if shutdown == shutdowns[2]:
                probe.wait_for_node()
                if len(probe.exchange(people(standing())).bodies) != 1:
                    wrong.append("the node does not work")
            _step(probe, shutdown, "finalized", wrong, counts)
            _refusals(probe, wrong, counts)
        first = first or _held()
        say(f"lifecycle: {left} walks left")
    threads, files = (now - then for now, then in zip(_held(), first, strict=True))
    result = Outcome()
    result.none("wrong answer to a transition", wrong)
    seen = f"{counts['legal']:,} legal ones done, {counts['illegal']:,} illegal ones refused"
    result.check(f"{walks} walks", seen, not wrong)
    result.check(
        "no threads or files left behind", f"{threads:+d}, {files:+d}", not threads + files
    )
    result.figures = {"walks": walks, **counts}
    return result


def _refusals(probe: Client, wrong: list[str], counts: dict[str, int]) -> None:
    """Ask for all that the state does not have."""
    state = probe.state()
    for name in ALL:
        if name not in LEGAL[state]:
            counts["illegal"] += 1
            if probe.change_state(ALL[name]):
                wrong.append(f"'{name}' is not refused while {state}")
    if probe.state() != state:
        wrong.append(f"a refusal led from {state} to {probe.state()}")


def _step(probe: Client, name: str, state: str, wrong: list[str], counts: dict[str, int]) -> None:
    counts["legal"] += 1
    if not probe.change_state(ALL[name]) or probe.state() != state:
        wrong.append(f"'{name}' led to {probe.state()}")


def _topics(node: object) -> list[str]:
    return sorted(each.topic_name for each in (*node.publishers, *node.subscriptions))


def _held() -> tuple[int, int]:
    """Threads and open files of this process, the middleware's own left out."""
    files = [path for path in os.listdir("/proc/self/fd") if not _of_middleware(path)]
    return threading.active_count(), len(files)


def _of_middleware(descriptor: str) -> bool:
    try:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return True  # the listing's own
    return "fastrtps" in target or "socket" in target or "fastdds" in target
