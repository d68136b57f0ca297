# SPDX-License-Identifier: Apache-2.0
"""The input of all methods, and the definition of a method.

The people are the demo's recorded detections, repeated with a little noise until there are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.floors import Stage
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.keypoints.arrays import bounding_boxes
from key2mesh_core.recordings.open import open_recording

RECORDING = Path(__file__).parents[1] / "demo" / "data" / "street"

Answer = Callable[[NDArray[np.float32], bool], NDArray[np.float32]]
"""keypoints (N, K, 3), with mesh or not -> vertices (N, V, 3) or joints (N, 24, 3) [m]."""


@dataclass(frozen=True)
class Contestant:
    """A method that estimates bodies from keypoints."""

    name: str
    answer: Answer
    device: str = "cpu"
    stages: tuple[Stage, ...] = ()
    """The work that a mesh needs at least; none where that says nothing."""
    same_network: bool = True
    """Whether its bodies must be those of the published network in PyTorch."""
    without_mesh: bool = True
    """Whether it is faster when nobody wants a mesh."""

    @property
    def label(self) -> str:
        """Its name, with its device if that is not the CPU."""
        return self.name if self.device == "cpu" else f"{self.name} ({self.device})"


@lru_cache(maxsize=1)
def _recorded() -> tuple[NDArray[np.float32], Intrinsics]:
    frames = list(open_recording(RECORDING))
    return np.concatenate([frame.keypoints for frame in frames]), frames[0].camera.intrinsics


def camera() -> Intrinsics:
    """The camera that saw them."""
    return _recorded()[1]


def people(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, K, 3) keypoints of people who can all be estimated; the first ones are the same
    whatever the count."""
    recorded = _recorded()[0]
    random = np.random.default_rng(seed)
    rounds = range(0, max(count, 1), len(recorded))
    order = np.concatenate([random.permutation(len(recorded)) for _ in rounds])
    keypoints = recorded[order[:count]]
    boxes = bounding_boxes(keypoints)
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    noise = random.normal(0.0, 0.005, (*keypoints.shape[:2], 2)) * size[:, None, None]
    # The recorded ones as they are; only their repetitions differ.
    noise[: len(recorded)] = 0
    keypoints[..., :2] += noise.astype(np.float32)
    return keypoints


def centred(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same keypoints, each person's box moved to the principal point: there the published
    network, which knows no viewing ray, sees what ours does."""
    boxes, intrinsics = bounding_boxes(keypoints), camera()
    middle = np.array([intrinsics.cx, intrinsics.cy], np.float32)
    moved = keypoints.copy()
    moved[..., :2] += (middle - (boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
    return moved


def difference_mm(
    points: NDArray[np.float32], reference: NDArray[np.float32]
) -> tuple[float, float]:
    """Largest and mean distance of points (N, P, 3) from the reference's [mm], each body by its own
    middle: where it stands is a ratio of small numbers, and another question."""
    found = points - points.mean(axis=1, keepdims=True)
    distance = np.linalg.norm(found - (reference - reference.mean(axis=1, keepdims=True)), axis=2)
    return 1e3 * float(distance.max()), 1e3 * float(distance.mean())


def largest_difference_mm(
    contestants: Sequence[Contestant], keypoints: NDArray[np.float32], reference: str
) -> dict[str, tuple[float, float]]:
    """Largest and mean distance of each contestant's vertices from those of `reference` [mm], for
    those that should not differ."""
    alike = [each for each in contestants if each.same_network]
    vertices = {each.label: each.answer(keypoints, True) for each in alike}
    return {name: difference_mm(each, vertices[reference]) for name, each in vertices.items()}
