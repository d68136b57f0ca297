# SPDX-License-Identifier: Apache-2.0
"""An executor that gets urgent messages to their callbacks by the shortest way.

Before rclpy's own takes a message, it asks every entity of the node in Python whether it is ready,
and makes a task and a coroutine of the callback: half a millisecond at 30 Hz, where none of that
code is in the processor's caches any more. This one waits for the same entities, looks at the
urgent subscriptions first, and leaves everything else to rclpy.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    ExternalShutdownException,
    ShutdownException,
    SingleThreadedExecutor,
    TimeoutException,
)
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.waitable import NumberOfEntities

_KINDS = ("subscription", "guard_condition", "timer", "client", "service")


class Urgent(MutuallyExclusiveCallbackGroup):
    """Marks subscriptions to be served first.

    Their callbacks are plain functions of the message and the middleware's facts about it. To
    other executors the group is like any other.
    """


class UrgentFirstExecutor(SingleThreadedExecutor):
    """A single-threaded executor whose `spin` serves the subscriptions of `Urgent` groups first."""

    _stopped = False

    def stop(self) -> None:
        """End `spin` behind the callback that it is at. Any thread may call this, once for all."""
        self._stopped = True
        self.wake()

    def spin(self) -> None:
        """Execute callbacks until `stop` or shutdown.

        Raises:
            ExternalShutdownException: the context was shut down.
        """
        while self._context.ok() and not (self._is_shutdown or self._stopped):
            if self._serve_urgent():
                self._serve_others()

    def _serve_urgent(self) -> bool:
        """Wait, and call what is urgent; whether anything else is ready."""
        nodes = self.get_nodes()
        subscriptions = [each for node in nodes for each in node.subscriptions]
        urgent = [each for each in subscriptions if isinstance(each.callback_group, Urgent)]
        others = [each for each in subscriptions if each not in urgent]
        node_guards = [each for node in nodes for each in node.guards]
        with ExitStack() as used:  # what is waited for is not destroyed meanwhile
            urgent = _usable(used, urgent)
            node_guards = _usable(used, node_guards)
            entities = {
                "subscription": [*urgent, *_usable(used, others)],
                "guard_condition": [*node_guards, *_usable(used, [self._guard, self._sigint_gc])],
                "timer": _usable(used, [each for node in nodes for each in node.timers]),
                "client": _usable(used, [each for node in nodes for each in node.clients]),
                "service": _usable(used, [each for node in nodes for each in node.services]),
            }
            waitables = _usable(used, [each for node in nodes for each in node.waitables])
            if self._is_shutdown:  # by another thread, which has taken its guard away
                return False
            used.enter_context(self._context.handle)
            wait_set, events = self._wait_set(entities, waitables)
            wait_set.wait(-1)
            if not self._context.ok():
                raise ExternalShutdownException
            served = 0
            for index, subscription in enumerate(urgent):
                if wait_set.is_ready("subscription", index):
                    served += 1
                    taken = subscription.handle.take_message(
                        subscription.msg_type, subscription.raw
                    )
                    if taken is not None:
                        subscription.callback(*taken)
            for guard in node_guards:  # waiting has taken them back
                if guard.handle.pointer in wait_set.get_ready_entities("guard_condition"):
                    guard.trigger()
            ready = sum(len(wait_set.get_ready_entities(kind)) for kind in entities)
            return ready > served or any(wait_set.is_ready("event", n) for n in range(events))

    def _wait_set(self, entities: dict[str, list[Any]], waitables: list[Any]) -> tuple[Any, int]:
        """What rclpy waits with, and the number of events in it."""
        count = NumberOfEntities(*(len(each) for each in entities.values()))
        for each in waitables:
            count += each.get_num_entities()
        wait_set = rclpy_implementation.WaitSet(
            count.num_subscriptions,
            count.num_guard_conditions,
            count.num_timers,
            count.num_clients,
            count.num_services,
            count.num_events,
            self._context.handle,
        )
        wait_set.clear_entities()
        for kind, each in entities.items():
            add = getattr(wait_set, f"add_{kind}")
            for entity in each:
                add(entity.handle)
        for each in waitables:
            each.add_to_wait_set(wait_set)
        return wait_set, count.num_events

    def _serve_others(self) -> None:
        """Everything that is ready now, in rclpy's own way."""
        while True:
            try:
                handler, _, _ = self.wait_for_ready_callbacks(timeout_sec=0)
            except (TimeoutException, ShutdownException):
                return
            handler()
            handler.result()  # raises what the callback raised


def _usable(used: ExitStack, entities: Iterable[Any]) -> list[Any]:
    """Those of some entities that are not destroyed, kept so until `used` ends."""
    result = []
    for each in entities:
        if each is not None:  # as the guards of an executor that was shut down are
            with suppress(InvalidHandle):
                used.enter_context(getattr(each, "handle", each))
                result.append(each)
    return result
