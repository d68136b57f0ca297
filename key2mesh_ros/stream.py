# SPDX-License-Identifier: Apache-2.0
"""Estimates the bodies of frames, and keeps the state from one frame to the next."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import ArrayLike, NDArray
from std_msgs.msg import Header

from key2mesh_core.errors import CameraError
from key2mesh_core.keypoints.arrays import MINIMUM_KEYPOINTS, person_sizes, unusable
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people import tracking
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.camera_memory import CameraMemory
from key2mesh_core.people.messages import MessageRefused
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.people.position_uncertainty import with_position_covariance
from key2mesh_core.people.quality import is_misfit
from key2mesh_core.people.smoothing import Smoother
from key2mesh_core.people.stamps import StampOrder

from .anchors import Anchors
from .diagnostics import MESH, POSE, SELECT, STEADY, FrameStatistics, Stages
from .parameters import Parameters

FUTURE_TOLERANCE_NS = 100_000_000
"""The synchronised clocks of two machines differ by less than this [ns]."""


@dataclass(frozen=True, eq=False)
class Result:
    """The bodies of a frame's people, each with a name; the frame has the camera. `warnings` are
    causes to doubt the result, by their names in the diagnostics."""

    frame: PersonFrame
    bodies: Bodies
    warnings: tuple[str, ...]

    @property
    def header(self) -> Header:
        """The header of the messages published for the frame."""
        return header_of(self.frame)


class Stream:
    """The frames of one detector since the node's activation. Not thread-safe.

    Keeps the newest stamp, the tracks and the filters' state until the clock jumps back.
    """

    def __init__(
        self, estimator: Estimator, statistics: FrameStatistics, anchors: Anchors | None = None
    ) -> None:
        self._estimator, self._anchors, self._statistics = estimator, anchors, statistics
        self._order = StampOrder()
        self._cameras = CameraMemory()
        self._tracker = tracking.Tracker()
        self._smoother = Smoother(estimator.bundle.parents)

    def estimate(
        self,
        frame: PersonFrame,
        camera_info: Any | None,
        settings: Parameters,
        vertices: bool,
        stages: Stages,
    ) -> Result:
        """Estimate the bodies of a frame's people; count the people who are left out.

        Args:
            camera_info: the newest sensor_msgs/CameraInfo, or None.
            vertices: whether to make meshes.
            stages: this frame's stages; `SELECT` to `MESH` end here.

        Raises:
            MessageRefused: `late`; `no_image_size`, if the camera needs the size.
            EngineError: the engine failed.
        """
        count = self._statistics.count
        warnings = self._check_stamp(frame.stamp_ns)
        frame = frame.in_network_order()
        try:
            frame = frame.seen_by(self._cameras.choose(frame, camera_info, settings.camera))
        except CameraError as error:
            raise MessageRefused("no_image_size", str(error)) from error
        camera = frame.camera
        warnings += (*frame.warnings, *camera.warnings)
        frame, sizes, left_out = select_people(frame, settings.min_keypoints, settings.max_people)
        for cause, number in left_out.items():
            count(cause, number)
        if tracking.unshared(frame.ids) != frame.ids:
            warnings += ("repeated_id",)
        stages.end(SELECT)
        bodies = self._estimator.estimate_poses(frame.keypoints, camera.intrinsics, sizes)
        stages.end(POSE)
        if is_misfit(bodies.reprojection_error, sizes).any():
            warnings += ("misfit",)
        size_known: ArrayLike = False
        if self._anchors is not None and self._anchors.wanted(settings):
            guessed = bodies.betas
            bodies = self._anchors.apply(bodies, frame, settings, self._estimator, count)
            size_known = (bodies.betas != guessed).any(axis=1)
        bodies = with_position_covariance(
            bodies, frame.keypoints, sizes, camera.intrinsics.fx, camera.metric, size_known
        )
        frame, bodies = self._steady(frame, bodies, settings)
        stages.end(STEADY)
        if vertices:
            bodies = self._estimator.add_vertices(bodies)
        stages.end(MESH)
        return Result(frame, bodies, warnings)

    def note(self, result: Result, now_ns: int) -> None:
        """Count the reasons to doubt a frame whose bodies are published at the node's time [ns]."""
        for cause in (*header_warnings(result.frame, now_ns), *result.warnings):
            self._statistics.count(cause)

    def change_estimator(self, estimator: Estimator) -> None:
        """Continue with another model. People keep their names; smoothing starts over."""
        self._smoother = Smoother(estimator.bundle.parents, self._smoother.settings)
        self._estimator = estimator

    def _check_stamp(self, stamp_ns: int) -> tuple[str, ...]:
        """Causes to doubt the stamp; restarts the stream if the clock jumped back."""
        cause = self._order.check(stamp_ns)
        if cause == "clock_jump":
            self._tracker.reset()
            self._smoother.reset()
            self._statistics.restart(time.monotonic())
        return (cause,) if cause else ()

    def _steady(
        self, frame: PersonFrame, bodies: Bodies, settings: Parameters
    ) -> tuple[PersonFrame, Bodies]:
        """Name all people, leave out bodies of too low quality, smooth the others."""
        stamp = frame.stamp_ns
        for each in (self._tracker, self._smoother):
            if each.settings.timeout_s != settings.track_timeout:
                each.settings = replace(each.settings, timeout_s=settings.track_timeout)
        ids = self._tracker.name(frame.ids, frame.keypoints, stamp)
        if ids != frame.ids:
            frame = replace(frame, ids=ids)
        if settings.min_quality > 0 and len(bodies) and bodies.quality.min() < settings.min_quality:
            good = np.flatnonzero(bodies.quality >= settings.min_quality)
            self._statistics.count("low_quality", len(bodies) - len(good))
            bodies, frame = bodies.select(good), frame.select(good)
        if settings.smoothing:
            bodies = self._smoother.smooth(frame.ids, bodies, stamp)
        return frame, bodies


