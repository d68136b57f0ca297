# SPDX-License-Identifier: Apache-2.0
"""Prepares the people in a recording for estimation, and counts those who are dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from key2mesh_core.errors import CameraError, TargetError
from key2mesh_core.keypoints.arrays import person_sizes, seen_counts, unusable
from key2mesh_core.keypoints.table import number_of
from key2mesh_core.people.camera_memory import CameraMemory
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.people.tracking import unshared
from key2mesh_core.recordings.options import RecordingOptions

_TRUNK = [number_of(name) for name in ("neck", "right_hip", "left_hip")]
_MANY, _FEW = 20, 0.05


@dataclass(frozen=True)
class DroppedRecords:
    """Messages, images and persons that were left out: number and first example by cause."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, cause: str, example: str, count: int = 1) -> None:
        """Adds `count` to a cause; keeps the first example of a cause."""
        if count:
            self.counts[cause] += count
            self.examples.setdefault(cause, example)

    def __str__(self) -> str:
        """The causes, the most frequent first, each with its first example."""
        return "; ".join(
            f"{count} x {cause} (first: {self.examples[cause]})"
            for cause, count in self.counts.most_common()
        )


@dataclass
class Preparation:
    """Prepares the frames of one recording, in order, and counts what is left out.

    Attributes:
        options: the user's options.
        dropped: what was left out.
        warnings: the name of each warning, with the first reason.
        images, persons: number of prepared frames, and of usable people in them.
    """

    options: RecordingOptions
    dropped: DroppedRecords = field(default_factory=DroppedRecords)
    warnings: dict[str, str] = field(default_factory=dict)
    images: int = 0
    persons: int = 0
    _trunks: int = 0
    _upright: int = 0
    _cameras: dict[str, CameraMemory] = field(default_factory=dict)

    def prepare(self, frame: PersonFrame, info: Any | None = None) -> PersonFrame:
        """The frame in the network's order, sanitised, with its camera chosen and the lens undone,
        without unusable people, and without ids that several people share.

        Args:
            frame: as it was read. A camera that it already has from its file is kept unless the
                user states another.
            info: the sensor_msgs/CameraInfo of its camera, or None.

        Raises:
            CameraError: the image size is needed but unknown.
            KeypointError: the keypoints do not have the layout's shape.
        """
        camera, frame = frame.camera, frame.in_network_order()
        if camera is None or self.options.camera.stated:
            memory = self._cameras.setdefault(frame.stream, CameraMemory())
            try:
                camera = memory.choose(frame, info, self.options.camera)
            except CameraError:
                if self.options.need_camera:
                    raise
                camera = None
        frame = frame if camera is None else frame.seen_by(camera)
        for doubted in (frame, *([frame.camera] if frame.camera else ())):
            for warning, reason in zip(doubted.warnings, doubted.reasons, strict=True):
                self.warnings.setdefault(warning, reason)
        frame = self._usable(frame)
        ids = unshared(frame.ids)
        if shared := sorted({*frame.ids} - {*ids}):
            self.warnings.setdefault(
                "repeated_id",
                f"people share the id {shared[0]!r} in one image ({frame.place}, e.g.): "
                "they have no id there; let the detector's tracker give each person an id, or none",
            )
            frame = replace(frame, ids=ids)
        neck, *hips = (frame.keypoints[:, number] for number in _TRUNK)
        trunk = (neck - (hips[0] + hips[1]) / 2)[(neck * hips[0] * hips[1])[:, 2] > 0]
        self._trunks += len(trunk)
        self._upright += np.count_nonzero(trunk[:, 1] < -abs(trunk[:, 0]))
        self.images += 1
        self.persons += len(frame)
        return frame

    def end(self, name: str) -> None:
        """Check at the end of the recording that there was anybody, and that not everybody is
        sideways or upside down. Raises TargetError with every cause if there was no usable
        person."""
        if not self.persons:
            dropped = [str(self.dropped)] if self.dropped.counts else []
            causes = "; ".join([*dropped, *self.warnings.values()]) or "it is empty"
            raise TargetError(
                f"{name}: {self.images} images were read, but no usable person was found in "
                f"them: {causes}"
            )
        if self._trunks >= _MANY and self._upright < _FEW * self._trunks:
            self.warnings["nobody_upright"] = (
                f"{self._upright} of {self._trunks} people are upright: check that x is to the "
                "right and y down, and not the reverse, and that the camera is not rotated"
            )

    def _usable(self, frame: PersonFrame) -> PersonFrame:
        """The people who can be estimated; the others are counted."""
        where = frame.place
        if not len(frame):
            self.dropped.add("nobody_in_image", where)
            return frame
        sizes = person_sizes(frame.keypoints)
        few, spot = unusable(frame.keypoints, sizes, self.options.minimum)
        good = ~(few | spot)
        if good.all():
            return frame
        seen = seen_counts(frame.keypoints)
        few &= seen > 0
        causes = (
            ("no_keypoints", seen == 0, ""),
            ("too_few_keypoints", few, f" with {seen[np.argmax(few)]}"),
            ("all_on_one_spot", spot, ": coordinates are pixels, not 0 to 1"),
        )
        for cause, which, hint in causes:
            self.dropped.add(cause, where + hint, int(which.sum()))
        return frame.select(good)
