# SPDX-License-Identifier: Apache-2.0
"""Keypoint layouts of common detectors, and the map from each to the network's keypoints.

The maps are computed from names, never from hand-written indices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.errors import KeypointError
from key2mesh_core.keypoints.arrays import as_keypoints, is_seen, without_placeholders
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS, REQUIRED, number_of

_NECK = number_of("neck")
_SHOULDERS = [number_of("right_shoulder"), number_of("left_shoulder")]


@dataclass(frozen=True)
class Layout:
    """A detector's keypoint order.

    Attributes:
        name: the layout's name in messages and files.
        keypoint_names: one name per keypoint; those not in `NETWORK_KEYPOINTS` are dropped.

    Raises:
        KeypointError: a name occurs twice, or a required keypoint other than the neck is missing.
    """

    name: str
    keypoint_names: tuple[str, ...]

    def __post_init__(self) -> None:
        repeated = sorted({n for n in self.keypoint_names if self.keypoint_names.count(n) > 1})
        if repeated:
            raise KeypointError(f"layout '{self.name}' names {repeated} more than once")
        required = set(NETWORK_KEYPOINTS[:REQUIRED]) - {"neck"}
        missing = sorted(required - set(self.keypoint_names))
        if missing:
            raise KeypointError(f"layout '{self.name}' lacks {missing}, which the network needs")

    def __len__(self) -> int:
        return len(self.keypoint_names)

    @cached_property
    def network_indices(self) -> NDArray[np.intp]:
        """(K,) index of each network keypoint in this layout; 0 for a missing one."""
        names = self.keypoint_names
        return np.array([names.index(n) if n in names else 0 for n in NETWORK_KEYPOINTS], np.intp)

    @cached_property
    def lacking(self) -> list[int]:
        """Indices of the network's keypoints that this layout lacks, except the neck."""
        known = (*self.keypoint_names, "neck")
        return [number for number, name in enumerate(NETWORK_KEYPOINTS) if name not in known]


_COCO_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip

_OPENPOSE_COCO = NETWORK_KEYPOINTS[:REQUIRED]

_FEET = (
    "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip

_MEDIAPIPE_33 = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "left_mouth", "right_mouth", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
    "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
    "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip

# MPII's upper neck (in BODY_25B, and in Halpe 26 as used to train RTMPose) is at the height of the
# chin, not between the shoulders like the neck of OpenPose's COCO layout. A different name keeps it
# out.
_HALPE_26 = (
    *_COCO_17, "head_top", "upper_neck", "mid_hip", "left_big_toe", "right_big_toe",
    "left_small_toe", "right_small_toe", "left_heel", "right_heel",
)  # fmt: skip

# In these two, the ZED SDK's neck is a joint inside the body; the midpoint of the shoulders is
# nearer to OpenPose's neck. The SDK's 18 keypoints are OpenPose's.
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

# InstaVariety as commonly stored (key `joints2D`): LSP's order, then face and feet. Its "ankles" 0
# and 5 are heels; the true ankles come last.
_INSTAVARIETY_25 = (
    "right_heel", "right_knee", "right_hip", "left_hip", "left_knee", "left_heel", "right_wrist",
    "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck",
    "head_top", "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_big_toe",
    "right_big_toe", "left_small_toe", "right_small_toe", "left_ankle", "right_ankle",
)  # fmt: skip

_LAYOUTS = (
    Layout("openpose_coco_18", _OPENPOSE_COCO),
    Layout("openpose_body_25", (*_OPENPOSE_COCO[:8], "mid_hip", *_OPENPOSE_COCO[8:], *_FEET)),
    Layout("openpose_body_25b", (*_COCO_17, "upper_neck", "head_top", *_FEET)),
    Layout("coco_17", _COCO_17),
    # ROS4HRI (REP-155, hri_msgs/Skeleton2D): OpenPose's order except for eyes and ears.
    Layout("hri_18", (*_OPENPOSE_COCO[:14], "left_eye", "right_eye", "left_ear", "right_ear")),
    Layout("mediapipe_33", _MEDIAPIPE_33),
    Layout("halpe_26", _HALPE_26),
    Layout("zed_34", _ZED_34),
    Layout("zed_38", _ZED_38),
    Layout("instavariety_25", _INSTAVARIETY_25),
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _LAYOUTS}


def get_layout(name: str) -> Layout:
    """The layout called `name`; raises KeypointError if it is unknown."""
    layout = LAYOUTS.get(name)
    if layout is None:
        raise KeypointError(f"unknown keypoint layout {name!r}; known: {', '.join(LAYOUTS)}")
    return layout


def to_network(layout: Layout | str, keypoints: ArrayLike) -> NDArray[np.float32]:
    """Map a detector's keypoints to the network's.

    Args:
        layout: the detector's layout, or its name.
        keypoints: (N, L, 3) x px, y px, confidence, L keypoints in the layout's order.

    Returns:
        (N, K, 3) float32 in the order of `NETWORK_KEYPOINTS`, a new array. A missing neck
        becomes the midpoint of the shoulders with the smaller of their confidences, or (0, 0, 0)
        unless both are seen. Other keypoints that the layout lacks are (0, 0, 0), and so are
        placeholders outside the image (`arrays.without_placeholders`). The result is not sanitised.

    Raises:
        KeypointError: the layout is unknown, or the shape does not match it.
    """
    if isinstance(layout, str):
        layout = get_layout(layout)
    source = as_keypoints(keypoints, len(layout), f"layout '{layout.name}'")
    source = without_placeholders(source)
    result = source.take(layout.network_indices, axis=1)
    if "neck" not in layout.keypoint_names:
        shoulders = result[:, _SHOULDERS]
        seen = is_seen(shoulders).all(axis=1)
        shoulders[~seen] = 0.0
        result[:, _NECK, :2] = shoulders[..., :2].mean(axis=1)
        result[:, _NECK, 2] = shoulders[..., 2].min(axis=1)
    if layout.lacking:
        result[:, layout.lacking] = 0.0
    return result
