# SPDX-License-Identifier: Apache-2.0
"""Counts and measures the demo's result, and decides whether it succeeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from key2mesh_core.people.person_frame import PersonFrame

ENOUGH = 0.95
"""Share of the frames with a usable person that must come back as meshes."""


@dataclass
class Outcome:
    """Filled while the recording plays; frames are identified by their stamps [ns]."""

    usable: frozenset[int]
    sent: dict[int, int] = field(default_factory=dict)  # stamp -> when [ns]
    answered: dict[int, int] = field(default_factory=dict)  # stamp -> when [ns], mesh or not
    meshes: set[int] = field(default_factory=set)
    errors: list[float] = field(default_factory=list)  # px, one per person

    @classmethod
    def expected_of(cls, frames: Sequence[PersonFrame]) -> Outcome:
        """Of these frames, those with a usable person must come back."""
        return cls(usable=frozenset(frame.stamp_ns for frame in frames if len(frame)))

    def answer(self, stamp: int, arrived: int, errors: Sequence[float], with_mesh: bool) -> None:
        """Count the node's answer to a frame, the first one only."""
        if stamp in self.answered:
            return
        self.answered[stamp] = arrived
        self.errors += errors
        if with_mesh:
            self.meshes.add(stamp)

    def complete(self) -> bool:
        """Whether every frame that was sent is answered."""
        return self.sent.keys() <= self.answered.keys()

    def numbers(self) -> dict[str, float | int | None]:
        """The demo's last line. Latencies and errors are None if nothing came back."""
        good = self.meshes & self.usable
        both = [s for s in good if s in self.sent]
        latencies = [(self.answered[s] - self.sent[s]) / 1e6 for s in both]

        def percentile(values: list[float], at: float) -> float | None:
            return round(float(np.percentile(values, at)), 2) if values else None

        return {
            "frames_in": len(self.sent),
            "meshes_out": len(good),
            "dropped": len(self.sent.keys() - self.answered.keys()),
            "latency_ms_p50": percentile(latencies, 50),
            "latency_ms_p99": percentile(latencies, 99),
            "reprojection_px_median": percentile(self.errors, 50),
        }

    def complaint(self) -> str | None:
        """The reason for a failure, in a sentence; None for a success."""
        expected = self.usable & self.sent.keys()
        good = self.meshes & expected
        if not expected:
            return "no frame with a usable person was played"
        if len(good) < ENOUGH * len(expected):
            return (
                f"only {len(good)} of {len(expected)} frames with a usable person came back as "
                f"meshes ({ENOUGH:.0%} expected)"
            )
        return None
