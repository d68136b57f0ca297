# SPDX-License-Identifier: Apache-2.0
"""Sets the scale of bodies from measured depth, the floor or a known height."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from key2mesh_core.model import scale as scales
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.messages import MessageRefused
from key2mesh_core.people.person_frame import PersonFrame

from .depth import DepthSource
from .parameters import Parameters


class Anchors:
    """The scale sources of one configuration. Measured depth takes precedence over the floor, and
    the floor over the stated height of everybody. `resources` destroys the depth subscription."""

    def __init__(self, node: Any, resources: ExitStack, settings: Parameters) -> None:
        self._depth: DepthSource | None = None
        if settings.depth != "none":
            self._depth = DepthSource(node, resources, settings.depth)
        self._shapes: tuple[Estimator, scales.ShapeSpace] | None = None

    def wanted(self, settings: Parameters) -> bool:
        """Whether any source is configured."""
        return self._depth is not None or settings.body_height > 0 or settings.camera_height > 0

    def description(self, settings: Parameters) -> str:
        """What sets the scale, in words, best source first."""
        known = [
            (self._depth is not None, f"depth {settings.depth}"),
            (settings.camera_height > 0, f"camera {settings.camera_height:g} m above the floor"),
            (settings.body_height > 0, f"people {settings.body_height:g} m tall"),
        ]
        return ", else ".join(text for so, text in known if so) or "the network's guess"

    def warm_up(self, estimator: Estimator) -> scales.ShapeSpace:
        """The shape space of the estimator's body, computed once in about 20 ms."""
        if self._shapes is None or self._shapes[0] is not estimator:
            self._shapes = estimator, scales.ShapeSpace.of(estimator)
        return self._shapes[1]

    def apply(
        self,
        bodies: Bodies,
        frame: PersonFrame,
        settings: Parameters,
        estimator: Estimator,
        count: Callable[[str, int], None],
    ) -> Bodies:
        """Scale bodies that have no vertices yet. People whose size no source measures keep their
        scale and are counted as `unanchored`.
        """
        if not len(bodies):
            return bodies
        shapes = self.warm_up(estimator)
        scale = np.full(len(bodies), np.nan)
        if self._depth is not None:
            try:
                lookup = self._depth.lookup(frame, settings.depth_max_age)
                scale = scales.depth_scale(bodies, frame.camera.intrinsics, lookup)
            except MessageRefused as error:
                count(error.cause, 1)
        if settings.camera_height > 0 and np.isnan(scale).any():
            down = scales.down_in_camera(
                math.radians(settings.camera_pitch_deg), math.radians(settings.camera_roll_deg)
            )
            floor = scales.ground_scale(bodies, frame.keypoints, settings.camera_height, down)
            scale = np.where(np.isnan(scale), floor, scale)
        if settings.body_height > 0 and np.isnan(scale).any():
            known = scales.height_scale(bodies, settings.body_height, shapes)
            scale = np.where(np.isnan(scale), known, scale)
        missing = int(np.isnan(scale).sum())
        if missing:
            count("unanchored", missing)
        return scales.rescale(bodies, scale, shapes)
