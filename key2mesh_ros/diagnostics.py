# SPDX-License-Identifier: Apache-2.0
"""The node's diagnostics: counts and times of its frames, and a sentence that says what is
wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from .causes import CAUSES, LEFT_OUT, REFUSED, WARNING

WAIT, READ, SELECT, POSE = "wait", "read", "select", "pose"
STEADY, MESH, PUBLISH = "steady", "mesh", "publish"

STAGES: dict[str, str] = {
    WAIT: "for the node's executor, and taking the bytes",
    READ: "bytes to keypoints",
    SELECT: "camera, and whom to estimate",
    POSE: "the pose graph",
    STEADY: "scale, names and smoothing",
    MESH: "the mesh graph",
    PUBLISH: "bodies to bytes, handed to the middleware",
}
"""Every stage in the order of a frame, with its description."""

WINDOW = 300
"""Percentiles cover the newest frames, 10 s of them at 30 Hz."""

SILENCE_S = 3.0
"""An active node warns if it receives nothing for longer than this [s]."""

DROPPED_SHARE = 0.1
"""An active node warns if it drops more than this share of the frames."""


class Stages:
    """The seconds that each stage of one frame takes, `waited` of them before it was taken up."""

    def __init__(self, waited: float = 0.0) -> None:
        self.seconds = {WAIT: waited}
        self._last = time.perf_counter()

    def end(self, stage: str) -> None:
        """End a stage, which began when the previous one ended."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


@dataclass(frozen=True)
class About:
    """What the diagnostics report about the node apart from its frames: why the last transition
    failed (`failure`) and why the node cannot read what is published on the keypoints' topic
    (`trouble`), empty if neither; the topic's publishers; `facts` as text, by key."""

    active: bool = False
    failure: str = ""
    topic: str = ""
    publishers: int = 0
    trouble: str = ""
    facts: dict[str, str] = field(default_factory=dict)


class FrameStatistics:
    """Counts and times of a stream of frames. Times are in seconds of any steady clock."""

    def __init__(self, now: float) -> None:
        self.totals: Counter[str] = Counter()
        self._lock = threading.Lock()  # for the counts, to which several threads add
        self._period: Counter[str] = Counter()
        self._period_start = now
        self._last_arrival = now
        names = ("latency", *STAGES, "engine")  # the engine runs both graphs
        self._times: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in names}
        self._sequence: int | None = None
        self._last_person: float | None = None

    def restart(self, now: float) -> None:
        """Reset everything but the totals, because the clock jumped or another stream begins."""
        with self._lock:
            self._period.clear()
        self._period_start = self._last_arrival = now
        for each in self._times.values():
            each.clear()
        self._sequence = None

    def arrived(self, now: float, sequence: int | None) -> None:
        """Record a message, and count the messages dropped before it, on the way or in the
        subscription of depth 1: the gap in `sequence`, the publisher's sequence number (or
        None)."""
        self._last_arrival = now
        if sequence is None:
            return
        # A lower number comes from another publisher, or from one that restarted.
        if self._sequence is not None and sequence > self._sequence + 1:
            self.count("dropped", sequence - self._sequence - 1)
        self._sequence = sequence

    def published(self, latency: float, stages: Mapping[str, float], people: int) -> None:
        """Count a message whose meshes of `people` were published `latency` [s] after it arrived;
        `stages` has the share of each stage [s]."""
        self.count("meshes")
        self.count("people", people)
        if people:
            self._last_person = self._last_arrival
        engine = stages[POSE] + stages[MESH]
        for name, seconds in {"latency": latency, **stages, "engine": engine}.items():
            self._times[name].append(seconds)

    def count(self, name: str, number: int = 1) -> None:
        """Count a cause by its name in CAUSES, or frames, or people."""
        with self._lock:
            self.totals[name] += number
            self._period[name] += number

    def status(self, name: str, hardware: str, about: About, now: float) -> DiagnosticStatus:
        """The status since the last call."""
        with self._lock:
            period, elapsed = self._period, max(now - self._period_start, 1e-9)
            self._period, self._period_start = Counter(), now
        level, message = self._judge(period, elapsed, about, now)
        totals = self.totals
        values = {
            "state": "active" if about.active else "not active",
            **about.facts,
            "rate_hz": f"{period['meshes'] / elapsed:.1f}",
            **{
                f"{name}_ms_p{percent}": _percentile_ms(times, percent)
                for name, times in self._times.items()
                for percent in (50, 99)
            },
            **{name: str(totals[name]) for name in ("frames", "meshes", "people")},
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
        """The level, and sentences that say what is wrong and what to do, worst first."""
        if about.failure:
            return DiagnosticStatus.ERROR, about.failure
        if not about.active:
            return DiagnosticStatus.OK, "not active: activate the node to get meshes"
        if about.trouble:
            return DiagnosticStatus.ERROR, about.trouble
        silent = now - self._last_arrival
        if silent > SILENCE_S:
            text = "nobody publishes there; start the detector or remap ~/keypoints"
            if about.publishers:
                text = "the detector is running, but no message arrives"
            topic = f"no keypoints on {about.topic} for {silent:.0f} s"
            return DiagnosticStatus.WARN, f"{topic}: {text}"
        sentences = [
            f"{period[name]} x {cause.advice}"
            for kind in (REFUSED, WARNING, LEFT_OUT)
            for name, cause in CAUSES.items()
            if cause.kind == kind and period[name]
        ]
        dropped = period["dropped"]
        if about.publishers > 1:
            # Each publisher numbers its own messages, so gaps mean nothing, and the frames mix.
            sentences.append(
                f"{about.publishers} publishers on {about.topic}: only one detector should be "
                "there; dropped messages cannot be counted"
            )
        elif dropped > DROPPED_SHARE * (dropped + period["frames"]):
            sentences.append(
                f"{dropped} frames dropped: lower the rate or max_people, "
                "or set publish_vertices to false"
            )
        rate = f"{period['meshes'] / elapsed:.1f} frames per second"
        if not sentences:
            return DiagnosticStatus.OK, rate
        refused = any(CAUSES[name].kind == REFUSED for name in period if name in CAUSES)
        nothing_works = refused and period["meshes"] == 0
        level = DiagnosticStatus.ERROR if nothing_works else DiagnosticStatus.WARN
        return level, "; ".join([*sentences, rate])


def _percentile_ms(seconds: deque[float], percent: float) -> str:
    return f"{1e3 * float(np.percentile(tuple(seconds), percent)):.2f}" if seconds else "none"
