# SPDX-License-Identifier: Apache-2.0
"""How much steadier smoothing makes bodies, how late, at what error, and what it takes.

    python -m benchmarks.steadiness --clips path/to/held_out_clips

Measured on the demo's recording (real detections, no truth), on a made-up motion and on motion
capture before a camera whose detector trembles. `SmoothingSettings` was tuned with it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.evaluation.clips import CAMERA
from key2mesh_core.evaluation.steadiness import (
    Steadiness,
    Trembling,
    made_up_motion,
    motion_of_clip,
    steadiness,
    watch,
)
from key2mesh_core.evaluation.tables import markdown_table
from key2mesh_core.keypoints.arrays import sanitise, usable
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.smoothing import Smoother
from key2mesh_core.recordings.amass import find_clips
from key2mesh_core.recordings.own_messages import read_camera, read_keypoints

TOP = Path(__file__).parents[1]
_SHORTEST_TRACK = 30


@dataclass(frozen=True)
class SteadinessConfig:
    """Measures jitter, lag, error and time of smoothing."""

    clips: tuple[Path, ...] = ()
    """Folders of motion capture in AMASS layout (with `trans`)."""
    bag: Path = TOP / "demo" / "data" / "street"
    """A recording of keypoints with names and of its camera."""
    model: str = "default"
    """The bundle."""
    body: str = "default"
    """The body file it was trained with."""
    most_clips: int = 12
    """Clips measured, evenly chosen."""
    output: Path = Path(__file__).parent / "out" / "steadiness.json"
    """Where the numbers go."""


def main(config: SteadinessConfig) -> dict[str, Any]:
    """Prints the tables, writes the numbers and returns them."""
    estimator = Estimator(load_bundle(config.model))
    rows = list(_tracks(config, estimator))
    times = {persons: time_us(estimator, persons) for persons in (1, 10)}
    print(table(rows))
    for persons, (busy, idle) in times.items():
        print(f"{persons} persons: {busy:.0f} us back to back, {idle:.0f} us at 30 Hz")
    result = {"tracks": [asdict(row) for row in rows], "time_us": times}
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _tracks(config: SteadinessConfig, estimator: Estimator) -> Iterator[Steadiness]:
    yield from bag_tracks(config.bag, estimator)
    detector_keypoints = bool(estimator.bundle.card.get("detector_keypoints", True))
    body = BodyModel(load_body(config.body), detector_keypoints)
    motions = {f"made-up motion {seed}": made_up_motion(seed=seed) for seed in range(2)}
    paths = [path for folder in config.clips for path in find_clips(folder)]
    for number in np.unique(np.linspace(0, len(paths) - 1, config.most_clips).astype(int)):
        if paths:
            path = paths[number]
            motions[path.stem] = motion_of_clip(path, yaw=1.1 * number, seed=int(number))
    for seed, (name, motion) in enumerate(motions.items()):
        keypoints, joints = watch(motion, body, Trembling(), seed)
        yield steadiness(name, estimator, keypoints, joints=joints)


def bag_tracks(bag: Path, estimator: Estimator) -> Iterator[Steadiness]:
    """Every person of a recording who is seen for a second or more."""
    camera = read_camera(bag).intrinsics
    tracks: dict[str, list[tuple[int, np.ndarray]]] = {}
    for frame in read_keypoints(bag):
        keypoints = sanitise(to_network(frame.layout, frame.keypoints))
        for name, person, good in zip(frame.ids, keypoints, usable(keypoints), strict=True):
            if good:
                tracks.setdefault(name, []).append((frame.stamp_ns, person))
    for name, track in sorted(tracks.items()):
        if len(track) >= _SHORTEST_TRACK:
            stamps, persons = zip(*track, strict=True)
            yield steadiness(
                f"{bag.name}, {name}", estimator, np.array(persons), camera, np.array(stamps)
            )


def time_us(estimator: Estimator, persons: int, frames: int = 90) -> tuple[float, float]:
    """Median time of `Smoother.smooth` [us]: back to back, and between frames that arrive at
    30 Hz and are estimated first, whose weights push everything out of the caches."""
    rng = np.random.default_rng(0)
    keypoints = np.full((persons, 18, 3), 0.9, np.float32)
    keypoints[..., :2] = rng.uniform(200, 600, (persons, 18, 2))
    names = tuple(map(str, range(persons)))
    medians = []
    for pause_s in (0.0, 0.02):
        smoother, seconds = Smoother(estimator.bundle.parents), []
        for frame in range(frames):
            time.sleep(pause_s)
            bodies = estimator.estimate_poses(keypoints, CAMERA)
            for _ in range(1 if pause_s else 5):
                begin = time.perf_counter()
                smoother.smooth(names, bodies, 1 + frame * 33_333_333)
                seconds.append(time.perf_counter() - begin)
        medians.append(1e6 * statistics.median(seconds))
    return medians[0], medians[1]


def table(rows: list[Steadiness]) -> str:
    """The rows as Markdown; jitter in m/s^2."""
    header = (
        *("track", "frames", "jitter", "smoothed", "ratio", "pose jitter", "smoothed"),
        *("lag ms", "PA-MPJPE", "smoothed", "MPJPE, camera", "smoothed"),
    )
    cells = [
        (
            row.name,
            str(row.frames),
            *(f"{each:.1f}" for each in (row.jitter_raw, row.jitter_smooth, row.calmer)),
            *(f"{each:.1f}" for each in (row.pose_jitter_raw, row.pose_jitter_smooth)),
            f"{row.lag_ms:.0f}",
            *(
                "-" if np.isnan(each) else f"{each:.1f}"
                for each in (
                    *(row.pa_mpjpe_raw, row.pa_mpjpe_smooth),
                    *(row.mpjpe_raw, row.mpjpe_smooth),
                )
            ),
        )
        for row in rows
    ]
    return markdown_table(header, cells)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(SteadinessConfig))
