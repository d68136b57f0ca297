# SPDX-License-Identifier: Apache-2.0
"""What every reader of detections yields: the persons of an image, and what it left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics


@dataclass(frozen=True, eq=False)
class Detections:
    """The persons of one image, as the detector gave them.

    Attributes:
        stream: what the image belongs to (a topic, a camera, a folder): images of one stream
            follow one another in time.
        frame: the image's place in its stream; grows, and a gap is a gap in time.
        ids: N names of persons; an empty one where the format names nobody.
        keypoints: (N, 18, 3) float32 x px, y px, confidence in the network's order; not sanitised.
        width, height: of the image [px]; 0 where unknown.
        intrinsics: of the image, where they are known; its keypoints are then a pinhole camera's,
            the lens undone.
        take: the recording by several cameras at once that the stream is one camera's view of;
            images of one take with the same `frame` number were taken at the same moment. Empty
            where nobody says so.
    """

    stream: str
    frame: int
    ids: tuple[str, ...]
    keypoints: NDArray[np.float32]
    width: int = 0
    height: int = 0
    intrinsics: Intrinsics | None = None
    take: str = ""


@dataclass(frozen=True)
class Losses:
    """What was left out while reading: how often for each cause, and the first example of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, cause: str, example: str, count: int = 1) -> None:
        """Note `count` losses of one cause; the first example of a cause is kept."""
        if count:
            self.counts[cause] += count
            self.examples.setdefault(cause, example)

    def __str__(self) -> str:
        """One cause after the other, each with its first example."""
        return "; ".join(
            f"{count} x {cause} (first: {self.examples[cause]})"
            for cause, count in self.counts.most_common()
        )
