# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: subscribes to a detector's keypoints, publishes body meshes in metres.

A worker thread processes frames (`frame_worker.py`) under the lock that transitions and model swaps
take (`guarded_node.py`), so these happen between two frames in any executor.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo

from key2mesh_core.camera.choose import Camera
from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator, GpuOptions
from key2mesh_core.people.messages import MessageRefused

from . import parameters as node_parameters
from . import process
from .anchors import Anchors
from .detectors import Detector, ReceivedReader
from .diagnostics import PUBLISH, READ, About, FrameStatistics, Stages
from .frame_worker import FrameWorker
from .guarded_node import GuardedNode
from .model_loader import ModelLoader
from .parameters import ParameterError, Parameters
from .publishers import Publishers
from .qos import NEWEST
from .stream import Result, Stream, warm_up
from .transforms import BodyFrames, TFMessage


class MeshNode(GuardedNode):
    """Subscribes `~/keypoints` and `~/camera_info`; publishes `~/meshes`, `~/topology`,
    `~/markers`, `/tf` and `/diagnostics`; serves `~/load_model`. See docs/node.md.

    Works in any executor.

    Raises:
        ParameterError, rclpy.exceptions.ParameterException: a parameter has a wrong value.
    """

    def __init__(self, **options: Any) -> None:
        self._statistics = FrameStatistics(time.monotonic())
        options = {"automatically_declare_parameters_from_overrides": True, **options}
        super().__init__("mesh_node", **options)
        self._resources: ExitStack | None = None  # of the configured node, like the next
        self._outputs: Publishers | None = None
        self._stream: Stream | None = None  # of the active node, like the next
        self._worker: FrameWorker | None = None
        self._camera_info: CameraInfo | None = None
        self._facts: dict[str, str] = {}
        self._settings: Parameters = node_parameters.declare(self)
        refuse = self.guarded(self._check_parameters, _refused)
        self.add_on_set_parameters_callback(refuse)
        self.add_post_set_parameters_callback(self.guarded(self._take_parameters))
        self._loader = ModelLoader(self, lambda: self._resources, self._open, self._swap)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A steady clock: diagnostics continue while simulated time is paused.
        self._timer = self.create_timer(
            self._settings.diagnostics_period,
            self._publish_diagnostics,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def start(self) -> None:
        """Configure and activate, if the parameter `autostart` says so."""
        wanted, success = self._settings.autostart, TransitionCallbackReturn.SUCCESS
        if wanted and self.trigger_configure() == success:
            self.trigger_activate()

    def destroy_node(self) -> None:
        worker = self._worker
        with self.lock:  # the current frame is finished first
            self._release()
        if worker is not None:
            worker.join()
        super().destroy_node()

    def on_callback_error(self, error: Exception) -> None:
        self._statistics.count("callback_failed")

    # Transitions.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.transition("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.transition("activate", lambda: self._activate(state))

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.transition("deactivate", lambda: self._deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.transition("cleanup", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        def stop() -> None:
            self._deactivate(state)
            self._release()

        return self.transition("shutdown", stop)

    def _configure(self) -> None:
        settings = self._settings
        with ExitStack() as resources:  # undone in reverse, also when a step fails
            self._estimator = self._open(settings.model)
            resources.callback(lambda: self._estimator.close())  # of that time
            self._outputs = Publishers(self, resources, self._estimator.bundle)
            cameras = self.create_subscription(
                CameraInfo, "~/camera_info", self._on_camera_info, NEWEST
            )
            resources.callback(self.destroy_subscription, cameras)
            self._camera_topic = cameras.topic_name
            self._body_frames = None
            if settings.tf_prefix and TFMessage is not None:
                self._body_frames = BodyFrames(self, resources, settings.tf_prefix)
            self._anchors = Anchors(self, resources, settings)
            warm_up(self._estimator, self._anchors, settings)
            kind, callback = settings.input_type, self._on_keypoints
            self._detector = Detector(self, resources, kind, callback, self._refuse)
            self._resources = resources.pop_all()
        self._facts = self._facts_of_model()
        facts = ", ".join(f"{key} {value}" for key, value in self._facts.items())
        self.get_logger().info(f"configured: {facts}, from {self._detector.topic}")

    def _open(self, model: str) -> Estimator:
        """A warmed-up estimator; `load_model` calls this in its own thread."""
        asked = self._settings
        gpu = GpuOptions(fp16=asked.gpu_fp16, cuda_graphs=asked.gpu_cuda_graphs)
        estimator = Estimator(load_bundle(model), asked.backend, asked.threads, gpu)
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
        """Continue with another model, between two frames."""
        before = self._estimator
        self._outputs.change_bundle(estimator.bundle)
        if self._stream is not None:
            self._stream.change_estimator(estimator)
        self._estimator = estimator
        self._facts |= self._facts_of_model()
        # The parameter names the current model, so that configuring again loads it again.
        self._settings = replace(self._settings, model=model)
        self.set_parameters([Parameter("model", value=model)])
        threading.Thread(target=before.close, daemon=True).start()  # closing may take a while

    def _activate(self, state: LifecycleState) -> None:
        super().on_activate(state)
        self._statistics.restart(time.monotonic())
        self._stream = Stream(self._estimator, self._statistics, self._anchors)
        self._worker = FrameWorker(
            self.guarded(partial(self._answer, self._stream)),
            lambda: self._statistics.count("dropped"),
            self._patience,
        )

    def _deactivate(self, state: LifecycleState) -> None:
        self._end_stream()
        if self._outputs is not None:  # else this is a shutdown before a configuration
            self._outputs.delete_markers()
        super().on_deactivate(state)

    def _end_stream(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._stream = self._worker = None

    def _release(self) -> None:
        self._end_stream()
        self._outputs = self._camera_info = None
        self._facts = {}
        resources, self._resources = self._resources, None
        if resources is not None:
            resources.close()

    # Messages.

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message
        if (worker := self._worker) is not None:
            worker.release()

    def _on_keypoints(self, received: Any, info: dict[str, Any]) -> None:
        if (worker := self._worker) is None:
            return
        self._statistics.arrived(time.monotonic(), info.get("publication_sequence_number"))
        # `auto` may change the detector before the frame is processed.
        worker.put(received, self._detector.read, info)

    def _patience(self) -> float:
        """How long [s] the first frame may wait for CameraInfo."""
        settings = self._settings
        if self._camera_info is not None or settings.camera.stated:
            return 0.0
        expected = self.count_publishers(self._camera_topic) > 0
        return settings.camera_info_timeout if expected else 0.0

    def _answer(
        self, stream: Stream, received: Any, read: ReceivedReader, info: dict[str, Any]
    ) -> None:
        if stream is not self._stream:
            return  # deactivated in the meantime
        self._statistics.count("frames")
        stages, settings = Stages(self._since(info)), self._settings
        try:
            frame = read(received, self._camera_info, settings.camera)
            stages.end(READ)
            vertices = settings.publish_vertices or self._outputs.marking
            result = stream.estimate(frame, self._camera_info, settings, vertices, stages)
            self._outputs.publish_meshes(result, settings)
            stages.end(PUBLISH)
            self._statistics.published(self._since(info), stages.seconds, len(result.bodies))
            stream.note(result, self.get_clock().now().nanoseconds)
            self._publish_more(result)
        except MessageRefused as error:
            self._refuse(error.cause, str(error))
        except EngineError as error:
            self._refuse("engine_failed", str(error))
        except Exception:  # one bad message must not end the node
            if self.context.ok():  # else ROS was shut down: nothing to report
                self._refuse("failed", traceback.format_exc())

    @staticmethod
    def _since(info: dict[str, Any]) -> float:
        """Seconds since the middleware received a message, including the wait for the executor."""
        return 1e-9 * (time.time_ns() - info["received_timestamp"])

    def _publish_more(self, result: Result) -> None:
        """Publish what may follow the meshes: TF and markers."""
        frames = self._body_frames
        if frames is not None and frames.prefix != self._detector.kind.tf_prefix:
            frames.publish(result.header, result.frame.ids, result.bodies)
        self._tell_camera(result.frame.camera)
        self._outputs.publish_markers(result, self._settings)

    def _tell_camera(self, camera: Camera) -> None:
        """Log the camera in use, and the reasons to doubt it, when either changes."""
        told = camera.description, "; ".join(camera.reasons) or "none"
        if told != (self._facts.get("camera"), self._facts.get("camera_doubts")):
            if self._facts.get("camera") != camera.description:
                self.get_logger().info(f"camera: {camera.description}")
            for name, reason in zip(camera.warnings, camera.reasons, strict=True):
                self.throttled_log.warning(name, reason)
            self._facts["camera"], self._facts["camera_doubts"] = told

    def _refuse(self, cause: str, text: str) -> None:
        self._statistics.count(cause)
        self.throttled_log.error(cause, f"message refused: {text}")

    # Parameters and diagnostics.

    def _check_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        try:
            node_parameters.change(self._settings, changes, self._resources is None)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, changes: Sequence[Parameter]) -> None:
        # Already checked; those that may change only while unconfigured take effect at configure.
        self._settings = node_parameters.change(self._settings, changes, True)

    def _publish_diagnostics(self) -> None:
        about = About(active=self._stream is not None, failure=self.failure)
        if self._resources is not None:
            detector, frames = self._detector, self._body_frames
            facts = {
                **self._facts,
                "input": f"{detector.kind.name} on {detector.topic}",
                "scale": self._anchors.description(self._settings),
                "tf": f"{frames.prefix}<id>" if frames else "none",
            }
            seen = detector.topic, detector.publishers(), detector.trouble
            about = About(about.active, about.failure, *seen, facts)
        name, now = self.get_fully_qualified_name(), time.monotonic()
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [self._statistics.status(name, self._facts.get("engine", ""), about, now)]
        self._diagnostics.publish(message)


def _refused(error: Exception, _changes: Sequence[Parameter]) -> SetParametersResult:
    return SetParametersResult(successful=False, reason=f"{error!r}: see the node's log")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; 0, or 1 if its parameters are wrong."""
    return process.run(MeshNode, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
