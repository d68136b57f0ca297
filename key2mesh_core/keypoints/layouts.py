# SPDX-License-Identifier: Apache-2.0
"""Keypoint layouts of common detectors, and the map from each to the network's 18 keypoints.

Keypoints are arrays whose last axis is (x px, y px, confidence); a confidence below
`SEEN_CONFIDENCE` means *not seen*. Maps are made from names, never from hand-written numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.errors import KeypointError

SEEN_CONFIDENCE = 0.1
"""A keypoint of lower confidence counts as unseen (the paper's data preparation)."""

MINIMUM_KEYPOINTS = 6
"""A person needs this many seen keypoints (the paper's evaluation protocol)."""

MINIMUM_SIZE_PX = 2.0
"""A person's box needs a side of this length: below it pixels say nothing about a pose."""

COORDINATE_LIMIT_PX = 1e5
"""No image is this large: a coordinate beyond it is a detector's mistake."""

# Limits of a usable keypoint's x, y and confidence.
_LEAST = np.array([-COORDINATE_LIMIT_PX, -COORDINATE_LIMIT_PX, SEEN_CONFIDENCE], np.float32)
_MOST = np.array([COORDINATE_LIMIT_PX, COORDINATE_LIMIT_PX, np.finfo(np.float32).max], np.float32)
_CUT_TO = np.array([COORDINATE_LIMIT_PX, COORDINATE_LIMIT_PX, 1.0], np.float32)

NETWORK_KEYPOINTS: tuple[str, ...] = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
    "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip",
    "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
"""The network's input order: OpenPose's COCO layout."""


def _mirrored(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


MIRROR: tuple[int, ...] = tuple(
    NETWORK_KEYPOINTS.index(_mirrored(name)) for name in NETWORK_KEYPOINTS
)
"""Permutation that exchanges left and right: `keypoints[:, MIRROR]` after x -> width - x."""

LIMBS: tuple[tuple[int, int], ...] = tuple(
    (NETWORK_KEYPOINTS.index(first), NETWORK_KEYPOINTS.index(second))
    for first, second in (
        ("neck", "right_shoulder"),
        ("right_shoulder", "right_elbow"),
        ("right_elbow", "right_wrist"),
        ("neck", "left_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"),
        ("neck", "right_hip"),
        ("right_hip", "right_knee"),
        ("right_knee", "right_ankle"),
        ("neck", "left_hip"),
        ("left_hip", "left_knee"),
        ("left_knee", "left_ankle"),
        ("neck", "nose"),
        ("nose", "right_eye"),
        ("right_eye", "right_ear"),
        ("nose", "left_eye"),
        ("left_eye", "left_ear"),
    )
)
"""Pairs of network keypoints to join by a line when a skeleton is drawn."""


@dataclass(frozen=True)
class Layout:
    """A detector's order of keypoints.

    Attributes:
        name: how messages and files call the layout.
        keypoint_names: one name per keypoint; those of `NETWORK_KEYPOINTS` are used, the
            others are dropped.

    Raises:
        KeypointError: names repeat, or a keypoint the network needs is missing (the neck may
            be: it is then the middle of the shoulders).
    """

    name: str
    keypoint_names: tuple[str, ...]

    def __post_init__(self) -> None:
        repeated = sorted({n for n in self.keypoint_names if self.keypoint_names.count(n) > 1})
        if repeated:
            raise KeypointError(f"layout '{self.name}' names {repeated} more than once")
        missing = [n for n in NETWORK_KEYPOINTS if n != "neck" and n not in self.keypoint_names]
        if missing:
            raise KeypointError(f"layout '{self.name}' lacks {missing}, which the network needs")

    def __len__(self) -> int:
        return len(self.keypoint_names)

    @property
    def has_neck(self) -> bool:
        return "neck" in self.keypoint_names

    @cached_property
    def network_indices(self) -> NDArray[np.intp]:
        """(18,) where each network keypoint lies in this layout (a shoulder for no neck)."""
        source = self.keypoint_names
        names = (n if n in source else "right_shoulder" for n in NETWORK_KEYPOINTS)
        return np.array([source.index(n) for n in names], dtype=np.intp)


_COCO_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip

_OPENPOSE_FEET = (
    "left_big_toe",
    "left_small_toe",
    "left_heel",
    "right_big_toe",
    "right_small_toe",
    "right_heel",
)

_MEDIAPIPE_33 = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "left_mouth", "right_mouth", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
    "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
    "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip

# MPII's upper neck (BODY_25B, and Halpe 26 as RTMPose is trained) lies at the chin's height, not
# between the shoulders where OpenPose's COCO layout has its neck: another name keeps it out.
_HALPE_26 = (
    *_COCO_17, "head_top", "upper_neck", "mid_hip", "left_big_toe", "right_big_toe",
    "left_small_toe", "right_small_toe", "left_heel", "right_heel",
)  # fmt: skip

# The ZED SDK's necks of these two are joints inside the body, so that the middle of the shoulders
# is nearer to what OpenPose calls the neck; its 18 keypoints are OpenPose's.
_ZED_34 = (
    "pelvis", "naval_spine", "chest_spine", "neck_joint",
    *(f"left_{n}" for n in ("clavicle", "shoulder", "elbow", "wrist", "hand", "handtip", "thumb")),
    *(f"right_{n}" for n in ("clavicle", "shoulder", "elbow", "wrist", "hand", "handtip", "thumb")),
    "left_hip", "left_knee", "left_ankle", "left_foot",
    "right_hip", "right_knee", "right_ankle", "right_foot",
    "head", "nose", "left_eye", "left_ear", "right_eye", "right_ear", "left_heel", "right_heel",
)  # fmt: skip

_ZED_38 = (
    "pelvis", "spine_1", "spine_2", "spine_3", "neck_joint", "nose",
    *(
        f"{side}_{n}"
        for n in (
            "eye", "ear", "clavicle", "shoulder", "elbow", "wrist", "hip", "knee", "ankle",
            "big_toe", "small_toe", "heel", "hand_thumb_4", "hand_index_1", "hand_middle_4",
            "hand_pinky_1",
        )
        for side in ("left", "right")
    ),
)  # fmt: skip

# InstaVariety as its users store it (the key `joints2D`): LSP's order, face and feet after it. Its
# "ankles" 0 and 5 are heels, the ankles stand at the end.
_INSTAVARIETY_25 = (
    "right_heel", "right_knee", "right_hip", "left_hip", "left_knee", "left_heel", "right_wrist",
    "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck",
    "head_top", "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_big_toe",
    "right_big_toe", "left_small_toe", "right_small_toe", "left_ankle", "right_ankle",
)  # fmt: skip

_LAYOUTS = (
    Layout("openpose_coco_18", NETWORK_KEYPOINTS),
    Layout(
        "openpose_body_25",
        (*NETWORK_KEYPOINTS[:8], "mid_hip", *NETWORK_KEYPOINTS[8:], *_OPENPOSE_FEET),
    ),
    Layout("openpose_body_25b", (*_COCO_17, "upper_neck", "head_top", *_OPENPOSE_FEET)),
    Layout("coco_17", _COCO_17),
    # ROS4HRI (REP-155, hri_msgs/Skeleton2D): OpenPose's order but for the eyes and the ears.
    Layout("hri_18", (*NETWORK_KEYPOINTS[:14], "left_eye", "right_eye", "left_ear", "right_ear")),
    Layout("mediapipe_33", _MEDIAPIPE_33),
    Layout("halpe_26", _HALPE_26),
    Layout("zed_34", _ZED_34),
    Layout("zed_38", _ZED_38),
    Layout("instavariety_25", _INSTAVARIETY_25),
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _LAYOUTS}


def get_layout(name: str) -> Layout:
    """The layout called `name`; KeypointError lists the known ones."""
    layout = LAYOUTS.get(name)
    if layout is None:
        raise KeypointError(f"unknown keypoint layout {name!r}; known: {', '.join(LAYOUTS)}")
    return layout


def as_keypoints(keypoints: ArrayLike, count: int, what: str) -> NDArray[np.float32]:
    """`keypoints` as a C-contiguous (N, count, 3) float32 array.

    Values too large for float32 become infinite (and are unseen once sanitised).

    Raises:
        KeypointError: another shape, or values that are not numbers.
    """
    if (
        type(keypoints) is np.ndarray
        and keypoints.dtype == np.float32
        and keypoints.ndim == 3
        and keypoints.shape[1:] == (count, 3)
        and keypoints.flags.c_contiguous
    ):
        return keypoints  # of every frame, and at once
    try:
        array = np.asarray(keypoints)
    except ValueError as error:  # rows of unequal length
        raise KeypointError(f"{what}: persons of unequal numbers of keypoints") from error
    if array.dtype.kind not in "fiu":
        raise KeypointError(f"{what}: numbers expected, got values of type {array.dtype}")
    if array.ndim != 3 or array.shape[1:] != (count, 3):
        raise KeypointError(
            f"{what}: expected shape (N, {count}, 3), got {tuple(array.shape)}; "
            f"the axes are persons, {count} keypoints, (x, y, confidence)"
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def to_network(layout: Layout | str, keypoints: ArrayLike) -> NDArray[np.float32]:
    """Map a detector's keypoints to the network's.

    Args:
        layout: the detector's layout, or its name.
        keypoints: (N, K, 3) x px, y px, confidence, K keypoints in the layout's order.

    Returns:
        (N, 18, 3) float32, a new array. A missing neck is the middle of the shoulders, with
        the smaller of their confidences. Nothing is sanitised.

    Raises:
        KeypointError: unknown layout; a shape that is not the layout's.
    """
    if isinstance(layout, str):
        layout = get_layout(layout)
    source = as_keypoints(keypoints, len(layout), f"layout '{layout.name}'")
    result = source.take(layout.network_indices, axis=1)
    if not layout.has_neck:
        right = result[:, NETWORK_KEYPOINTS.index("right_shoulder")]
        left = result[:, NETWORK_KEYPOINTS.index("left_shoulder")]
        neck = result[:, NETWORK_KEYPOINTS.index("neck")]
        with np.errstate(invalid="ignore"):  # Inf - Inf: unseen once sanitised
            neck[:, :2] = 0.5 * right[:, :2] + 0.5 * left[:, :2]
        neck[:, 2] = np.minimum(right[:, 2], left[:, 2])
    return result


def sanitise(keypoints: ArrayLike) -> NDArray[np.float32]:
    """Replace everything unusable in (N, 18, 3) keypoints by (0, 0, 0), *unseen*.

    Unusable: NaN, infinite, |coordinate| > 1e5 px, confidence < 0.1. Confidences above 1 become
    1. A new float32 array; doing it twice changes nothing.

    Raises:
        KeypointError: another shape.
    """
    array = as_keypoints(keypoints, len(NETWORK_KEYPOINTS), "keypoints")
    # What is not a number lies within no limits.
    within = (array >= _LEAST) & (array <= _MOST)
    seen = within[..., :1] & within[..., 1:2] & within[..., 2:]
    result = np.zeros(array.shape, dtype=np.float32)
    return np.minimum(array, _CUT_TO, out=result, where=seen)


def bounding_boxes(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) x_min, y_min, x_max, y_max px over the seen ones of sanitised (N, 18, 3) keypoints.

    A person without any seen keypoint gets (0, 0, 0, 0).
    """
    points, seen = keypoints[..., :2], keypoints[..., 2:] >= SEEN_CONFIDENCE
    boxes = np.empty((len(keypoints), 4), dtype=np.float32)
    np.minimum.reduce(points, axis=1, where=seen, initial=np.inf, out=boxes[:, :2])
    np.maximum.reduce(points, axis=1, where=seen, initial=-np.inf, out=boxes[:, 2:])
    boxes[boxes[:, 0] > boxes[:, 2]] = 0.0  # nothing was seen
    return boxes


def usable(keypoints: ArrayLike) -> NDArray[np.bool_]:
    """(N,) whether each person of (N, 18, 3) keypoints can be estimated.

    True with at least 6 seen keypoints whose box has a side of at least 2 px.
    """
    return usable_sanitised(sanitise(keypoints))


def usable_sanitised(clean: NDArray[np.float32]) -> NDArray[np.bool_]:
    """`usable` of keypoints that `sanitise` gave: what every frame of a stream asks for."""
    boxes = bounding_boxes(clean)
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    enough = (clean[..., 2] >= SEEN_CONFIDENCE).sum(axis=1) >= MINIMUM_KEYPOINTS
    return enough & (size >= MINIMUM_SIZE_PX)
