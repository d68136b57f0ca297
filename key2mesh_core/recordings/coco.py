# SPDX-License-Identifier: Apache-2.0
"""COCO's keypoint JSON: annotation files and lists of detection results.

- annotations: `{"images": [{"id", "width", "height", "file_name"}], "annotations": [{"image_id",
  "category_id", "keypoints": [x, y, v, ...]}], "categories": [...]}`, v = 0 not labelled, 1 hidden,
  2 visible;
- results: `[{"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}]`, as detectors
  write them.

Non-person categories are dropped and counted. Other programs' own JSON formats are refused by name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import KeypointError, TargetError
from key2mesh_core.io import read_json
from key2mesh_core.keypoints.layouts import Layout, to_network
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame
from key2mesh_core.recordings.jsons import identity, keypoint_list
from key2mesh_core.recordings.numbering import number_names
from key2mesh_core.recordings.options import RecordingOptions
from key2mesh_core.recordings.prepare import DroppedRecords
from key2mesh_core.recordings.which_layout import which_layout

MAX_FILE_BYTES = 512 << 20
"""COCO's largest file of keypoints has 240 MB; a decoded file takes several times its size."""

HIDDEN_CONFIDENCE = 0.5
"""Confidence of a keypoint that is labelled but hidden (v = 1)."""

_WAY_OUT = (
    'write one entry for each person, {"image_id": 0, "category_id": 1, "keypoints": [x, y, score, '
    "...]}, or arrays of a .npz file (docs/recordings.md)"
)

_Person = tuple[str, NDArray[np.float32]]
"""Name and (L, 3) keypoints."""


def read_frames(
    path: Path, options: RecordingOptions, dropped: DroppedRecords
) -> Iterator[PersonFrame]:
    """The people in every image, ordered by the numbers in the file names (or by the images' ids).

    Args:
        options: `layout` and `fps` are used.
        dropped: counts crowds, other categories and people without keypoints.

    Raises:
        TargetError: the file is damaged or in another format; a value has the wrong type; people
            differ in their number of keypoints, or the number is unknown.
        KeypointError: the layout is unknown.
    """
    content = read_json(path, MAX_FILE_BYTES, TargetError)
    _refuse_others(path, content)
    if isinstance(content, dict):
        entries, what = content.get("annotations"), "annotations"
        described = _images(path, content.get("images", []))
        categories = _person_categories(content.get("categories"))
    else:
        entries, what, described, categories = content, "results", {}, {}
    if not isinstance(entries, list):
        raise TargetError(
            f'{path} is neither an annotation file (with "annotations") nor a list of results'
        )
    people = _people(path, what, entries, set(categories), dropped)
    if not any(people.values()) and not described:
        causes = f": {dropped}" if dropped.counts else ""
        raise TargetError(f"{path}: its list of {what} has no person with keypoints{causes}")
    everyone = [points for persons in people.values() for _, points in persons]
    layout = _layout_of(path, everyone, options.layout, categories)
    if isinstance(content, dict):
        flags = [np.nan_to_num(points[:, 2]) for points in everyone]
        if np.isin(flags, (0, 1, 2)).all():  # visibility flags, not scores
            for points, own in zip(everyone, flags, strict=True):
                points[:, 2] = np.choose(own.astype(int), [0.0, HIDDEN_CONFIDENCE, 1.0])
    images = {image: (str(image), 0, 0) for image in people} | described
    of_name = {name: image for image, (name, _, _) in images.items()}
    if len(of_name) < len(images):
        raise TargetError(
            f"{path}: the same image ids occur as numbers and as strings; use one type"
        )
    for name, (stream, number) in number_names(of_name).items():
        _, width, height = images[of_name[name]]
        persons = people.get(of_name[name], [])
        keypoints = np.array([points[: len(layout)] for _, points in persons], dtype=np.float32)
        yield PersonFrame(
            ids=tuple(name for name, _ in persons),
            keypoints=to_network(layout, keypoints.reshape(len(persons), len(layout), 3)),
            layout=NETWORK_LAYOUT,
            stamp_ns=round(1e9 * number / options.fps),
            width=width,
            height=height,
            stream=f"{path.name} {stream}",
            number=number,
        )


def _refuse_others(path: Path, content: Any) -> None:
    """Refuses, by name, the JSON of programs that write keypoints in their own format."""
    whole = content if isinstance(content, dict) else {}
    first = content[0] if isinstance(content, list) and content else None
    first = first if isinstance(first, dict) and "image_id" not in first else {}
    boxes = isinstance(first.get("keypoints"), dict) or {"box", "class", "confidence"} <= {*first}
    for owner, is_theirs in (
        ("MMPose's (instance_info)", "instance_info" in whole),
        ("LabelMe's (shapes)", {"shapes", "imagePath"} <= {*whole}),
        ("MMPose's own (keypoint_scores)", {"keypoint_scores", "instances"} & {*first}),
        ("Ultralytics' own (box, class, keypoints)", boxes),
    ):
        if is_theirs:
            raise TargetError(
                f"{path} is {owner} JSON, which does not say which image a person belongs to, and "
                f"not COCO's: {_WAY_OUT}"
            )


