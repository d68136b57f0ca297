# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: keypoints of a detector in, body meshes in metres out.

Frames are estimated in the subscription's callback, on the executor's only thread: handing them
to a worker costs a change of threads in Python and gains nothing, as the subscription's queue of
one already holds the newest frame alone.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import EngineError, Key2MeshError
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.messages import MessageRefused

from . import parameters as node_parameters
from . import process
from .anchors import Anchors
from .cameras import newest_info
from .complaints import Complaints
from .detectors import Detector
from .diagnostics import About, FrameStatistics
from .inputs import Frame, read_frame
from .lifecycle import refuse_illegal_transitions
from .model_loader import ModelLoader
from .outlets import Outlets
from .parameters import ParameterError, Parameters
from .qos import NEWEST
from .stages import PUBLISH, READ, Stages
from .stream import Result, Stream
from .transforms import HRI_PREFIX, BodyFrames, TFMessage

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class MeshNode(LifecycleNode):
    """Subscribes `~/keypoints` and `~/camera_info`; publishes `~/meshes`, `~/topology`,
    `~/markers`, `/tf` and `/diagnostics`; serves `~/load_model`. See docs/node.md.

    Raises:
        ParameterError, rclpy.exceptions.ParameterException: a parameter set from outside that
            the node cannot work with.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("mesh_node", **options)
        refuse_illegal_transitions(self)
        self._settings: Parameters = node_parameters.declare(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        self._loader = ModelLoader(self, lambda: self._resources, self._open, self._swap)
        self._resources: ExitStack | None = None  # of the configured node
        self._outlets: Outlets | None = None  # likewise
        self._stream: Stream | None = None  # of the active node
        self._camera_info: CameraInfo | None = None
        self._failure = ""
        self._facts: dict[str, str] = {}
        self._complaints = Complaints(self.get_logger())
        self._statistics = FrameStatistics(time.monotonic())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady: diagnostics go on while simulated time stands still.
        self._timer = self.create_timer(
            self._settings.diagnostics_period,
            self._publish_diagnostics,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def start(self) -> None:
        """Configure and activate, if the parameter `autostart` says so."""
        if self._settings.autostart and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    # Transitions. rclpy swallows what they raise, so each says itself why it failed.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("activate", lambda: self._activate(state))

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("deactivate", lambda: self._deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("cleanup", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        def stop() -> None:
            self._deactivate(state)
            self._release()

        return self._transition("shutdown", stop)

    def _transition(self, name: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            work()
        except Key2MeshError as error:
            self._failure = f"{name} failed: {error}"
            self.get_logger().error(self._failure)
            return FAILURE
        except Exception as error:
            if not self.context.ok():  # a signal ended ROS in the midst of it: nothing to report
                return FAILURE
            self._failure = f"{name} failed: {error!r}"
            self.get_logger().error(f"{self._failure}\n{traceback.format_exc()}")
            return FAILURE
        self._failure = ""
        return SUCCESS

    def _configure(self) -> None:
        settings = self._settings
        with ExitStack() as resources:  # undone in reverse, also when this fails half-way
            self._estimator = self._open(settings.model)
            resources.callback(lambda: self._estimator.close())  # it may be another by then

            def subscription(kind: Any, topic: str, callback: Callable[..., None]) -> Any:
                result = self.create_subscription(kind, topic, callback, NEWEST)
                resources.callback(self.destroy_subscription, result)
                return result

            self._outlets = Outlets(self, resources, self._estimator.bundle)
            subscription(CameraInfo, "~/camera_info", self._on_camera_info)
            self._frames = None
            if settings.tf_prefix and TFMessage is not None:
                self._frames = BodyFrames(self, resources, settings.tf_prefix)
            self._anchors = Anchors(self, resources, settings)
            self._detector = Detector(
                self,
                resources,
                settings.input_type,
                self._on_keypoints,
                self._complaints,
                self._refuse,
            )
            self._resources = resources.pop_all()
        self._facts = self._facts_of_model()
        facts = ", ".join(f"{key} {value}" for key, value in self._facts.items())
        self.get_logger().info(f"configured: {facts}, from {self._detector.topic}")

    def _open(self, model: str) -> Estimator:
        """A warm estimator; `load_model` calls this in a thread of its own."""
        estimator = Estimator(load_bundle(model), self._settings.backend, self._settings.threads)
        try:
            estimator.warm_up()
            self.get_logger().info(estimator.why)
        except BaseException:
            estimator.close()
            raise
        return estimator

    def _facts_of_model(self) -> dict[str, str]:
        bundle = self._estimator.bundle
        return {
            "model": bundle.name,
            "model_path": str(bundle.path),
            "body_model": bundle.body_model,
            "engine": self._estimator.device,
        }

    def _swap(self, estimator: Estimator, model: str) -> None:
        """Go on with another model, between two frames."""
        before, self._estimator = self._estimator, estimator
        self._outlets.change_bundle(estimator.bundle)
        if self._stream is not None:
            self._stream.change_estimator(estimator)
        self._facts |= self._facts_of_model()
        # The parameter says what runs, and configuring again loads it again.
        self._settings = replace(self._settings, model=model)
        self.set_parameters([Parameter("model", value=model)])
        threading.Thread(target=before.close, daemon=True).start()  # which may take a while

    def _activate(self, state: LifecycleState) -> None:
        super().on_activate(state)
        self._statistics.restart(time.monotonic())
        self._stream = Stream(self._estimator, self._statistics, self._anchors)

    def _deactivate(self, state: LifecycleState) -> None:
        self._stream = None
        if self._outlets is not None:  # else a shutdown of what is not configured
            self._outlets.delete_markers()
        super().on_deactivate(state)

    def _release(self) -> None:
        self._stream = self._outlets = self._camera_info = None
        self._facts = {}
        if self._resources is not None:
            self._resources.close()
        self._resources = None

    # Messages.

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = newest_info(self._camera_info, message)

    def _on_keypoints(self, received: Any, info: dict[str, Any]) -> None:
        if self._stream is None:
            return
        stages = Stages(self._since(info))
        self._statistics.arrived(time.monotonic(), info.get("publication_sequence_number"))
        try:
            frame = self._read(received)
            stages.end(READ)
            vertices = self._settings.publish_vertices or self._outlets.marking
            result = self._stream.estimate(
                frame, self._camera_info, self._settings, vertices, stages
            )
            self._outlets.publish_meshes(result, self._settings)
            stages.end(PUBLISH)
            self._statistics.published(self._since(info), stages.seconds, len(result.bodies))
            self._stream.note(result, self.get_clock().now().nanoseconds)
            self._publish_more(result)
        except MessageRefused as error:
            self._refuse(error.cause, str(error))
        except EngineError as error:
            self._refuse("engine_failed", str(error))
        except Exception:  # one bad message must not end the process
            if self.context.ok():  # else a signal ended ROS in the midst of it: nothing to report
                self._refuse("failed", traceback.format_exc())

    @staticmethod
    def _since(info: dict[str, Any]) -> float:
        """Seconds since the middleware received a message: waiting for the executor counts."""
        return 1e-9 * (time.time_ns() - info["received_timestamp"])

    def _read(self, received: Any) -> Frame:
        message = self._detector.message(received)
        size = self._settings.image_width, self._settings.image_height
        options = CameraOptions(image_size=size if all(size) else (0, 0))
        return read_frame(message, self._detector.reader, self._camera_info, options)

    def _publish_more(self, result: Result) -> None:
        """What may come after the meshes."""
        if self._frames is not None and not self._frames_are_theirs():
            self._frames.publish(result.frame.header, result.frame.ids, result.bodies)
        if self._facts.get("camera") != result.camera.description:
            self._facts["camera"] = result.camera.description
            self.get_logger().info(f"camera: {result.camera.description}")
        if result.bodies.vertices is not None and self._outlets.marking:
            header, bodies = result.frame.header, result.bodies
            self._outlets.publish_markers(header, bodies, self._settings)
        else:
            self._outlets.forget_markers()

    def _frames_are_theirs(self) -> bool:
        """Whether the frames' names are those that a ROS4HRI detector publishes itself."""
        return self._detector.kind == "hri" and self._settings.tf_prefix == HRI_PREFIX

    def _refuse(self, cause: str, text: str) -> None:
        self._statistics.count(cause)
        self._complaints.error(cause, f"message refused: {text}")

    # Parameters and diagnostics.

    def _check_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        try:
            node_parameters.change(self._settings, changes, self._resources is None)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, changes: Sequence[Parameter]) -> None:
        self._settings = node_parameters.change(self._settings, changes, self._resources is None)

    def _all_facts(self) -> dict[str, str]:
        detector, settings = self._detector, self._settings
        return {
            **self._facts,
            "input": f"{detector.kind} on {detector.topic}",
            "scale": self._anchors.description(settings),
            "tf": f"{settings.tf_prefix}<id>" if self._frames else "none",
        }

    def _publish_diagnostics(self) -> None:
        configured = self._resources is not None
        about = About(
            active=self._stream is not None,
            failure=self._failure,
            topic=self._detector.topic if configured else "",
            publishers=self._detector.publishers() if configured else 0,
            trouble=self._detector.trouble if configured else "",
            facts=self._all_facts() if configured else {},
        )
        name, now = self.get_fully_qualified_name(), time.monotonic()
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [self._statistics.status(name, self._facts.get("engine", ""), about, now)]
        self._diagnostics.publish(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; 0, or 1 if its parameters are wrong."""
    return process.run(MeshNode, "mesh_node", arguments)


if __name__ == "__main__":
    sys.exit(main())