def warm_up(estimator: Estimator, anchors: Anchors, settings: Parameters) -> None:
    """Import and run everything that a frame with two unnamed people needs, so that the first frame
    takes no longer than others."""
    tracking.warm_up()
    if anchors.wanted(settings):
        anchors.warm_up(estimator)


def header_of(frame: PersonFrame) -> Header:
    """The header of the messages published for a frame: its stamp, unchanged, and the optical
    frame."""
    seconds, nanoseconds = divmod(frame.stamp_ns, 1_000_000_000)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame.frame_id)


def select_people(
    frame: PersonFrame, min_keypoints: int, max_people: int
) -> tuple[PersonFrame, NDArray[np.float32], dict[str, int]]:
    """The people to estimate, in the message's order, their sizes [px], and the number of those
    left out, by cause: people with fewer than `min_keypoints` usable keypoints or all of them on
    one spot, and, beyond `max_people`, the smallest.
    """
    sizes = person_sizes(frame.keypoints)
    few, spot = unusable(frame.keypoints, sizes, max(min_keypoints, MINIMUM_KEYPOINTS))
    chosen = np.flatnonzero(~(few | spot))
    if len(chosen) == len(frame) <= max_people:
        return frame, sizes, {}
    causes = ("too_few_keypoints", few), ("all_on_one_spot", spot)
    left_out = {cause: int(which.sum()) for cause, which in causes if which.any()}
    if len(chosen) > max_people:
        left_out["over_max_people"] = len(chosen) - max_people
        largest = np.argsort(-sizes[chosen], kind="stable")[:max_people]
        chosen = np.sort(chosen[largest])
    return frame.select(chosen), sizes[chosen], left_out


def header_warnings(frame: PersonFrame, now_ns: int) -> list[str]:
    """Causes to doubt a frame's stamp and frame_id, by their names in the diagnostics, at the
    node's time [ns]; 0 while simulated time has not begun."""
    causes = []
    if not frame.frame_id:
        causes.append("empty_frame_id")
    if frame.stamp_ns == 0:
        causes.append("zero_stamp")
    elif now_ns and frame.stamp_ns > now_ns + FUTURE_TOLERANCE_NS:
        causes.append("future_stamp")
    return causes
