# SPDX-License-Identifier: Apache-2.0
"""The lifecycle walked through every transition, legal and illegal, again and again.

What is illegal must be refused and change nothing; in the end the node must have as many topics,
threads and open files as in the beginning, and work.
"""

import os
import threading

import pytest
from helpers_ros import client, node_here, people, standing
from lifecycle_msgs.msg import Transition

ALL = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "unconfigured shutdown": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    "inactive shutdown": Transition.TRANSITION_INACTIVE_SHUTDOWN,
    "active shutdown": Transition.TRANSITION_ACTIVE_SHUTDOWN,
    "create": Transition.TRANSITION_CREATE,
    "destroy": Transition.TRANSITION_DESTROY,
    "success": Transition.TRANSITION_CALLBACK_SUCCESS,
    "failure": Transition.TRANSITION_CALLBACK_FAILURE,
    "error": Transition.TRANSITION_CALLBACK_ERROR,
    "unknown": 77,
}
LEGAL = {
    "unconfigured": {"configure", "unconfigured shutdown"},
    "inactive": {"activate", "cleanup", "inactive shutdown"},
    "active": {"deactivate", "active shutdown"},
    "finalized": set(),
}
LEADS_TO = {
    "configure": "inactive",
    "activate": "active",
    "deactivate": "inactive",
    "cleanup": "unconfigured",
}
WALK = ("configure", "cleanup", "configure", "activate", "deactivate", "activate", "deactivate")


@pytest.mark.parametrize("shutdown_from", ["unconfigured", "inactive", "active"])
def test_the_lifecycle_is_walked_through_every_transition(bundle, amount, shutdown_from):
    before = held()
    with node_here(model=str(bundle), diagnostics_period=0.1) as node, client() as probe:
        topics = topics_of(node)
        for _ in range(amount(1, 33)):
            for step in (*WALK, "cleanup"):
                refuse_illegal(probe)
                take(probe, step, LEADS_TO[step])
            assert topics_of(node) == topics, "topics were left behind"
        if shutdown_from != "unconfigured":
            take(probe, "configure", "inactive")
        if shutdown_from == "active":
            take(probe, "activate", "active")
            probe.wait_for_node()
            assert len(probe.exchange(people(standing())).bodies) == 1
        take(probe, f"{shutdown_from} shutdown", "finalized")
        assert topics_of(node) == topics
        refuse_illegal(probe)
    threads, files = (now - then for now, then in zip(held(), before, strict=True))
    assert threads <= 0
    assert files <= 0


def refuse_illegal(probe):
    """Ask for every transition that the state does not have."""
    state = probe.state()
    for name, number in ALL.items():
        if name not in LEGAL[state]:
            assert not probe.change_state(number), f"'{name}' is not refused while {state}"
    assert probe.state() == state


def take(probe, step, state):
    assert probe.change_state(ALL[step])
    assert probe.state() == state


def topics_of(node):
    return sorted(each.topic_name for each in (*node.publishers, *node.subscriptions))


def held():
    """Threads and open files of this process, without the middleware's own."""
    files = [path for path in os.listdir("/proc/self/fd") if not of_middleware(path)]
    return threading.active_count(), len(files)


def of_middleware(descriptor):
    try:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return True  # the listing's own
    return any(word in target for word in ("fastrtps", "fastdds", "socket"))
