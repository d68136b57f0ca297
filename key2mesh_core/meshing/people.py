# SPDX-License-Identifier: Apache-2.0
"""The persons of many images to bodies, by few and large runs of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.keypoints.arrays import sanitise, usable_sanitised
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.smoothing import Smoother
from key2mesh_core.people.tracking import Tracker

BATCH_PERSONS = 256
"""About as many persons go to the engine at once: larger batches are no faster."""

BATCH_IMAGES = 1024
"""At most so many images, however few people are in them."""


@dataclass(frozen=True, eq=False)
class Image:
    """The persons of one image who can be estimated.

    Attributes:
        number: the image's place in what is read, from 0.
        frame: its number in its recording or in its file's name: a gap is a gap in time.
        stamp_ns: when it was taken [ns].
        ids: N names, as the detector or a tracker gave them; may be empty.
        keypoints: (N, 18, 3) x px, y px, confidence, sanitised.
        intrinsics: the camera's.
    """

    number: int
    frame: int
    stamp_ns: int
    ids: tuple[str, ...]
    keypoints: NDArray[np.float32]
    intrinsics: Intrinsics


def usable_people(
    ids: Sequence[str], keypoints: NDArray[np.float32]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """(names, sanitised keypoints) of those of N persons who have enough keypoints to be estimated.

    Args:
        keypoints: (N, 18, 3) in the network's order.
    """
    clean = sanitise(keypoints)
    chosen = np.flatnonzero(usable_sanitised(clean))
    return tuple(ids[i] for i in chosen), clean[chosen]


def batches(images: Iterable[Image]) -> Iterator[list[Image]]:
    """Images in groups of about `BATCH_PERSONS` persons."""
    batch: list[Image] = []
    persons = 0
    for image in images:
        batch.append(image)
        persons += len(image.ids)
        if persons >= BATCH_PERSONS or len(batch) >= BATCH_IMAGES:
            yield batch
            batch, persons = [], 0
    if batch:
        yield batch


class MeshMaker:
    """Makes the bodies of successive images.

    Args:
        vertices: whether to make the meshes' points.
        smooth: whether to follow persons from image to image and to steady their motion.
    """

    def __init__(self, estimator: Estimator, vertices: bool, smooth: bool = False) -> None:
        self._estimator = estimator
        self._vertices = vertices
        self._steady = _Steady(estimator) if smooth else None

    def make(self, images: Sequence[Image]) -> tuple[Sequence[Image], Bodies]:
        """The images, their persons named if they are followed, and the bodies of all their
        persons, one image's after the other.

        Raises:
            EngineError: see `Estimator.estimate`.
        """
        bodies = estimate(self._estimator, images)
        if self._steady is not None:
            images, bodies = self._steady.smooth(images, bodies)
        return images, self._estimator.add_vertices(bodies) if self._vertices else bodies

    def recall(self, images: Sequence[Image]) -> None:
        """Images that an earlier process has made the bodies of: what follows hangs on them."""
        if self._steady is not None:
            self._steady.smooth(images, estimate(self._estimator, images))


class _Steady:
    """What is remembered from image to image, as by the node."""

    def __init__(self, estimator: Estimator) -> None:
        self._tracker = Tracker()
        self._smoother = Smoother(estimator.bundle.parents)
        self._last = 0

    def smooth(self, images: Sequence[Image], bodies: Bodies) -> tuple[list[Image], Bodies]:
        named, parts, first = [], [], 0
        for image in images:
            if image.stamp_ns < self._last:  # the recording begins again
                self._tracker.reset()
                self._smoother.reset()
            self._last = image.stamp_ns
            ids = self._tracker.name(image.ids, image.keypoints, image.stamp_ns)
            last = first + len(ids)
            here = bodies.select(np.arange(first, last))
            parts.append(self._smoother.smooth(ids, here, image.stamp_ns))
            named.append(replace(image, ids=ids))
            first = last
        return named, joined(parts) if parts else bodies


def estimate(estimator: Estimator, images: Sequence[Image]) -> Bodies:
    """The bodies of all the images' persons without vertices, in their order.

    Raises:
        EngineError: see `Estimator.estimate`.
    """
    cameras: dict[Intrinsics, list[int]] = {}  # nearly always one
    for index, image in enumerate(images):
        cameras.setdefault(image.intrinsics, []).append(index)
    if not cameras:
        return estimator.estimate_poses(np.zeros((0, 18, 3)), Intrinsics(1, 1, 0, 0))
    ends = np.cumsum([len(image.ids) for image in images])
    parts, order = [], []
    for intrinsics, members in cameras.items():
        keypoints = np.concatenate([images[i].keypoints for i in members])
        parts.append(estimator.estimate_poses(keypoints, intrinsics))
        order += [np.arange(ends[i] - len(images[i].ids), ends[i]) for i in members]
    return joined(parts).select(np.argsort(np.concatenate(order)))


def joined(parts: Sequence[Bodies]) -> Bodies:
    """Several groups of bodies as one."""
    values = {}
    for field in fields(Bodies):
        arrays = [getattr(part, field.name) for part in parts]
        values[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    return Bodies(**values)
