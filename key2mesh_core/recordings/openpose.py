# SPDX-License-Identifier: Apache-2.0
"""OpenPose's `--write_json` folders: one file an image, as many people as there are.

A file holds `{"people": [{"person_id": [-1], "pose_keypoints_2d": [x, y, c, ...]}, ...]}`, in
pixels unless OpenPose was told to scale. 18 keypoints are its COCO layout; 25 are BODY_25 or
BODY_25B, told apart by where the keypoints lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import TargetError
from key2mesh_core.io import read_json
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.layouts import Layout, get_layout, to_network
from key2mesh_core.recordings.detections import Detections
from key2mesh_core.recordings.jsons import keypoint_list
from key2mesh_core.recordings.numbering import number_names

MAX_FILE_BYTES = 16 << 20
"""One image: a thousand people with hands and faces have 3 MB."""

_BODY_25 = "openpose_body_25"
_BODY_25B = "openpose_body_25b"
# What lies at the middle of what.
_BETWEEN = {
    _BODY_25: (("neck", "shoulder"), ("mid_hip", "hip"), ("nose", "eye")),
    _BODY_25B: (("nose", "eye"),),
}
_TOLERANCE = 0.15
"""Of a person's longer side."""


def read_detections(
    path: str | Path,
    size: tuple[int, int] = (0, 0),
    layout: str | None = None,
    together: bool = False,
) -> Iterator[Detections]:
    """The people of every image, by file names in the order of their numbers.

    Args:
        path: a folder (folders in it are read too), or a single file.
        size: width and height [px] of the images, which OpenPose does not write; 0 for unknown.
        layout: name of the layout; None takes it from the number of keypoints.
        together: whether the folders in the folder are cameras that took their images of one
            number at the same moment.

    Raises:
        TargetError: no such folder, no JSON file in it, or a file that is damaged or another's;
            with `together`, other than several folders with one camera's images in each.
        KeypointError: an unknown layout.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.rglob("*.json"))
    if not files:
        raise TargetError(f"{path} is no folder with JSON files as `--write_json` makes them")
    top = path.parent if path.is_file() else path
    names = [file.relative_to(top).as_posix() for file in files]
    numbered = _number_cameras(path, names) if together else number_names(names)
    take = path.absolute().name if together else ""
    images = {name: _people(top / name) for name in numbered}
    known = _layout_of(path, images, layout)
    for name, (stream, number) in numbered.items():
        ids, keypoints = images[name]
        stacked = np.array(keypoints, np.float32).reshape(len(ids), len(known), 3)
        yield Detections(stream, number, ids, to_network(known, stacked), *size, take=take)


def _number_cameras(path: Path, names: list[str]) -> dict[str, tuple[str, int]]:
    """As `number_names`, for each folder by itself: what counts its images is not the camera's
    number, not even where cameras are more than images."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, slash, file = name.partition("/")
        if not slash:
            raise TargetError(
                f"{path}: together=true says that the folders in it are cameras, but {name} lies "
                "beside them"
            )
        folders.setdefault(folder, []).append(file)
    if len(folders) < 2:
        raise TargetError(
            f"{path}: together=true says that the folders in it are cameras, but there is only "
            f"{next(iter(folders))}"
        )
    found = {}
    for folder, files in folders.items():
        numbered = number_names(files)
        streams = sorted({stream for stream, _ in numbered.values()})
        if len(streams) > 1:
            raise TargetError(
                f"{path}: together=true says that each folder in it is one camera, but {folder} "
                f"has images of {len(streams)}: {', '.join(streams[:3])}"
            )
        for file, (stream, number) in numbered.items():
            found[f"{folder}/{file}"] = f"{folder}/{stream}", number
    return found


