# SPDX-License-Identifier: Apache-2.0
"""OpenPose's `--write_json` folders: one file per image, with any number of people.

A file holds `{"people": [{"person_id": [-1], "pose_keypoints_2d": [x, y, c, ...]}, ...]}`, in
pixels (`--keypoint_scale 0`). Other programs write other layouts in this format (Pose2Sim,
Sports2D, AlphaPose): see `which_layout`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import TargetError
from key2mesh_core.io import read_json
from key2mesh_core.keypoints.layouts import Layout
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.jsons import identity, keypoint_list
from key2mesh_core.recordings.numbering import number_names
from key2mesh_core.recordings.options import RecordingOptions
from key2mesh_core.recordings.prepare import DroppedRecords
from key2mesh_core.recordings.which_layout import which_layout

MAX_FILE_BYTES = 16 << 20
"""Size limit for one image: a thousand people with hands and faces take 3 MB."""

_People = tuple[tuple[str, ...], list[NDArray[np.float32]]]
"""Ids and (L, 3) keypoints."""


def read_frames(
    path: Path, options: RecordingOptions, dropped: DroppedRecords
) -> Iterator[PersonFrame]:
    """The people in every image, in the order of the numbers in the file names.

    Args:
        path: a folder (including its subfolders), or a single file.
        options: `layout`, `together` and `fps` are used.

    Raises:
        TargetError: there is no JSON file, or one is damaged or in another format; people differ in
            their number of keypoints, or the number is unknown; with `together`, a subfolder does
            not contain one camera's images.
        KeypointError: the layout is unknown.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.json"))
    if not files:
        raise TargetError(f"{path} is not a folder with JSON files as written by `--write_json`")
    top = path.parent if path.is_file() else path
    names = [file.relative_to(top).as_posix() for file in files]
    # There may be more cameras than images, but if every folder has one image, folders are images.
    apart = len({name.rpartition("/")[0] for name in names}) < len(names)
    numbered = number_names(names, apart or options.together)
    if options.together:
        _check_cameras(path, numbered)
    take = path.absolute().name if options.together else ""
    images = {name: read_people(top / name) for name in numbered}
    layout = layout_of(path, images, options.layout)
    for name, (stream, number) in numbered.items():
        ids, people = images[name]
        keypoints = np.array([points[: len(layout)] for points in people], np.float32)
        yield PersonFrame(
            ids=ids,
            keypoints=keypoints.reshape(len(ids), len(layout), 3),
            layout=layout.name,
            stamp_ns=round(1e9 * number / options.fps),
            stream=stream,
            number=number,
            take=take,
        )


def _check_cameras(path: Path, numbered: dict[str, tuple[str, int]]) -> None:
    said = f"{path}: together=true states that each subfolder is one camera, but"
    cameras: dict[str, set[str]] = {}
    for name, (stream, _) in numbered.items():
        folder, slash, _ = name.partition("/")
        if not slash:
            raise TargetError(f"{said} {name} is next to them")
        cameras.setdefault(folder, set()).add(stream)
    if len(cameras) < 2:
        raise TargetError(f"{said} there is only {next(iter(cameras))}")
    for folder, streams in cameras.items():
        if len(streams) > 1:
            several = f"images of {len(streams)}: {', '.join(sorted(streams)[:3])}"
            raise TargetError(f"{said} {folder} has {several}")


def read_people(file: Path) -> _People:
    """One file's people, without those of whom only a face is seen: ids and (L, 3) keypoints.

    Raises:
        TargetError: the file is damaged, or not from OpenPose.
    """
    content = read_json(file, MAX_FILE_BYTES, TargetError)
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise TargetError(
            f'{file} has no list "people", so it is not from OpenPose\'s --write_json'
        )
    ids, keypoints = [], []
    for index, person in enumerate(people):
        where = f"people[{index}]"
        if not isinstance(person, dict):
            raise TargetError(f"{file}: {where} is {type(person).__name__}, not a person")
        key = "pose_keypoints_2d" if "pose_keypoints_2d" in person else "pose_keypoints"
        if key not in person:
            raise TargetError(f'{file}: {where} has no "pose_keypoints_2d", only {list(person)}')
        points = keypoint_list(file, f"{where}.{key}", person[key])
        if len(points):  # else only a face or hands
            ids.append(_id(person.get("person_id")))
            keypoints.append(points)
    return tuple(ids), keypoints


def _id(value: Any) -> str:
    """OpenPose writes [-1] if it does not track."""
    number = identity(value[0] if isinstance(value, list) and len(value) == 1 else value)
    return str(number) if isinstance(number, int) and number >= 0 else ""


def layout_of(path: Path, images: dict[str, _People], stated: str) -> Layout:
    """The layout of all people in images of the folder `path`: as stated, else recognised.

    Raises:
        TargetError: nobody is shown, people differ in their number of keypoints, or their layout is
            not recognised.
        KeypointError: the stated layout is unknown.
    """
    example: dict[int, str] = {}
    everyone = [person for _, people in images.values() for person in people]
    for name, (_, people) in images.items():
        example |= {len(person): name for person in people if len(person) not in example}
    if not everyone:
        raise TargetError(f"{path}: {len(images)} images were read, but none shows anybody")
    if len(example) > 1:
        (count, first), (other, name), *_ = example.items()
        raise TargetError(
            f"{path}: a person of {name} has {other} keypoints, those of {first} have {count}; "
            "give each detector's files a separate folder and target"
        )
    return which_layout(np.array(everyone), stated, str(path))
