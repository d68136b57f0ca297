# SPDX-License-Identifier: Apache-2.0
"""Finds the layout of a file's keypoints: as stated, else by their number and positions.

The same rule applies to every kind of file. Larger numbers are whole-body layouts, whose first
keypoints are the layout's and whose others (hands, face) are dropped. If two layouts have the same
number, the positions of some keypoints between others distinguish them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import TargetError
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE, without_placeholders
from key2mesh_core.keypoints.layouts import Layout, get_layout

_BODY_25, _BODY_25B = "openpose_body_25", "openpose_body_25b"

BY_COUNT = {
    17: "coco_17", 18: "openpose_coco_18", 25: f"{_BODY_25} or {_BODY_25B}", 26: "halpe_26",
    33: "mediapipe_33", 34: "zed_34", 38: "zed_38",
}  # fmt: skip
"""Layout by number of keypoints."""

FIRST_OF = {23: 17, 133: 17, 135: 25, 136: 26, 137: 25, 543: 33, 553: 33}
"""Number of leading body keypoints in whole-body layouts: COCO-WholeBody with feet and complete,
OpenPose's BODY_135, Halpe's 136, BODY_25 with face and hands, MediaPipe Holistic (468 or 478 face
points)."""

# Keypoints that lie midway between two others, by index.
_HUMAN36M = "Human3.6M's 17 joints"
_BETWEEN = {
    _BODY_25: ((1, 2, 5), (8, 9, 12), (0, 15, 16)),  # neck, mid_hip, nose
    _BODY_25B: ((0, 1, 2),),  # nose between the eyes
    "coco_17": ((0, 1, 2), (0, 3, 4)),  # nose between the eyes and between the ears
    _HUMAN36M: ((0, 1, 4), (8, 11, 14), (7, 0, 8)),  # pelvis, thorax, spine
}
_TOLERANCE = 0.15
"""Tolerance relative to the person's longer side."""

_SURE_FACE, _LARGEST_FACE = 0.2, 0.45
"""Largest extent of a face relative to the person's longer side, for somebody who is almost
completely visible (AIST++'s dancers: 0.10 in the median, 0.33 at most)."""

_LEAST_CONFIDENCE, _MOST_CONFIDENCE = -0.01, 100.0
_FEW = 0.01


def which_layout(people: NDArray[np.float32], stated: str, where: str) -> Layout:
    """The layout of people's keypoints.

    Args:
        people: (N, L, 3) x, y, confidence.
        stated: stated name of the layout, or empty.
        where: source of the people, for errors.

    Raises:
        TargetError: no layout has this number of keypoints, no person distinguishes two candidates,
            or the third numbers are not confidences.
        KeypointError: `stated` is not a layout.
    """
    _refuse_no_confidences(people, where)
    count = people.shape[1]
    body = FIRST_OF.get(count, count)
    if stated:
        layout = get_layout(stated)
        if len(layout) not in (count, body):
            raise TargetError(
                f"{where}: layout '{layout.name}' has {len(layout)} keypoints, people here {count}"
            )
        return layout
    if body == 25:
        share = _votes(people[:, :25], _BODY_25, _BODY_25B)
        if share is None or share == 0.5:
            raise TargetError(
                f"{where}: nobody is visible enough to tell {_BODY_25} from {_BODY_25B}: state it, "
                f"layout={_BODY_25}"
            )
        return get_layout(_BODY_25 if share > 0.5 else _BODY_25B)
    if body not in BY_COUNT:
        raise TargetError(
            f"{where}: people have {count} keypoints, but no known layout has this "
            f"number ({', '.join(map(str, (*BY_COUNT, *FIRST_OF)))}): name it, layout=NAME"
        )
    if body in (17, 26):
        _refuse_other_orders(people[:, :17], where)
    return get_layout(BY_COUNT[body])


