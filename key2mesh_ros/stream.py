# SPDX-License-Identifier: Apache-2.0
"""From a frame to its bodies, and what is remembered from one frame to the next."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from key2mesh_core.camera.lens import undistort
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.frames import stamp_ns_of
from key2mesh_core.people.smoothing import Smoother
from key2mesh_core.people.tracking import Tracker

from .anchors import Anchors
from .cameras import Camera, CameraMemory
from .diagnostics import FrameStatistics
from .inputs import Frame, header_warnings, select_people
from .parameters import Parameters
from .stages import MESH, POSE, SELECT, STEADY, Stages


@dataclass(frozen=True, eq=False)
class Result:
    """A frame's persons and their bodies.

    Attributes:
        frame: with the persons that were estimated.
        bodies: one per person.
        camera: the one they were seen by.
    """

    frame: Frame
    bodies: Bodies
    camera: Camera


class Stream:
    """The frames of one detector, from the node's activation on.

    Remembered are the last stamp, who was where, and how they moved; all of it is dropped in
    `_restart` when the clock jumps back.
    """

    def __init__(
        self,
        estimator: Estimator,
        statistics: FrameStatistics,
        anchors: Anchors | None = None,
    ) -> None:
        self._estimator = estimator
        self._anchors = anchors
        self._statistics = statistics
        self._last_stamp = 0
        self._cameras = CameraMemory()
        self._tracker = Tracker()
        self._smoother = Smoother(estimator.bundle.parents)

    def estimate(
        self,
        frame: Frame,
        camera_info: Any | None,
        settings: Parameters,
        vertices: bool,
        stages: Stages,
    ) -> Result:
        """The bodies of a frame's persons; who is left out is counted.

        Args:
            camera_info: the newest sensor_msgs/CameraInfo, or None.
            vertices: whether to make meshes.
            stages: of this frame; `SELECT` to `MESH` end here.

        Raises:
            MessageRefused: nothing is known about the camera, not even the image's size.
            EngineError: the engine failed.
        """
        count = self._statistics.count
        self._check_clock(stamp_ns_of(frame.header))
        camera = self._cameras.choose(camera_info, settings, frame)
        if camera.distortion is not None:
            straight = undistort(frame.keypoints, camera.intrinsics, camera.distortion)
            frame = replace(frame, keypoints=straight)
        frame, left_out = select_people(frame, settings.min_keypoints, settings.max_people)
        for cause, number in left_out.items():
            count(cause, number)
        stages.end(SELECT)
        # Selected they are usable; and clean, unless a lens has been undone since.
        clean = camera.distortion is None
        bodies = self._estimator.estimate_poses(frame.keypoints, camera.intrinsics, checked=clean)
        stages.end(POSE)
        if self._anchors is not None and self._anchors.wanted(settings):
            bodies = self._anchors.apply(bodies, frame, camera, settings, self._estimator, count)
        frame, bodies = self._steady(frame, bodies, settings)
        stages.end(STEADY)
        if vertices:
            bodies = self._estimator.add_vertices(bodies)
        stages.end(MESH)
        return Result(frame, bodies, camera)

    def note(self, result: Result, now_ns: int) -> None:
        """Count what is odd about a frame, once its bodies are out.

        Args:
            now_ns: the node's time [ns].
        """
        frame, camera = result.frame, result.camera
        for cause in (*header_warnings(frame.header, now_ns), *frame.warnings, *camera.warnings):
            self._statistics.count(cause)

    def _steady(self, frame: Frame, bodies: Bodies, settings: Parameters) -> tuple[Frame, Bodies]:
        """Names everybody, leaves out whom there is too much reason to doubt, steadies the rest."""
        stamp = stamp_ns_of(frame.header)
        for each in (self._tracker, self._smoother):
            if each.settings.timeout_s != settings.track_timeout:
                each.settings = replace(each.settings, timeout_s=settings.track_timeout)
        ids = self._tracker.name(frame.ids, frame.keypoints, stamp)
        if ids != frame.ids:
            frame = replace(frame, ids=ids)
        if settings.min_quality > 0 and len(bodies) and bodies.quality.min() < settings.min_quality:
            good = np.flatnonzero(bodies.quality >= settings.min_quality)
            self._statistics.count("low_quality", len(bodies) - len(good))
            bodies = bodies.select(good)
            ids = tuple(ids[person] for person in good)
            frame = replace(frame, ids=ids, keypoints=frame.keypoints[good])
        if settings.smoothing:
            bodies = self._smoother.smooth(ids, bodies, stamp)
        return frame, bodies

    def change_estimator(self, estimator: Estimator) -> None:
        """Go on with another model. Persons keep their names; what was smoothed was of a body
        of the model before."""
        self._estimator = estimator
        self._smoother = Smoother(estimator.bundle.parents, self._smoother.settings)

    def _check_clock(self, stamp: int) -> None:
        if stamp < self._last_stamp and stamp != 0:
            self._restart()
            self._statistics.count("clock_jump")
        self._last_stamp = stamp or self._last_stamp

    def _restart(self) -> None:
        self._last_stamp = 0
        self._tracker.reset()
        self._smoother.reset()
        self._statistics.restart(time.monotonic())
