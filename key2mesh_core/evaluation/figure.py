# SPDX-License-Identifier: Apache-2.0
"""Charts of an evaluation: error per joint and per camera. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from key2mesh_core.body.data import JOINT_NAMES
from key2mesh_core.evaluation.aistpp import LIMB_JOINT_NAMES
from key2mesh_core.evaluation.report import Report

BAR, DOUBTFUL = "#2f6fb2", "#bac0c8"
"""Colours of the bars: normal, and for a camera whose video is out of sync."""

Panel = tuple[str, Sequence[str], Sequence[float], Sequence[str]]
"""Title, and label, error [mm] and colour of each bar."""


def draw_report(report: Report) -> Figure:
    """Bar charts of the error per joint and per camera, all on one scale."""
    panels = _panels(report)
    columns = min(2, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    most = max((len(labels) for _, labels, _, _ in panels), default=1)
    figure = Figure(figsize=(5 * columns, rows * (0.9 + 0.21 * most)), layout="constrained")
    figure.suptitle(f"{report.model}: errors in mm (body {report.body_model})")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axis, (title, labels, values, colours) in zip(axes, panels, strict=False):
        bars = axis.barh([name.replace("_", " ") for name in labels], values, color=colours)
        axis.bar_label(bars, fmt="%.0f", padding=3)  # a NaN has no bar but the label "nan"
        axis.margins(x=0.1)
        axis.invert_yaxis()
        axis.set_title(title, fontsize="medium")
        axis.grid(axis="x", alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return figure


def _panels(report: Report) -> list[Panel]:
    panels: list[Panel] = []
    for row in report.clips:
        # Both are aligned at the pelvis, whose error is always zero.
        values = row.joints_mm[1:]
        title = f"{row.name}, {row.condition}: per joint, pelvis-centred"
        panels.append((title, JOINT_NAMES[1:], values, [BAR] * len(values)))
    for channel, errors in report.aistpp.items():
        joints = errors.joints_mm.tolist()
        title = f"AIST++ {channel}: per joint, aligned"
        panels.append((title, LIMB_JOINT_NAMES, joints, [BAR] * len(joints)))
        means = errors.camera_means_mm
        title = f"AIST++ {channel}: per camera (grey: video out of sync)"
        labels = [f"camera {number}" for number in range(1, len(means) + 1)]
        colours = [BAR if in_step else DOUBTFUL for in_step in errors.in_step]
        panels.append((title, labels, means, colours))
    return panels
