# SPDX-License-Identifier: Apache-2.0
"""Sequences of persons in recordings: by the detector's names, else by tracking."""

from __future__ import annotations

from dataclasses import dataclass, field

from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.people.tracking import NOMINAL_PERIOD_S, Tracker, TrackingSettings

MAX_GAP = 10
"""Images that an unnamed person may be missing from before coming back as somebody else."""

MAX_MOVE = 0.3
"""Mean way of the keypoints from where a person was expected, in sides of the person's box."""

_PATIENCE_S = (MAX_GAP + 0.5) * NOMINAL_PERIOD_S
# Nobody checks what is learned from, so a doubtful person is a new one.
_SETTINGS = TrackingSettings(
    timeout_s=_PATIENCE_S, trial_s=_PATIENCE_S, gate=MAX_MOVE, gate_growth=0.0
)


@dataclass
class _Stream:
    tracker: Tracker = field(default_factory=lambda: Tracker(_SETTINGS))
    sequences: dict[str, int] = field(default_factory=dict)
    last: int = 0


@dataclass
class Tracks:
    """Gives every person of successive frames a sequence number.

    Attributes:
        names: the name of each sequence: its stream, and the person's own name if it has one.
    """

    names: list[str] = field(default_factory=list)
    _streams: dict[str, _Stream] = field(default_factory=dict)

    def assign(self, frame: PersonFrame) -> list[int]:
        """Sequence numbers of the persons of a stream's next frame.

        A named person keeps the sequence of the name; others are tracked (`people.tracking`) by the
        frames' numbers, as if there were thirty in a second: numbers, not stamps, say where a
        recording was cut. Streams have no sequence in common.
        """
        stream = self._streams.setdefault(frame.stream, _Stream())
        if frame.number < stream.last:
            stream.tracker.reset()
        stream.last = frame.number
        # The first image is number 0, and the tracker's clock must advance to it.
        stamp_ns = round(1e9 * NOMINAL_PERIOD_S * (frame.number + 1))
        names = stream.tracker.name(frame.ids, frame.keypoints, stamp_ns)
        for name in names:
            if name not in stream.sequences:
                stream.sequences[name] = len(self.names)
                own = f" {name}" if name in frame.ids else ""
                self.names.append(frame.stream + own)
        return [stream.sequences[name] for name in names]
