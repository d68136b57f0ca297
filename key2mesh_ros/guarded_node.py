# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node whose callbacks never end the process, in any executor.

An exception in a callback propagates out of the executor's `spin` and ends the process. rclpy's own
callbacks also raise, on a request for a transition that the node's state does not allow.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from key2mesh_core.errors import Key2MeshError

NO_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)

LOG_PERIOD_S = 5.0
"""Shortest time between two log entries for the same cause [s]."""


class ThrottledLogger:
    """Logs each cause at most every 5 s. (rclpy throttles by line of code, so one cause would hide
    another.)"""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._last: dict[str, float] = {}

    def error(self, cause: str, text: str) -> None:
        """Log `text` as an error, unless the same cause was just logged."""
        if self._is_due(cause):
            self._logger.error(text)

    def warning(self, cause: str, text: str) -> None:
        """Log `text` as a warning, unless the same cause was just logged."""
        if self._is_due(cause):
            self._logger.warning(text)

    def _is_due(self, cause: str) -> bool:
        now = time.monotonic()
        due = now - self._last.get(cause, float("-inf")) >= LOG_PERIOD_S
        if due:
            self._last[cause] = now
        return due


class GuardedNode(LifecycleNode):
    """A lifecycle node that guards every callback passed to its `create_...` methods, and rclpy's
    own services.

    It logs an exception in a callback (throttled) and hands it to `on_callback_error`; a service
    then sends its response as it is. Services, timers and parameter callbacks hold `lock` while
    they run; subscriptions, which must not wait, do not.

    Attributes:
        lock: reentrant; guards what transitions and parameters change.
        throttled_log: for errors that may occur in every frame.
        failure: why the last transition failed; empty if it did not.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.lock = threading.RLock()
        self.failure = ""
        super().__init__(name, **options)
        self.throttled_log = ThrottledLogger(self.get_logger())
        services = {service.srv_name.rpartition("/")[2]: service for service in self.services}
        self._available_transitions = services["get_available_transitions"].callback
        change_state = services["change_state"]
        change_state.callback = self._only_if_available(change_state.callback)
        for service in services.values():  # rclpy's own: parameters and lifecycle
            service.callback = self.guarded(service.callback, _response)

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Callable[..., None], *args: Any, **options: Any
    ) -> Any:
        # Publishers also warn of incompatible QoS, and a subscription that is destroyed
        # with a pending event can make rclpy's MultiThreadedExecutor raise InvalidHandle.
        options.setdefault("event_callbacks", NO_EVENTS)
        guarded = self.guarded(callback, locked=False)
        return super().create_subscription(msg_type, topic, guarded, *args, **options)

    def create_timer(
        self, timer_period_sec: float, callback: Callable[..., None], *args: Any, **options: Any
    ) -> Any:
        return super().create_timer(timer_period_sec, self.guarded(callback), *args, **options)

    def create_service(
        self, srv_type: Any, srv_name: str, callback: Callable[..., Any], **options: Any
    ) -> Any:
        guarded = self.guarded(callback, _response)
        return super().create_service(srv_type, srv_name, guarded, **options)

    def guarded(
        self,
        callback: Callable[..., Any],
        otherwise: Callable[..., Any] | None = None,
        *,
        locked: bool = True,
    ) -> Callable[..., Any]:
        """`callback`, with its exceptions handed to `on_callback_error`.

        Args:
            otherwise: called with the exception and the callback's arguments; returns the
                callback's result.
            locked: whether the callback holds the lock while it runs.
        """

        @wraps(callback)
        def call(*arguments: Any) -> Any:
            with self.lock if locked else nullcontext():
                try:
                    return callback(*arguments)
                except Exception as error:
                    if self.context.ok():  # else ROS was shut down: nothing to report
                        function = getattr(callback, "func", callback)  # of a partial
                        name = getattr(function, "__name__", repr(function))
                        self.throttled_log.error(
                            f"{name} {type(error).__name__}",
                            f"{name.strip('_')} failed: {error}\n{traceback.format_exc()}",
                        )
                        self.on_callback_error(error)
                    return None if otherwise is None else otherwise(error, *arguments)

        return call

    def transition(self, name: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        """Do a transition's work under the lock. Because rclpy swallows exceptions, a failure is
        logged and kept in `failure`."""
        with self.lock:
            try:
                work()
            except Exception as error:
                if self.context.ok():  # else ROS was shut down: nothing to report
                    self.failure, details = f"{name} failed: {error}", ""
                    if isinstance(error, ImportError):
                        self.failure += ": install it and configure again"
                    elif not isinstance(error, Key2MeshError):
                        self.failure, details = f"{name} failed: {error!r}", traceback.format_exc()
                    self.get_logger().error(f"{self.failure}\n{details}".rstrip())
                return TransitionCallbackReturn.FAILURE
            self.failure = ""
            return TransitionCallbackReturn.SUCCESS

    def _only_if_available(self, change_state: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(change_state)
        def callback(request: ChangeState.Request, response: ChangeState.Response) -> Any:
            asked = request.transition
            transitions = self._available_transitions(
                GetAvailableTransitions.Request(), GetAvailableTransitions.Response()
            ).available_transitions
            known = {each.transition.id: each.transition.label for each in transitions}
            if not asked.label and asked.id not in known:
                self.get_logger().error(
                    f"transition {asked.id} refused: in this state the node allows "
                    f"{', '.join(f'{label} ({number})' for number, label in known.items())}"
                )
                response.success = False
                return response
            return change_state(request, response)

        return callback

    def on_callback_error(self, error: Exception) -> None:
        """Called after a callback has raised `error`, which is already logged."""


def _response(error: Exception, request: Any, response: Any) -> Any:
    return response
