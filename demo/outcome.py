# SPDX-License-Identifier: Apache-2.0
"""What the demo counts and measures, and whether it was good enough."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from processes import Child, DemoError

from key2mesh_core.people.person_frame import PersonFrame

ENOUGH = 0.95
"""Share of the frames with a usable person that must come back as meshes."""


@dataclass
class Outcome:
    """Filled while the recording plays; frames are known by their stamps [ns]."""

    usable: frozenset[int]
    sent: dict[int, int] = field(default_factory=dict)  # stamp -> when [ns]
    answered: dict[int, int] = field(default_factory=dict)  # stamp -> when [ns], mesh or not
    meshes: set[int] = field(default_factory=set)
    errors: list[float] = field(default_factory=list)  # px, one per person

    @classmethod
    def expected_of(cls, frames: Sequence[PersonFrame]) -> Outcome:
        """Of these frames, those with a usable person must come back."""
        return cls(usable=frozenset(frame.stamp_ns for frame in frames if len(frame)))

    def follow(self, player: Child, receiver: Child, node: Child, silence: float) -> None:
        """Takes in what player and receiver tell until all is answered, or nothing comes.

        Raises:
            DemoError: one of the processes failed.
        """
        done_at = None
        while done_at is None or time.monotonic() - done_at < silence:
            waited = receiver.poll_event(0.02)
            while waited is not None:
                self._take_answer(waited)
                waited = receiver.poll_event(0)
            told = player.poll_event(0)
            while told is not None:
                if "sent" in told:
                    self.sent[told["stamp"]] = told["sent"]
                if "done" in told:
                    done_at = time.monotonic()
                told = player.poll_event(0)
            node.check_alive()
            if done_at is None and player.process.poll() == 0 and player.is_silent():
                raise DemoError(f"the player ended before the recording did:\n{player.log()}")
            self._show()
            if done_at is not None and self.sent.keys() <= self.answered.keys():
                break
        print(file=sys.stderr)

    def _take_answer(self, event: dict) -> None:
        stamp = event.get("stamp")
        if stamp is None or stamp in self.answered:
            return
        self.answered[stamp] = event["arrived"]
        if any(event["vertices"]):
            self.meshes.add(stamp)
        self.errors += event["errors"]

    def _show(self) -> None:
        if sys.stderr.isatty():
            text = f"\r  {len(self.sent)} frames played, {len(self.meshes)} came back as meshes "
            print(text, end="", file=sys.stderr, flush=True)

    def numbers(self) -> dict[str, float | int | None]:
        """The demo's last line. Latencies and errors are None where nothing came back."""
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
        """Why this is not good enough, in a sentence; None if it is."""
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
