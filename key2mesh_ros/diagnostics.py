# SPDX-License-Identifier: Apache-2.0
"""How the node is doing: counts and times of its frames, judged in a sentence."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from .causes import CAUSES, LEFT_OUT, REFUSED, WARNING
from .stages import MESH, POSE, STAGES

WINDOW = 300
"""Frames that percentiles are taken of: 10 s at 30 Hz."""

ENGINE = "engine"
"""Both graphs together, beside the stages."""

SILENCE_S = 3.0
"""An active node that hears nothing for so long [s] says so."""

DROPPED_SHARE = 0.1
"""An active node that drops more than this share of the frames says so."""


@dataclass(frozen=True)
class About:
    """What diagnostics tell of a node besides its frames.

    Attributes:
        active: whether frames are processed.
        failure: why the last transition failed; empty if it did not.
        topic: where keypoints are expected.
        publishers: who publishes there.
        trouble: why what is published there cannot be read; empty if it can.
        facts: model, engine, camera...: in words, by key.
    """

    active: bool = False
    failure: str = ""
    topic: str = ""
    publishers: int = 0
    trouble: str = ""
    facts: dict[str, str] = field(default_factory=dict)


class FrameStatistics:
    """Counts and times of a stream of frames. Times are in seconds on any steady clock."""

    def __init__(self, now: float) -> None:
        self.totals: Counter[str] = Counter()
        self._lock = threading.Lock()  # frames are counted where they come and where they go
        self._period: Counter[str] = Counter()
        self._period_start = now
        self._last_arrival = now
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._stages: dict[str, deque[float]] = {
            name: deque(maxlen=WINDOW) for name in (*STAGES, ENGINE)
        }
        self._sequence: int | None = None
        self._last_person: float | None = None

    def restart(self, now: float) -> None:
        """Forget the stream (the clock jumped, another one begins); totals stay."""
        with self._lock:
            self._period.clear()
        self._period_start = self._last_arrival = now
        self._latencies.clear()
        for each in self._stages.values():
            each.clear()
        self._sequence = None

    def arrived(self, now: float, sequence: int | None) -> None:
        """A message came. `sequence` is its publisher's number for it, None where unknown.

        A gap in the publisher's numbers is what was dropped on the way, or in the subscription,
        which holds one message.
        """
        self._last_arrival = now
        if sequence is None:
            return
        # A lower number is another publisher's, or one that began anew.
        if self._sequence is not None and sequence > self._sequence + 1:
            self.count("dropped", sequence - self._sequence - 1)
        self._sequence = sequence

    def published(self, latency: float, stages: Mapping[str, float], people: int) -> None:
        """A message's meshes are out, `latency` s after it came, of which each stage took some."""
        self.count("meshes")
        self.count("people", people)
        if people:
            self._last_person = self._last_arrival
        self._latencies.append(latency)
        for name, seconds in stages.items():
            self._stages[name].append(seconds)
        self._stages[ENGINE].append(stages[POSE] + stages[MESH])

    def count(self, name: str, number: int = 1) -> None:
        """Something happened: a name in CAUSES, or a number of frames or people."""
        with self._lock:
            self.totals[name] += number
            self._period[name] += number

    def status(self, name: str, hardware: str, about: About, now: float) -> DiagnosticStatus:
        """The state of things; begins a new period."""
        with self._lock:
            period, elapsed = self._period, max(now - self._period_start, 1e-9)
            self._period, self._period_start = Counter(), now
        level, message = self._judge(period, elapsed, about, now)
        totals = self.totals
        values = {
            "state": "active" if about.active else "not active",
            **about.facts,
            "rate_hz": f"{period['meshes'] / elapsed:.1f}",
            "latency_ms_p50": _percentile_ms(self._latencies, 50),
            "latency_ms_p99": _percentile_ms(self._latencies, 99),
            **{
                f"{name}_ms_p{percent}": _percentile_ms(times, percent)
                for name, times in self._stages.items()
                for percent in (50, 99)
            },
            "frames": str(totals["frames"]),
            "meshes": str(totals["meshes"]),
            "people": str(totals["people"]),
            "last_person_s": (
                "never" if self._last_person is None else f"{now - self._last_person:.1f}"
            ),
            "dropped": str(totals["dropped"]),
        }
        for kind in (REFUSED, LEFT_OUT, WARNING):
            names = [each for each, cause in CAUSES.items() if cause.kind == kind]
            values[kind] = str(sum(totals[each] for each in names))
            values |= {f"{kind}.{each}": str(totals[each]) for each in names if totals[each]}
        return DiagnosticStatus(
            level=level,
            name=name,
            message=message,
            hardware_id=hardware,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _judge(
        self, period: Counter[str], elapsed: float, about: About, now: float
    ) -> tuple[bytes, str]:
        """Level, and what to do about it, worst first."""
        if about.failure:
            return DiagnosticStatus.ERROR, about.failure
        if not about.active:
            return DiagnosticStatus.OK, "not active: activate the node to get meshes"
        if about.trouble:
            return DiagnosticStatus.ERROR, about.trouble
        silent = now - self._last_arrival
        if silent > SILENCE_S:
            text = f"no keypoints on {about.topic} for {silent:.0f} s: "
            if about.publishers == 0:
                text += "nobody publishes there; start the detector or remap ~/keypoints"
            else:
                text += "the detector is there but sends nothing that arrives"
            return DiagnosticStatus.WARN, text
        happened = [each for each in CAUSES if period[each]]
        sentences = []
        for kind in (REFUSED, WARNING, LEFT_OUT):
            for each in happened:
                if CAUSES[each].kind == kind:
                    sentences.append(f"{period[each]} x {CAUSES[each].advice}")
        dropped = period["dropped"]
        if about.publishers > 1:
            # Each counts for itself, so gaps say nothing; and frames of two detectors mix.
            sentences.append(
                f"{about.publishers} publishers on {about.topic}: only one detector should be "
                "there, and what is dropped cannot be told"
            )
        elif dropped > DROPPED_SHARE * (dropped + period["frames"]):
            sentences.append(
                f"{dropped} frames dropped: lower the rate or max_people, "
                "or set publish_vertices to false"
            )
        rate = f"{period['meshes'] / elapsed:.1f} frames per second"
        if not sentences:
            return DiagnosticStatus.OK, rate
        refused = any(CAUSES[each].kind == REFUSED for each in happened)
        nothing_works = refused and period["meshes"] == 0
        level = DiagnosticStatus.ERROR if nothing_works else DiagnosticStatus.WARN
        return level, "; ".join([*sentences, rate])


def _percentile_ms(seconds: deque[float], percent: float) -> str:
    return f"{1e3 * float(np.percentile(tuple(seconds), percent)):.2f}" if seconds else "none"
