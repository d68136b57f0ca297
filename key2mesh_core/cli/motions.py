# SPDX-License-Identifier: Apache-2.0
"""`key2mesh motions`: what a folder of motion capture holds, before it is trained on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from key2mesh_core.errors import TrainingError
from key2mesh_core.recordings.amass import find_clips
from key2mesh_core.recordings.amass_index import ClipInfo, describe_clip, split_of

_MOST = 5


@dataclass(frozen=True)
class MotionsConfig:
    """Lists the data sets in a folder in AMASS layout (DATA_SET/SUBJECT/CLIP.npz): clips, duration,
    form, frame rates, genders, AMASS's official split, and files that cannot be used. Only headers
    are read, so the whole of AMASS takes a minute. --held-out amass:vald and amass:test of
    `key2mesh pretrain` hold out a split."""

    folder: Positional[Path]
    """Folder of motion capture, or a single clip."""


def motions(config: MotionsConfig) -> int:
    """Prints the table; exit status 1 if no clip is usable.

    Raises:
        TrainingError: the folder has no .npz.
    """
    if not config.folder.exists():
        raise TrainingError(f"{config.folder}: no such folder")
    clips = [describe_clip(path) for path in find_clips(config.folder)]
    print(describe(clips))
    return 0 if any(not clip.problem for clip in clips) else 1


def describe(clips: list[ClipInfo]) -> str:
    """The table, a row per data set, and the unusable files."""
    header = ("data set", "split", "clips", "hours", "frames", "form", "1/s", "gender")
    rows = [header]
    usable = [clip for clip in clips if not clip.problem]
    names = sorted({clip.data_set for clip in usable})
    for name in names:
        rows.append(_row(name, split_of(name), [c for c in usable if c.data_set == name]))
    if len(names) > 1:
        rows.append(_row("all", "", usable))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    if unrated := sum(not clip.rate for clip in usable):
        lines.append(f"{unrated} clips state no frame rate: 30 per second are assumed")
    problems: dict[str, list[ClipInfo]] = {}
    for clip in clips:
        if clip.problem:
            problems.setdefault(clip.problem, []).append(clip)
    for problem, those in problems.items():
        examples = ", ".join(str(clip.path) for clip in those[:_MOST])
        more = f" and {len(those) - _MOST} more" if len(those) > _MOST else ""
        lines.append(f"left out, {problem}: {len(those)} files ({examples}{more})")
    return "\n".join(lines)


def _row(name: str, split: str, clips: list[ClipInfo]) -> tuple[str, ...]:
    def counted(values: list[str]) -> str:
        return ", ".join(f"{value} x {n}" for value, n in Counter(values).most_common(3))

    return (
        name,
        split or "-",
        str(len(clips)),
        f"{sum(clip.seconds for clip in clips) / 3600:.2f}",
        str(sum(clip.frames for clip in clips)),
        counted([clip.form for clip in clips]),
        counted([f"{clip.rate:g}" for clip in clips]),
        counted([clip.gender for clip in clips]),
    )
