# SPDX-License-Identifier: Apache-2.0
"""Estimates the bodies of many images' people with few, large engine batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from key2mesh_core.keypoints.arrays import person_sizes
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies, joined
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.people.position_uncertainty import with_position_covariance
from key2mesh_core.people.quality import GUESSED_CAMERA_QUALITY, is_misfit
from key2mesh_core.people.smoothing import Smoother
from key2mesh_core.people.tracking import Tracker

BATCH_PERSONS = 256
"""Approximate number of people per engine batch; larger batches are no faster."""

BATCH_IMAGES = 1024
"""Largest number of images per batch, however few people are in them."""

BATCH_BYTES = 64 << 20
"""Largest part of a recording held in memory [bytes]: there may be images between keypoints."""

T = TypeVar("T")


def batches(items: Iterable[T], measure: Callable[[T], tuple[int, int, int]]) -> Iterator[list[T]]:
    """Groups items into engine batches, by the number of people, images and bytes in each."""
    batch: list[T] = []
    sizes = [0, 0, 0]
    for item in items:
        batch.append(item)
        sizes = [total + more for total, more in zip(sizes, measure(item), strict=True)]
        if sizes[0] >= BATCH_PERSONS or sizes[1] >= BATCH_IMAGES or sizes[2] >= BATCH_BYTES:
            yield batch
            batch, sizes = [], [0, 0, 0]
    if batch:
        yield batch


class MeshMaker:
    """Makes the bodies of successive frames of a recording, optionally with `vertices`, tracking
    and smoothing (`smooth`).

    Attributes:
        made, misfits: number of bodies that `make` has made, and of those that miss their keypoints
            (`quality.is_misfit`).
    """

    def __init__(self, estimator: Estimator, vertices: bool, smooth: bool = False) -> None:
        self._estimator = estimator
        self._vertices, self._smooth = vertices, smooth
        self._streams: dict[str, _Stream] = {}
        self.made = self.misfits = 0

    def make(self, frames: Sequence[PersonFrame]) -> tuple[Sequence[PersonFrame], Bodies]:
        """The frames with people's names (tracked, if smoothed), and the bodies of all their
        people, one frame after the other.
        """
        named, bodies = frames, estimate(self._estimator, frames)
        if len(bodies):
            sizes = np.concatenate([person_sizes(frame.keypoints) for frame in frames])
            self.made += len(bodies)
            self.misfits += int(is_misfit(bodies.reprojection_error, sizes).sum())
        if self._smooth:
            named, bodies = self._smoothed(frames, bodies)
        return named, self._estimator.add_vertices(bodies) if self._vertices else bodies

    def recall(self, frames: Sequence[PersonFrame]) -> None:
        """Replays frames whose bodies an earlier process has made, because later ones depend on
        them."""
        if self._smooth:
            self._smoothed(frames, estimate(self._estimator, frames))

    def _smoothed(
        self, frames: Sequence[PersonFrame], bodies: Bodies
    ) -> tuple[list[PersonFrame], Bodies]:
        named, parts, first = [], [], 0
        for frame in frames:
            here = bodies.select(np.arange(first, first + len(frame)))
            first += len(frame)
            if (stream := self._streams.get(frame.stream)) is None:
                stream = _Stream(Smoother(self._estimator.bundle.parents))
                self._streams[frame.stream] = stream
            if frame.stamp_ns < stream.last_ns:  # the recording begins again
                stream.tracker.reset()
                stream.smoother.reset()
            stream.last_ns = frame.stamp_ns
            ids = stream.tracker.name(frame.ids, frame.keypoints, frame.stamp_ns)
            named.append(replace(frame, ids=ids))
            parts.append(stream.smoother.smooth(ids, here, frame.stamp_ns))
        return named, joined(parts) if parts else bodies


@dataclass
class _Stream:
    """The state of a stream from image to image, as in the node."""

    smoother: Smoother
    tracker: Tracker = field(default_factory=Tracker)
    last_ns: int = -1


def estimate(estimator: Estimator, frames: Sequence[PersonFrame]) -> Bodies:
    """The bodies of all people in the frames, in order, without vertices; with a guessed camera,
    quality is at most `GUESSED_CAMERA_QUALITY`.
    """
    seen = [frame for frame in frames if len(frame)]
    keypoints = [np.zeros((0, len(NETWORK_KEYPOINTS), 3), np.float32), *(f.keypoints for f in seen)]
    keypoints, counts = np.concatenate(keypoints), [len(frame) for frame in seen]
    cameras = [frame.camera.intrinsics.as_array() for frame in seen]
    intrinsics = np.repeat(np.reshape(cameras, (-1, 4)), counts, axis=0)
    metric = np.repeat(np.array([frame.camera.metric for frame in seen], bool), counts)
    bodies = estimator.estimate_poses(keypoints, intrinsics)
    most = np.where(metric, np.float32(1.0), np.float32(GUESSED_CAMERA_QUALITY))
    bodies = replace(bodies, quality=np.minimum(bodies.quality, most))
    sizes = person_sizes(keypoints)
    return with_position_covariance(bodies, keypoints, sizes, intrinsics[:, 0], metric)
