# SPDX-License-Identifier: Apache-2.0
"""The picture of an evaluation: which joints and which cameras are hard. Needs Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from key2mesh_core.body.data import JOINT_NAMES
from key2mesh_core.evaluation.aistpp import LIMB_JOINT_NAMES
from key2mesh_core.evaluation.report import Report

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

_INK, _FAINT, _PAPER = (35, 38, 45), (222, 225, 230), (255, 255, 255)
_BAR, _DOUBTFUL = (47, 111, 178), (186, 192, 200)
_ROW, _LABEL, _PLOT, _MARGIN = 22, 150, 330, 28
_COLUMN = _LABEL + _PLOT + 2 * _MARGIN


@dataclass(frozen=True)
class Bar:
    """One bar [mm]; a doubtful one is drawn grey (a camera out of step)."""

    label: str
    value: float
    doubtful: bool = False


@dataclass(frozen=True)
class Panel:
    """A titled chart of horizontal bars on the scale that all panels share."""

    title: str
    bars: Sequence[Bar]


def draw_report(report: Report) -> Image.Image:
    """Bars of the error per joint and per camera; an RGB picture as large as its content."""
    panels = _panels(report)
    largest = max((b.value for p in panels for b in p.bars if math.isfinite(b.value)), default=1.0)
    columns = min(2, max(1, len(panels)))
    # Panels go left to right, then down; a row is as high as its longest panel.
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(len(panel.bars) for panel in row) * _ROW + 60 for row in rows]
    image = Image.new("RGB", (columns * _COLUMN, sum(heights) + 70), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, 16), f"{report.model}: errors in mm", _INK, _font(20))
    draw.text((_MARGIN, 42), f"body {report.body_model}", _INK, _font(12))
    top = 70
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            _draw_panel(draw, panel, column * _COLUMN + _MARGIN, top, largest)
        top += height
    return image


def _panels(report: Report) -> list[Panel]:
    panels = []
    for row in report.clips:
        bars = [Bar(name, value) for name, value in zip(JOINT_NAMES, row.joints_mm, strict=True)]
        # The pelvis is where both sides are laid together: always zero.
        panels.append(Panel(f"{row.name}, {row.condition}: per joint, pelvis-centred", bars[1:]))
    for channel, errors in report.aistpp.items():
        joints = zip(LIMB_JOINT_NAMES, errors.joints_mm.tolist(), strict=True)
        panels.append(Panel(f"AIST++ {channel}: per joint, aligned", [Bar(*j) for j in joints]))
        cameras = enumerate(zip(errors.camera_means_mm, errors.in_step, strict=True), start=1)
        panels.append(
            Panel(
                f"AIST++ {channel}: per camera (grey: video out of step)",
                [Bar(f"camera {n}", mean, not in_step) for n, (mean, in_step) in cameras],
            )
        )
    return panels


def _draw_panel(
    draw: ImageDraw.ImageDraw, panel: Panel, left: int, top: int, largest: float
) -> None:
    draw.text((left, top + 10), panel.title, _INK, _font(14))
    zero, scale = left + _LABEL, (_PLOT - 50) / max(largest, 1e-9)
    for mark in range(0, int(largest) + 1, _tick(largest)):
        x = zero + mark * scale
        draw.line([(x, top + 36), (x, top + 36 + _ROW * len(panel.bars))], _FAINT)
    for index, bar in enumerate(panel.bars):
        y = top + 38 + index * _ROW
        draw.text((left, y + 2), bar.label.replace("_", " "), _INK, _font(13))
        if not math.isfinite(bar.value):
            draw.text((zero + 6, y + 2), "not measured", _INK, _font(12))
            continue
        end = zero + bar.value * scale
        draw.rectangle([zero, y + 2, end, y + _ROW - 4], _DOUBTFUL if bar.doubtful else _BAR)
        draw.text((end + 6, y + 2), f"{bar.value:.0f}", _INK, _font(12))


def _tick(largest: float) -> int:
    return next((step for step in (1, 5, 10, 25, 50, 100) if largest / step <= 8), 250)


def _font(size: int) -> FreeTypeFont | BitmapFont:
    return ImageFont.load_default(size)
