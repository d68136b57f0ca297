# SPDX-License-Identifier: Apache-2.0
"""Counts what a reader dropped, by cause, with the first example."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DroppedRecords:
    """Messages, images and persons that were left out: number and first example by cause."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, cause: str, example: str, count: int = 1) -> None:
        """Adds `count` to a cause; keeps the first example of a cause."""
        if count:
            self.counts[cause] += count
            self.examples.setdefault(cause, example)

    def __str__(self) -> str:
        """The causes, the most frequent first, each with its first example."""
        return "; ".join(
            f"{count} x {cause} (first: {self.examples[cause]})"
            for cause, count in self.counts.most_common()
        )
