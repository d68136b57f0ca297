# SPDX-License-Identifier: Apache-2.0
"""The persons of many images to bodies, by few and large runs of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera import Intrinsics
from key2mesh_core.estimator import Bodies, Estimator
from key2mesh_core.keypoints import sanitise, usable_sanitised

BATCH_PERSONS = 256
"""About as many persons go to the engine at once: larger batches are no faster."""

BATCH_IMAGES = 1024
"""At most so many images, however few people are in them."""


@dataclass(frozen=True, eq=False)
class Image:
    """The persons of one image who can be estimated.

    Attributes:
        number: the image's place in its recording, from 0.
        name: what it is called, where it has a name.
        stamp_ns: when it was taken [ns].
        ids: N names, as the detector or a tracker gave them; may be empty.
        keypoints: (N, 18, 3) x px, y px, confidence, sanitised.
        intrinsics: the camera's.
    """

    number: int
    name: str
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
    """

    def __init__(self, estimator: Estimator, vertices: bool) -> None:
        self._estimator = estimator
        self._vertices = vertices

    def make(self, images: Sequence[Image]) -> Bodies:
        """The bodies of the images' persons, one image's after the other.

        Raises:
            EngineError: see `Estimator.estimate`.
        """
        bodies = estimate(self._estimator, images)
        return self._estimator.add_vertices(bodies) if self._vertices else bodies

    def recall(self, images: Sequence[Image]) -> None:
        """Images that an earlier process has made the bodies of: what is remembered of them."""


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