def _people(file: Path) -> tuple[tuple[str, ...], list[NDArray[np.float32]]]:
    """Ids and (K, 3) keypoints of one file's people, those with nothing but a face left out."""
    content = read_json(file, MAX_FILE_BYTES, TargetError)
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise TargetError(f'{file} has no list "people", so it is not of OpenPose\'s --write_json')
    ids, keypoints = [], []
    for index, person in enumerate(people):
        where = f"people[{index}]"
        if not isinstance(person, dict):
            raise TargetError(f"{file}: {where} is {type(person).__name__}, not a person")
        key = "pose_keypoints_2d" if "pose_keypoints_2d" in person else "pose_keypoints"
        if key not in person:
            raise TargetError(f'{file}: {where} has no "pose_keypoints_2d", only {list(person)}')
        points = keypoint_list(file, f"{where}.{key}", person[key])
        if len(points):
            ids.append(_id(person.get("person_id")))
            keypoints.append(points)
    return tuple(ids), keypoints


def _id(value: Any) -> str:
    """OpenPose writes [-1] where it does not track."""
    number = value[0] if isinstance(value, list) and len(value) == 1 else value
    return str(number) if isinstance(number, int) and number >= 0 else ""


def _layout_of(
    path: Path,
    images: dict[str, tuple[tuple[str, ...], list[NDArray[np.float32]]]],
    wanted: str | None,
) -> Layout:
    everyone = [(name, person) for name, (_, people) in images.items() for person in people]
    if not everyone:
        raise TargetError(f"{path}: {len(images)} images were read, and nobody is in any of them")
    first, count = everyone[0][0], len(everyone[0][1])
    for name, person in everyone:
        if len(person) != count:
            raise TargetError(
                f"{path}: a person of {name} has {len(person)} keypoints, those of {first} have "
                f"{count}; give each detector's files a folder and a target of its own"
            )
    if wanted is not None:
        layout = get_layout(wanted)
    elif count == 18:
        layout = get_layout("openpose_coco_18")
    elif count == 25:
        name = _body_25_or_25b(np.array([person for _, person in everyone]))
        if name is None:
            raise TargetError(
                f"{path}: nobody shows enough to tell {_BODY_25} from {_BODY_25B}: say which, "
                f"?layout={_BODY_25}"
            )
        layout = get_layout(name)
    else:
        raise TargetError(
            f"{path}: people of {first} have {count} keypoints; OpenPose's models that can be used "
            "have 18 (COCO) or 25 (BODY_25, BODY_25B)"
        )
    if len(layout) != count:
        raise TargetError(
            f"{path}: layout '{layout.name}' has {len(layout)} keypoints, people of {first} {count}"
        )
    return layout


def _body_25_or_25b(people: NDArray[np.float32]) -> str | None:
    """Which of the two layouts most of (N, 25, 3) people fit better; None if nobody tells."""
    body_25, body_25b = _misfit(_BODY_25, people), _misfit(_BODY_25B, people)
    # BODY_25 has relations for people seen from behind as well; NaN compares as false.
    both = np.isfinite(body_25) & np.isfinite(body_25b)
    votes = {
        _BODY_25: np.count_nonzero(np.where(both, body_25 < body_25b, body_25 <= _TOLERANCE)),
        _BODY_25B: np.count_nonzero(np.where(both, body_25b < body_25, body_25 > _TOLERANCE)),
    }
    winner = max(votes, key=lambda name: votes[name])
    return winner if votes[winner] > sum(votes.values()) / 2 else None


def _misfit(name: str, people: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) the largest way between a keypoint and the middle of the pair that it should lie at.

    In parts of a person's longer side; NaN where no three such keypoints are seen together.
    """
    seen = (people[..., 2] >= SEEN_CONFIDENCE) & np.isfinite(people).all(axis=2)
    points = np.where(seen[..., None], people[..., :2], np.nan).astype(np.float64)
    low = np.where(seen[..., None], points, np.inf).min(axis=1)
    high = np.where(seen[..., None], points, -np.inf).max(axis=1)
    side = np.maximum((high - low).max(axis=1), 1.0)
    names = get_layout(name).keypoint_names
    ways = []
    for middle, part in _BETWEEN[name]:
        at, left, right = (names.index(n) for n in (middle, f"left_{part}", f"right_{part}"))
        way = points[:, at] - (points[:, left] + points[:, right]) / 2
        ways.append(np.linalg.norm(way, axis=1) / side)
    return np.fmax.reduce(ways)
