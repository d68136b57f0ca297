# SPDX-License-Identifier: Apache-2.0
"""Recorded keypoints for training: the usable people in recordings as arrays."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.choose import ASSUMED_FOV_DEG, Camera, CameraOptions, choose_camera
from key2mesh_core.errors import TargetError
from key2mesh_core.keypoints.arrays import MINIMUM_KEYPOINTS
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.numbering import number_by_stamps
from key2mesh_core.recordings.open import open_recording
from key2mesh_core.recordings.options import RecordingOptions
from key2mesh_core.recordings.tracks import Person, Tracks, number_persons, persons_of_take


@dataclass(frozen=True, eq=False)
class TargetKeypoints:
    """Detections: N rows, one person in one image each.

    Attributes:
        keypoints: (N, K, 3) float32 x px, y px, confidence in the network's order, sanitised:
            an unseen keypoint is (0, 0, 0).
        image_size: (N, 2) float32 width, height px; 0 if unknown.
        intrinsics: (N, 4) float32 fx, fy, cx, cy px of the camera, lens undone.
        metric: (N,) bool, False if the camera is a guess.
        source: the recordings that they come from.
        frame: (N,) int64 number of the image in its recording, camera or folder.
        sequence: (N,) int32 number of one person seen by one camera. Rows are ordered by sequence,
            and by frame within it: neighbouring rows of one sequence follow each other in time,
            with nothing between them if their frames differ by 1.
        camera: (N,) int32 number of the camera (stream), over all targets.
        person: (N,) int32 rows with the same number >= 0 show the same person of one take, so that
            rows with the same person and frame show one moment from different cameras; -1 if there
            is no take, if the identity is in doubt, or if only one camera ever saw the person.
        left_out: number of people (or whole images) left out, by cause.
        names: description of each sequence: its source, and the person's name if there is one.
        images: number of images read, with and without people.
        warnings: what there is to doubt: name of each warning, and the first reason.
    """

    keypoints: NDArray[np.float32]
    image_size: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    metric: NDArray[np.bool_]
    source: str
    frame: NDArray[np.int64]
    sequence: NDArray[np.int32]
    camera: NDArray[np.int32]
    person: NDArray[np.int32]
    left_out: dict[str, int]
    names: tuple[str, ...] = ()
    images: int = 0
    warnings: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keypoints)


def load_targets(
    sources: Sequence[str],
    topic: str = "",
    minimum: int = MINIMUM_KEYPOINTS,
    assumed_fov_deg: float = ASSUMED_FOV_DEG,
    layout: str = "",
) -> TargetKeypoints:
    """Every usable person in some recordings, one recording after the other.

    Args:
        sources: recordings, such as "my_bag" or "openpose:json/?together=true"; see
            `recordings.open.open_recording`.
        topic: topic for bags whose source names none (`RecordingOptions.topic`).
        minimum: least number of seen keypoints of a person; others are left out and counted.
        assumed_fov_deg: horizontal field of view of unknown cameras [degrees].
        layout: keypoint layout of files whose source names none.

    Raises:
        TargetError: there is no source, one is invalid, or a recording is damaged, in another
            format, or without any usable person (then with the count of every cause).
        BagError, EvaluationError: from the readers; each names its file.
    """
    if not sources:
        raise TargetError("no target to read: give at least one, for example bag:my_bag")
    camera = CameraOptions(assumed_fov_deg=assumed_fov_deg)
    options = RecordingOptions(
        topic=topic, layout=layout, minimum=minimum, need_camera=False, camera=camera
    )
    parts = [_load(source, options) for source in sources]
    left_out: Counter[str] = Counter()
    warnings: dict[str, str] = {}
    for part in parts:
        left_out.update(part.left_out)
        warnings = part.warnings | warnings
    rows = {
        name: join([getattr(part, name) for part in parts])
        for join, names in (
            (np.concatenate, ("keypoints", "image_size", "intrinsics", "metric", "frame")),
            (_joined, ("sequence", "camera", "person")),
        )
        for name in names
    }
    return TargetKeypoints(
        **rows,
        source=", ".join(sources),
        left_out=dict(left_out),
        names=tuple(name for part in parts for name in part.names),
        images=sum(part.images for part in parts),
        warnings=warnings,
    )


def _joined(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Renumbers the parts from 0 one after the other, so that no two share a number; -1 stays."""
    starts = np.cumsum([0, *(part.max(initial=-1) + 1 for part in parts)]).astype(np.int32)
    shifted = [
        np.where(part < 0, part, part + s) for part, s in zip(parts, starts[:-1], strict=True)
    ]
    return np.concatenate(shifted)


def _load(name: str, options: RecordingOptions) -> TargetKeypoints:
    recording = open_recording(name, options)
    frames = list(recording)
    if recording.bag is not None:
        frames = number_by_stamps(frames, name)
    frames = [frame for frame in frames if len(frame)]
    seen_by = _cameras(frames, recording.source.options.camera)
    tracks = Tracks()
    sequences: list[int] = []
    streams: dict[str, int] = {}
    persons: list[Person | None] = []
    for frame in frames:
        sequences += tracks.assign(frame)
        streams.setdefault(frame.stream, len(streams))
        persons += persons_of_take(frame)
    row_of = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    numbers = np.array([frame.number for frame in frames], np.int64)
    cameras = np.array([streams[frame.stream] for frame in frames], np.int32)
    sequence = np.array(sequences, np.int32)
    order = np.lexsort((numbers[row_of], sequence))
    row_of = row_of[order]
    return TargetKeypoints(
        keypoints=np.concatenate([frame.keypoints for frame in frames])[order],
        image_size=np.array([(f.width, f.height) for f in frames], np.float32)[row_of],
        intrinsics=np.array([camera.intrinsics.as_array() for camera in seen_by])[row_of],
        metric=np.array([camera.metric for camera in seen_by])[row_of],
        source=name,
        frame=numbers[row_of],
        sequence=sequence[order],
        camera=cameras[row_of],
        person=number_persons([persons[row] for row in order], cameras[row_of]),
        left_out=dict(recording.dropped.counts),
        names=tuple(tracks.names),
        images=recording.images,
        warnings=dict(recording.warnings),
    )


def _cameras(frames: Sequence[PersonFrame], options: CameraOptions) -> list[Camera]:
    """The camera of each frame. If the image size is unknown, the camera is a guess, and the image
    is assumed to end where the people of its stream do."""
    ends: defaultdict[str, NDArray] = defaultdict(lambda: np.ones(2, np.float32))
    for frame in frames:
        if frame.camera is None:
            here = frame.keypoints[..., :2].max(axis=(0, 1))
            ends[frame.stream] = np.maximum(ends[frame.stream], here)
    guessed = {}
    for stream, (width, height) in ends.items():
        camera = choose_camera(None, options, width=math.ceil(width), height=math.ceil(height))
        guessed[stream] = replace(camera, metric=False)
    return [frame.camera or guessed[frame.stream] for frame in frames]
