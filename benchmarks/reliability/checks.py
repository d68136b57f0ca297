# SPDX-License-Identifier: Apache-2.0
"""What a part of the benchmark found: what was asked for, and what was seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One thing that was asked for."""

    asked: str
    seen: str
    met: bool


@dataclass
class Outcome:
    """A part's checks, and its figures for whoever wants to know more."""

    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def check(self, asked: str, seen: Any, met: bool) -> None:
        self.checks.append(Check(asked, str(seen), bool(met)))

    def none(self, what: str, found: list[str]) -> None:
        """Asks that nothing was found; shows the first of what was."""
        seen = "0" if not found else f"{len(found)}; the first: {found[0]}"
        self.check(f"no {what}", seen, not found)

    @property
    def failures(self) -> list[str]:
        """What was not met, in words."""
        return [f"{each.asked}: {each.seen}" for each in self.checks if not each.met]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