def _refuse_no_confidences(people: NDArray[np.float32], where: str) -> None:
    third = people[..., 2]
    with np.errstate(invalid="ignore"):
        given = np.isfinite(people).all(axis=-1) & (people[..., :2] > 0).all(axis=-1)
        no_confidence = given & ((third < _LEAST_CONFIDENCE) | (third > _MOST_CONFIDENCE))
    values = third[given]
    # Some confidences are always low, while metres and percentages may all be large.
    large = len(values) and np.count_nonzero(values <= 1) <= _FEW * len(values)
    if np.count_nonzero(no_confidence) > _FEW * len(values) or (large and (values != 2).any()):
        raise TargetError(
            f"{where}: the third number of keypoints, from {values.min():.3g} to "
            f"{values.max():.3g}, is not a confidence of 0 to 1 but z, a distance or percentage: "
            "give x px, y px, confidence (MediaPipe's `visibility`)"
        )


def _refuse_other_orders(people: NDArray[np.float32], where: str) -> None:
    """Refuses 17 keypoints that do not begin with a face, which are in another order."""
    face = _face_share(people)
    if 0.0 < face < _SURE_FACE:
        return
    if (_votes(people, _HUMAN36M, "coco_17") or 0.0) > 0.5:
        what = f"lie like {_HUMAN36M} (pelvis, right hip, right knee...), not like"
    elif face > _LARGEST_FACE:
        what = "do not begin with a face, so they are not in the order of"
    else:
        return
    raise TargetError(
        f"{where}: the keypoints {what} COCO's 17 (nose, eyes, ears...): give the detector's own "
        "keypoints, or say layout=coco_17 if they are"
    )


def _face_share(people: NDArray[np.float32]) -> float:
    """The median extent of the first five keypoints relative to the whole person; 0 if nobody is
    almost completely visible."""
    points = _seen_points(people)
    whole = np.isfinite(points[..., 0])
    shown = (whole.sum(axis=1) >= 12) & (whole[:, :5].sum(axis=1) >= 3)
    if not shown.any():
        return 0.0
    face, body = (
        (np.nanmax(each, axis=1) - np.nanmin(each, axis=1)).max(axis=1)
        for each in (points[shown, :5], points[shown])
    )
    return float(np.median(face / np.maximum(body, 1e-6)))


def _votes(people: NDArray[np.float32], first: str, second: str) -> float | None:
    """The share of people who fit the first of two layouts better, among those who distinguish
    them; None if nobody does."""
    of_first, of_second = _misfit(first, people), _misfit(second, people)
    # A person seen from behind may show only one layout's relations; NaN compares as false.
    both = np.isfinite(of_first) & np.isfinite(of_second)
    for_first = np.where(both, of_first < of_second, of_first <= _TOLERANCE)
    for_second = np.where(both, of_second < of_first, of_first > _TOLERANCE)
    telling = np.count_nonzero(for_first) + np.count_nonzero(for_second)
    return np.count_nonzero(for_first) / telling if telling else None


def _misfit(name: str, people: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) the largest distance between a keypoint and the midpoint of the pair where it should be.

    Relative to the person's longer side; NaN if no three such keypoints are seen together.
    """
    points = _seen_points(people)
    low = np.fmin.reduce(points, axis=1, initial=np.inf)
    high = np.fmax.reduce(points, axis=1, initial=-np.inf)
    side = np.maximum((high - low).max(axis=1), 1e-6)
    ways = [
        np.linalg.norm(points[:, at] - (points[:, one] + points[:, other]) / 2, axis=1) / side
        for at, one, other in _BETWEEN[name]
    ]
    return np.fmax.reduce(ways)


def _seen_points(people: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, L, 2) positions of the seen keypoints; NaN for the others."""
    people = without_placeholders(people)
    points = people[..., :2].astype(np.float64)
    with np.errstate(invalid="ignore"):
        seen = (people[..., 2] >= SEEN_CONFIDENCE) & np.isfinite(people).all(axis=2)
    return np.where((seen & points.any(axis=2))[..., None], points, np.nan)
