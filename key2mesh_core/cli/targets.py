# SPDX-License-Identifier: Apache-2.0
"""`key2mesh targets`: inspects detections before adapting to them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional

from key2mesh_core.errors import TargetError
from key2mesh_core.io import atomic_write
from key2mesh_core.keypoints import arrays
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.targets import TargetKeypoints, load_targets
from key2mesh_core.recordings.tracks import cameras_at_once

SAMPLE = 256
"""Number of people that the model is fitted to."""

MISFIT = 0.1
"""If bodies miss the keypoints by more than this share of a person's size, something is wrong; good
detections are missed by 1 to 3 %."""

_TILE = 160
_COLUMNS, _ROWS = 8, 4


@dataclass(frozen=True)
class TargetsConfig:
    """Describes recorded keypoints: the number of people, what was left out and why, and how well
    the model fits them. A picture shows whether left and right are correct."""

    targets: Positional[tuple[str, ...]]
    """Recordings to read: a path, or KIND:PATH?option=value (docs/recordings.md)."""
    topic: str = ""
    """Keypoint topic of bags whose name has none; by default the only one."""
    layout: str = ""
    """Keypoint layout of files (coco_17, halpe_26...); by default inferred from their number."""
    minimum: int = arrays.MINIMUM_KEYPOINTS
    """Minimum number of seen keypoints of a person."""
    model: str = "default"
    """Model bundle to fit to a sample of the people: its folder, or 'default'."""
    picture: Path | None = None
    """A .png file to draw 32 of the people into, evenly spread; needs Pillow."""

    def __post_init__(self) -> None:
        if self.picture is not None and self.picture.suffix.lower() != ".png":
            raise TargetError(f"--picture writes .png, got {str(self.picture)!r}")


def inspect(config: TargetsConfig) -> None:
    """Prints a table on the targets and draws the requested picture."""
    targets = load_targets(config.targets, config.topic, config.minimum, layout=config.layout)
    misses = misses_of(targets, config.model)
    table = describe(targets)
    table["explained"] = (
        f"bodies miss the keypoints by {100 * np.median(misses):.1f} % of a person "
        f"(median of {len(misses)})"
    )
    for name, value in table.items():
        print(f"{name:<16}{value}")
    for reason in targets.warnings.values():
        print(f"warning: {reason}", file=sys.stderr)
    if np.median(misses) > MISFIT:
        print(
            f"warning: bodies miss the keypoints by more than {100 * MISFIT:.0f} % of a person: "
            "the layout or the camera is wrong, or the detector does not see people",
            file=sys.stderr,
        )
    if config.picture is not None:
        draw(targets, config.picture)
        print(f"{'drawn':<16}{config.picture}")


def misses_of(targets: TargetKeypoints, model: str = "default") -> NDArray[np.float64]:
    """(S,) how far the model's bodies miss the keypoints of a sample of people, relative to each
    person's longer side.
    """
    rows = np.unique(np.linspace(0, len(targets) - 1, SAMPLE).astype(int))
    keypoints = targets.keypoints[rows]
    estimator = Estimator(load_bundle(model))
    try:
        bodies = estimator.estimate_poses(keypoints, targets.intrinsics[rows])
    finally:
        estimator.close()
    return bodies.reprojection_error / arrays.person_sizes(keypoints)


def describe(targets: TargetKeypoints) -> dict[str, str]:
    """A table on the targets: name and value of each line."""
    seen = (targets.keypoints[..., 2] >= arrays.SEEN_CONFIDENCE).sum(axis=1)
    lengths = np.bincount(targets.sequence)
    follow = (np.diff(targets.sequence) == 0) & (np.diff(targets.frame) == 1)
    sizes = {tuple(size) for size in targets.image_size.astype(int).tolist()}
    height = np.median(arrays.person_sizes(targets.keypoints))
    return {
        "persons": f"{len(targets):,} in {targets.images:,} images",
        "tracks": f"{len(lengths):,}, of {np.median(lengths):.0f} images (median)",
        "follow directly": f"{follow.sum():,} ({100 * follow.sum() / len(targets):.0f} %)",
        "seen together": _together(targets),
        "keypoints": f"{seen.mean():.1f} of {targets.keypoints.shape[1]} seen (mean)",
        "size": f"{height:.0f} px, a person's longer side (median)",
        "image size": ", ".join(f"{w} x {h}" if w else "unknown" for w, h in sorted(sizes)),
        "camera": _cameras(targets),
        "left out": ", ".join(f"{n:,} {cause}" for cause, n in targets.left_out.items())
        or "nobody",
        "warnings": "; ".join(targets.warnings.values()) or "none",
    }


def _together(targets: TargetKeypoints) -> str:
    cameras = cameras_at_once(targets.camera, targets.person, targets.frame)
    together = np.count_nonzero(cameras > 1)
    if not together:
        return "nobody by several cameras"
    share = 100 * together / len(targets)
    return f"{together:,} ({share:.0f} %), by up to {cameras.max()} cameras"


def _cameras(targets: TargetKeypoints) -> str:
    focal = np.where(targets.metric[:, None], targets.intrinsics[:, :2].round(), 0)
    found = np.unique(focal, axis=0).astype(int).tolist()
    return ", ".join(f"focal length {x} x {y} px" if x else "unknown" for x, y in found)


def draw(targets: TargetKeypoints, path: Path) -> None:
    """Up to 32 people, evenly spread, each scaled to a tile."""
    from PIL import Image

    from key2mesh_core.view.render import draw_keypoints

    rows = np.unique(np.linspace(0, len(targets) - 1, _COLUMNS * _ROWS).astype(int))
    height = -(-len(rows) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE, height * _TILE), (24, 26, 30))
    for place, row in enumerate(rows):
        person = targets.keypoints[row].copy()
        low, high = np.split(arrays.bounding_boxes(person[None])[0], 2)
        scale = 0.85 * _TILE / (high - low).max()
        person[:, :2] = (person[:, :2] - (low + high) / 2) * scale + _TILE / 2
        tile = Image.new("RGB", (_TILE, _TILE), (24, 26, 30))
        at = (_TILE * (place % _COLUMNS), _TILE * (place // _COLUMNS))
        sheet.paste(draw_keypoints(tile, person), at)
    with atomic_write(path) as unfinished:
        sheet.save(unfinished)
