# SPDX-License-Identifier: Apache-2.0
"""The results of `key2mesh evaluate`, as Markdown for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from key2mesh_core.evaluation.aistpp import LIMB_JOINT_NAMES, SequenceErrors

if TYPE_CHECKING:
    # clips.py needs torch, but a report on real detections alone does not.
    from key2mesh_core.evaluation.clips import ClipErrors


@dataclass(frozen=True)
class Report:
    """All numbers of one evaluation of the bundle `model` for the body `body_model`: rows for
    motion capture, and errors on real detections by channel."""

    model: str
    body_model: str
    clips: Sequence[ClipErrors] = ()
    aistpp: Mapping[str, SequenceErrors] = field(default_factory=dict)

    def to_json(self) -> str:
        """Every number, including means per camera and joint; NaN becomes null."""
        content: dict[str, Any] = {
            "model": self.model,
            "body_model": self.body_model,
            "clips": [asdict(row) for row in self.clips],
            "aistpp": {
                channel: {
                    "pa_mpjpe_mm": errors.mean_mm,
                    "mpjpe_mm": errors.mpjpe_mm,
                    "pa_mpjpe_in_step_cameras_mm": errors.in_step_mean_mm,
                    "frames": errors.measured,
                    "cameras_mm": errors.camera_means_mm,
                    "cameras_in_step": errors.in_step.tolist(),
                    "truth_reprojection_px": errors.truth_reprojection_px.tolist(),
                    "joints_mm": dict(
                        zip(LIMB_JOINT_NAMES, errors.joints_mm.tolist(), strict=True)
                    ),
                }
                for channel, errors in self.aistpp.items()
            },
        }
        return json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Tables of the main results."""
        parts = [f"Model {self.model}, body {self.body_model}. All errors in millimetres."]
        if self.clips:
            header = ("Motion capture", "seen", "frames", "PA-MPJPE", "MPJPE", "PVE", "distance")
            rows = []
            for row in self.clips:
                errors = (row.pa_mpjpe_mm, row.mpjpe_mm, row.pve_mm, row.distance_mm)
                rows.append((row.name, row.condition, str(row.frames), *map(millimetres, errors)))
            parts.append(markdown_table(header, rows))
        if self.aistpp:
            header = (
                "AIST++",
                "frames",
                "PA-MPJPE",
                "MPJPE",
                "cameras in sync",
                "PA-MPJPE of these",
            )
            rows = [
                (
                    channel,
                    str(found.measured),
                    millimetres(found.mean_mm),
                    millimetres(found.mpjpe_mm),
                    f"{int(found.in_step.sum())} of {len(found.in_step)}",
                    millimetres(found.in_step_mean_mm),
                )
                for channel, found in self.aistpp.items()
            ]
            parts.append(markdown_table(header, rows))
        return "\n\n".join(parts) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns, numbers to the right; readable as plain text, too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        f" {'-' * (w - 1)}: " if right else f" {'-' * w} "
        for w, right in zip(widths, numeric, strict=True)
    )
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("x%"))
    except ValueError:
        return text == "-"
    return True


def millimetres(value: float) -> str:
    """A cell of a table; "-" for NaN, where nothing was measured."""
    return "-" if math.isnan(value) else f"{value:.1f}"


def without_nan(value: Any) -> Any:
    """The content of a JSON file in which NaN and infinity are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return value
