# SPDX-License-Identifier: Apache-2.0
"""COCO's keypoint JSON: files of annotations, and lists of detection results.

- annotations: `{"images": [{"id", "width", "height", "file_name"}], "annotations": [{"image_id",
  "keypoints": [x, y, v, ...]}], "categories": [...]}`, v = 0 not labelled, 1 hidden, 2 visible;
- results: `[{"image_id", "keypoints": [x, y, score, ...], "score"}]`, as detectors write them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import TargetError
from key2mesh_core.io import read_json
from key2mesh_core.keypoints.layouts import Layout, get_layout, to_network
from key2mesh_core.recordings.detections import Detections, Losses
from key2mesh_core.recordings.jsons import keypoint_list
from key2mesh_core.recordings.numbering import number_names

MAX_FILE_BYTES = 512 << 20
"""COCO's largest file of keypoints has 240 MB; a decoded file takes several times its size."""

LAYOUTS_BY_COUNT = {17: "coco_17", 26: "halpe_26"}

HIDDEN_CONFIDENCE = 0.5
"""Of a keypoint that was labelled though it cannot be seen (v = 1)."""


def read_detections(
    path: str | Path, size: tuple[int, int], layout: str | None, losses: Losses
) -> Iterator[Detections]:
    """The people of every image, ordered by the numbers in the files' names (or the images' ids).

    Args:
        path: the file.
        size: width and height [px] of the images that the file does not describe; 0 for unknown.
        layout: name of the layout; None takes it from the number of keypoints.
        losses: gets crowds, which are no persons.

    Raises:
        TargetError: the file is damaged or another's; a value is of the wrong kind.
        KeypointError: an unknown layout.
    """
    path = Path(path)
    content = read_json(path, MAX_FILE_BYTES, TargetError)
    if isinstance(content, dict):
        entries, what = content.get("annotations"), "annotations"
        described = _images(path, content.get("images", []))
        categories = content.get("categories", [])
    else:
        entries, what, described, categories = content, "results", {}, []
    if not isinstance(entries, list):
        raise TargetError(
            f'{path} is neither a file of annotations (a list "annotations") nor a list of results'
        )
    people = _people(path, what, entries, losses)
    if not any(people.values()) and not described:
        raise TargetError(f"{path}: its list of {what} has no person with keypoints")
    known = _layout_of(path, people, layout, categories)
    if isinstance(content, dict) and _are_flags(people):
        for persons in people.values():
            for _, points in persons:
                points[:, 2] = np.choose(points[:, 2].astype(int), [0.0, HIDDEN_CONFIDENCE, 1.0])
    everywhere = dict.fromkeys([*described, *people])
    names = {image: described.get(image, (str(image), 0, 0))[0] for image in everywhere}
    numbered = number_names(names.values())
    ordered = {name: image for image, name in names.items()}
    if len(ordered) < len(names):
        raise TargetError(f"{path}: image ids as numbers and the same as texts; use one kind")
    for name, (stream, number) in numbered.items():
        image = ordered[name]
        persons = people.get(image, [])
        keypoints = np.array([points for _, points in persons], dtype=np.float32)
        stacked = keypoints.reshape(len(persons), len(known), 3)
        _, width, height = described.get(image, ("", 0, 0))
        yield Detections(
            stream=f"{path.name} {stream}",
            frame=number,
            ids=tuple(name for name, _ in persons),
            keypoints=to_network(known, stacked),
            width=width or size[0],
            height=height or size[1],
        )


def _images(path: Path, images: Any) -> dict[int | str, tuple[str, int, int]]:
    """id -> file name, width, height."""
    if not isinstance(images, list):
        raise TargetError(f'{path}: "images" is not a list')
    found = {}
    for index, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
            raise TargetError(f"{path}: images[{index}] has no id")
        width, height = image.get("width", 0), image.get("height", 0)
        if not all(type(n) is int and 0 <= n < 1 << 20 for n in (width, height)):
            raise TargetError(f"{path}: images[{index}] is {width!r} x {height!r} pixels large")
        # The id makes names unique, as cameras may name their files alike.
        name = image.get("file_name")
        found[image["id"]] = (name if isinstance(name, str) else str(image["id"]), width, height)
    if len({name for name, _, _ in found.values()}) < len(found):
        found = {key: (f"image {key}", *size) for key, (_, *size) in found.items()}
    return found


def _people(
    path: Path, what: str, entries: list, losses: Losses
) -> dict[int | str, list[tuple[str, NDArray[np.float32]]]]:
    """image id -> persons as (name, (K, 3) keypoints)."""
    people = defaultdict(list)
    for index, entry in enumerate(entries):
        where = f"{what}[{index}]"
        if not isinstance(entry, dict) or "image_id" not in entry:
            raise TargetError(f'{path}: {where} has no "image_id", so this is not COCO\'s format')
        image = entry["image_id"]
        if not isinstance(image, int | str):
            raise TargetError(f"{path}: {where}.image_id is {image!r}, not a number or a name")
        if "keypoints" not in entry:
            raise TargetError(
                f'{path}: {where} has no "keypoints"; COCO keeps them in person_keypoints_*.json'
            )
        if entry.get("iscrowd"):
            losses.add("crowd", where)
            continue
        track = entry.get("track_id", entry.get("idx"))
        name = str(track) if isinstance(track, int | str) else ""
        people[image].append((name, keypoint_list(path, f"{where}.keypoints", entry["keypoints"])))
    return people


def _layout_of(
    path: Path,
    people: dict[int | str, list[tuple[str, NDArray[np.float32]]]],
    wanted: str | None,
    categories: Any,
) -> Layout:
    counts = sorted({len(points) for persons in people.values() for _, points in persons})
    if len(counts) > 1:
        raise TargetError(f"{path}: persons of {counts} keypoints in one file")
    count = counts[0] if counts else len(get_layout(wanted or "coco_17"))
    if wanted is None and count not in LAYOUTS_BY_COUNT:
        raise TargetError(
            f"{path}: persons of {count} keypoints; known are {LAYOUTS_BY_COUNT}: name another "
            "with ?layout="
        )
    layout = get_layout(wanted or LAYOUTS_BY_COUNT[count])
    if len(layout) != count:
        raise TargetError(
            f"{path}: layout '{layout.name}' has {len(layout)} keypoints, persons here have {count}"
        )
    for category in categories if isinstance(categories, list) and wanted is None else []:
        names = category.get("keypoints") if isinstance(category, dict) else None
        if names and tuple(names) != layout.keypoint_names:
            raise TargetError(
                f"{path}: its keypoints are {names}, not those of '{layout.name}'; name the right "
                "layout with ?layout= if there is one"
            )
    return layout


def _are_flags(people: dict[int | str, list[tuple[str, NDArray[np.float32]]]]) -> bool:
    """Whether the third numbers are visibility flags rather than scores."""
    return all(
        np.isin(points[:, 2], (0, 1, 2)).all()
        for persons in people.values()
        for _, points in persons
    )