def _images(path: Path, images: Any) -> dict[int | str, tuple[str, int, int]]:
    """id -> file name, width, height."""
    if not isinstance(images, list):
        raise TargetError(f'{path}: "images" is not a list')
    found = {}
    for index, image in enumerate(images):
        own = identity(image.get("id")) if isinstance(image, dict) else None
        if own is None:
            raise TargetError(f"{path}: images[{index}] has no id")
        width, height = image.get("width") or 0, image.get("height") or 0
        sound = all(type(n) is int and 0 <= n < 1 << 20 for n in (width, height))
        if not sound or bool(width) != bool(height):
            raise TargetError(
                f"{path}: images[{index}] is {width!r} x {height!r} large; width and height must "
                "be whole numbers of pixels"
            )
        # The id makes names unique, as cameras may name their files alike.
        name = image.get("file_name")
        found[own] = (name if isinstance(name, str) else str(own), width, height)
    if len({name for name, _, _ in found.values()}) < len(found):
        found = {key: (f"image {key}", *size) for key, (_, *size) in found.items()}
    return found


def _person_categories(categories: Any) -> dict[Any, tuple[str, ...]]:
    """id -> keypoint names, for the person categories: those named so, else those with keypoints.
    Empty if the file has none."""
    found, persons = {}, set()
    for category in categories if isinstance(categories, list) else []:
        own = identity(category.get("id")) if isinstance(category, dict) else None
        if own is None:
            continue
        names = category.get("keypoints")
        found[own] = tuple(map(str, names)) if isinstance(names, list) else ()
        if str(category.get("name", "")).lower() == "person":
            persons.add(own)
    return {i: names for i, names in found.items() if (i in persons if persons else names)}


def _people(
    path: Path, what: str, entries: list, categories: set[Any], dropped: DroppedRecords
) -> dict[int | str, list[_Person]]:
    """image id -> people."""
    people = defaultdict(list)
    used = {str(e["category_id"]) for e in entries if isinstance(e, dict) and "category_id" in e}
    if not categories and len(used) > 1 and "1" in used:
        categories = {1}  # results have no categories, and COCO's person is 1
    for index, entry in enumerate(entries):
        where = f"{what}[{index}]"
        if not isinstance(entry, dict) or "image_id" not in entry:
            raise TargetError(f'{path}: {where} has no "image_id", as COCO has: {_WAY_OUT}')
        image = identity(entry["image_id"])
        if image is None:
            value = entry["image_id"]
            raise TargetError(f"{path}: {where}.image_id is {value!r}, not a number or a name")
        # Not a set look-up: a category_id may be anything, even a list.
        if categories and entry.get("category_id", next(iter(categories))) not in [*categories]:
            dropped.add("other_category", where)
            continue
        if entry.get("iscrowd"):
            dropped.add("crowd", where)
            continue
        if not entry.get("keypoints"):
            dropped.add("no_keypoints", f"{where}; COCO keeps keypoints in person_keypoints_*.json")
            continue
        track = identity(entry.get("track_id", entry.get("idx")))
        name = "" if track is None else str(track)
        people[image].append((name, keypoint_list(path, f"{where}.keypoints", entry["keypoints"])))
    return people


def _layout_of(
    path: Path,
    everyone: list[NDArray[np.float32]],
    stated: str,
    categories: dict[Any, tuple[str, ...]],
) -> Layout:
    """The stated layout; else the one with the file's names, else by number and positions."""
    counts = sorted({len(points) for points in everyone})
    if len(counts) > 1:
        raise TargetError(f"{path}: people with {counts} keypoints in one file")
    named = {names for names in categories.values() if names}
    if not everyone:
        everyone = [np.zeros((17, 3), np.float32)]
    elif not stated and len(named) == 1 and len(names := next(iter(named))) == counts[0]:
        plain = tuple(name.strip().lower().replace(" ", "_").replace("-", "_") for name in names)
        try:
            return Layout(f"of {path.name}", plain)
        except KeypointError as error:
            raise TargetError(
                f"{path}: its keypoints are {list(names)}, which are not COCO's "
                f"names ({error}); name the right layout, layout=NAME, if there is one"
            ) from error
    return which_layout(np.array(everyone), stated, str(path))
