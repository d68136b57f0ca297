# SPDX-License-Identifier: Apache-2.0
"""The result of a benchmark, as Markdown for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from key2mesh_core.evaluation.benchmarks.protocols import Protocol
from key2mesh_core.evaluation.benchmarks.scores import PersonScores
from key2mesh_core.evaluation.metrics import mean_of_measured
from key2mesh_core.evaluation.report import markdown_table, millimetres, without_nan

METRICS = ("pa_mpjpe_mm", "mpjpe_mm", "pve_mm")
_HEADS = ("PA-MPJPE", "MPJPE", "PVE")


@dataclass(frozen=True)
class SequenceScores:
    """Errors of a sequence's people: for each person the measured `images`, the errors [mm] of each
    image (None where nothing is measured), and the number of images `left_out`, by cause."""

    name: str
    people: list[str]
    images: list[list[int]]
    pa_mpjpe_mm: list[list[float | None]]
    mpjpe_mm: list[list[float | None]]
    pve_mm: list[list[float | None]]
    left_out: list[dict[str, int]]

    @classmethod
    def of(cls, name: str, people: Sequence[PersonScores]) -> SequenceScores:
        """From the scores of people; errors are rounded to a micrometre."""
        errors = {
            metric: [
                [None if math.isnan(e) else round(float(e), 3) for e in getattr(person, metric)]
                for person in people
            ]
            for metric in METRICS
        }
        return cls(
            name=name,
            people=[person.name for person in people],
            images=[person.images.tolist() for person in people],
            left_out=[person.left_out for person in people],
            **errors,
        )

    @property
    def count(self) -> int:
        """Number of measured images of all people."""
        return sum(map(len, self.images))

    def mean(self, metric: str) -> float:
        """Mean over the measured images of all people; NaN if nothing was measured."""
        return _mean(getattr(self, metric))

    def summary(self) -> str:
        """One line of progress."""
        errors = ", ".join(
            f"{head} {self.mean(metric):.1f}"
            for head, metric in zip(_HEADS, METRICS, strict=True)
            if not math.isnan(self.mean(metric))
        )
        return f"{self.name}: {self.count} images{', ' if errors else ''}{errors}"


@dataclass(frozen=True)
class BenchmarkReport:
    """All numbers of one run of a benchmark."""

    protocol: Protocol
    model: str
    description: str
    sequences: tuple[SequenceScores, ...]

    @property
    def images(self) -> int:
        """Number of measured images of all people."""
        return sum(sequence.count for sequence in self.sequences)

    def mean(self, metric: str) -> float:
        """Mean over all measured images of all people, as published numbers are."""
        return _mean([errors for each in self.sequences for errors in getattr(each, metric)])

    def left_out(self) -> dict[str, int]:
        """Number of images that do not count, by cause."""
        total: Counter[str] = Counter()
        for sequence in self.sequences:
            for person in sequence.left_out:
                total.update(person)
        return dict(total)

    def to_json(self) -> str:
        """Every number: means, means per sequence, and errors of every image; NaN becomes null."""
        content: dict[str, Any] = {
            "protocol": asdict(self.protocol) | {"in_words": str(self.protocol)},
            "model": self.model,
            "description": self.description,
            "images": self.images,
            "left_out": self.left_out(),
            **{metric: self.mean(metric) for metric in METRICS},
            "sequences": [
                asdict(each) | {"mean_" + metric: each.mean(metric) for metric in METRICS}
                for each in self.sequences
            ],
        }
        return json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """The protocol, the result beside published rows, and a row per sequence."""
        lines = [f"Protocol: {self.protocol}.", f"Model: {self.description}."]
        left_out = ", ".join(f"{n} {cause}" for cause, n in self.left_out().items() if n)
        lines.append(f"Images: {self.images} measured; left out: {left_out or 'none'}.")
        if len(self.sequences) < self.protocol.sequences:
            lines.append(
                f"Incomplete: {len(self.sequences)} of {self.protocol.sequences} sequences. The "
                "numbers are not comparable with published ones."
            )
        rows = [("this model", *self._cells(self), "this run")]
        for row in self.protocol.published:
            cells = ("-" if e is None else millimetres(e) for e in row.errors_mm)
            rows.append((row.method, *cells, row.source))
        tables = [markdown_table(("[mm]", *_HEADS, "source"), rows)]
        if not self.protocol.published:
            tables.insert(0, "The paper has no row for this protocol.")
        each = [(s.name, str(s.count), *self._cells(s)) for s in self.sequences]
        tables.append(markdown_table(("sequence", "images", *_HEADS), each))
        return "\n\n".join(["\n".join(lines), *tables]) + "\n"

    @staticmethod
    def _cells(scores: BenchmarkReport | SequenceScores) -> tuple[str, ...]:
        return tuple(millimetres(scores.mean(metric)) for metric in METRICS)


def _mean(people: Sequence[Sequence[float | None]]) -> float:
    return mean_of_measured([error for person in people for error in person])
