# SPDX-License-Identifier: Apache-2.0
"""The results of `key2mesh evaluate`, as Markdown for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from key2mesh_core.evaluation.aistpp import LIMB_JOINT_NAMES, SequenceErrors
from key2mesh_core.evaluation.tables import markdown_table

if TYPE_CHECKING:
    # clips.py needs torch, but a report on real detections alone does not.
    from key2mesh_core.evaluation.clips import ClipErrors


@dataclass(frozen=True)
class Report:
    """All numbers of one evaluation.

    Attributes:
        model: name of the bundle.
        body_model: the model's body, "name@<hash>".
        clips: rows for motion capture.
        aistpp: channel -> errors on real detections.
    """

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
        return json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Tables of the main results."""
        parts = [f"Model {self.model}, body {self.body_model}. All errors in millimetres."]
        if self.clips:
            header = ("Motion capture", "seen", "frames", "PA-MPJPE", "MPJPE", "PVE", "distance")
            rows = [
                (
                    row.name,
                    row.condition,
                    str(row.frames),
                    *map(_millimetres, (row.pa_mpjpe_mm, row.mpjpe_mm, row.pve_mm)),
                    _millimetres(row.distance_mm),
                )
                for row in self.clips
            ]
            parts.append(markdown_table(header, rows))
        if self.aistpp:
            header = ("AIST++", "frames", "PA-MPJPE", "cameras in sync", "PA-MPJPE of these")
            parts.append(
                markdown_table(
                    header,
                    [
                        (
                            channel,
                            str(errors.measured),
                            _millimetres(errors.mean_mm),
                            f"{int(errors.in_step.sum())} of {len(errors.in_step)}",
                            _millimetres(errors.in_step_mean_mm),
                        )
                        for channel, errors in self.aistpp.items()
                    ],
                )
            )
        return "\n\n".join(parts) + "\n"


def _millimetres(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
