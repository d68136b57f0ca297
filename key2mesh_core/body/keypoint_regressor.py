# SPDX-License-Identifier: Apache-2.0
"""An exact keypoint regressor that needs a few numbers per keypoint instead of thousands of
vertices.

A regressed keypoint is linear in the vertices, and linear blend skinning is linear in the joints'
transforms. For keypoint j and joint k, everything that depends on vertices, `sum_v J[j, v] w[v, k]
(template_v, shape_directions_v, pose_directions_v, 1)`, is therefore summed once. Keypoints then
cost a few 3x3 products instead of a mesh, and equal those regressed from the mesh up to rounding,
forward and backward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from key2mesh_core.body.data import BETA_COUNT, FACE_NAMES, JOINT_COUNT, JOINT_NAMES, BodyData
from key2mesh_core.keypoints.table import KEYPOINTS, number_of

#: Row of `BodyData.face_regressor` for each keypoint that is a landmark on the skin.
FACE_ROW = {number_of(name): row for row, name in enumerate(FACE_NAMES)}
#: Distance between detected hips as a share of the thigh: 0.58 to 0.65 on triangulated COCO
#: detections of AIST++, where SMPL's own hip joints are closer together.
_DETECTED_HIP_WIDTH = 0.6


@dataclass(frozen=True)
class ReducedRegressor:
    """Keypoints as sums of P parts, each fixed to one joint of the tree.

    `keypoint (P,)` and `joint (P,)` that a part belongs to, its place in the rest pose times its
    weight `template (P, 3)` m, `shape (P, 3, 10)` m per beta, `pose (P, 3, 207)` or None, and the
    weight `mass (P,)`; the weights of a keypoint's parts sum to 1.
    """

    keypoint: np.ndarray
    joint: np.ndarray
    template: np.ndarray
    shape: np.ndarray
    pose: np.ndarray | None
    mass: np.ndarray


def joint_mix(joints: np.ndarray, as_detected: bool) -> np.ndarray:
    """Rows (K, 24) that turn joints into keypoints; all zero for landmarks on the skin.

    Args:
        joints: (24, 3) joints of the body at rest [m], which give the distance of its hips.
        as_detected: put neck and hips where COCO-trained detectors do: the neck at the midpoint of
            the shoulders (as for layouts without a neck), the hips as far apart as detectors report
            them. Otherwise use SMPL's joints, as in the paper.
    """
    mix = np.zeros((len(KEYPOINTS), JOINT_COUNT), np.float32)
    for row, keypoint in zip(mix, KEYPOINTS, strict=True):
        if keypoint.joint:
            row[JOINT_NAMES.index(keypoint.joint)] = 1
    if as_detected:
        right_hip, left_hip, knee, *shoulders = (
            JOINT_NAMES.index(name)
            for name in ("right_hip", "left_hip", "right_knee", "right_shoulder", "left_shoulder")
        )
        neck = mix[number_of("neck")]
        neck[:] = 0
        neck[shoulders] = 0.5
        width = np.linalg.norm(joints[right_hip] - joints[left_hip])
        thigh = np.linalg.norm(joints[right_hip] - joints[knee])
        spread = max(1.0, _DETECTED_HIP_WIDTH * thigh / width)
        share = (1 + spread) / 2, (1 - spread) / 2
        mix[number_of("right_hip"), [right_hip, left_hip]] = share
        mix[number_of("left_hip"), [left_hip, right_hip]] = share
    return mix


def reduce_regressor(body: BodyData, as_detected: bool = True) -> ReducedRegressor:
    """Joints as they are, and landmarks summed through the skinning weights, in double precision.

    Args:
        as_detected: where neck and hips are, see `joint_mix`.
    """
    regressor = body.joint_regressor.astype(np.float64)
    directions = shape_directions(body)
    mix = joint_mix(regressor @ body.template, as_detected)
    keypoint, joint = np.nonzero(mix)
    weight = mix[keypoint, joint].astype(np.float64)
    of_joints = weight[:, None] * regressor[joint]  # (P, V)
    # Parts without any vertex contribute exactly zero whatever the pose.
    face, weights = body.face_regressor.astype(np.float64), body.skinning_weights.astype(np.float64)
    rows, joints = np.nonzero(np.einsum("fv,vk->fk", np.abs(face), np.abs(weights)))
    of_skin = face[rows] * weights[:, joints].T
    keypoint_of_row = {row: number for number, row in FACE_ROW.items()}
    share = np.concatenate([of_joints, of_skin])
    pose = body.pose_directions
    if pose is not None:
        moved = np.einsum("pv,vcb->pcb", of_skin, pose).astype(np.float32)
        pose = np.concatenate([np.zeros((len(weight), *moved.shape[1:]), np.float32), moved])
    return ReducedRegressor(
        keypoint=np.append(keypoint, [keypoint_of_row[int(row)] for row in rows]).astype(np.int64),
        joint=np.append(joint, joints).astype(np.int64),
        template=share @ body.template,
        shape=np.einsum("pv,vcb->pcb", share, directions),
        pose=pose,
        mass=np.append(weight, of_skin.sum(1)),
    )


def shape_directions(body: BodyData) -> np.ndarray:
    """The first 10 shape directions (V, 3, 10); a body with fewer is padded with zeros."""
    directions = body.shape_directions[:, :, :BETA_COUNT]
    missing = BETA_COUNT - directions.shape[2]
    return np.pad(directions, ((0, 0), (0, 0), (0, missing)))
