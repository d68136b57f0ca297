# SPDX-License-Identifier: Apache-2.0
"""Our body inside the `smplx` package, with the interface of our own torch body.

Imports `smplx`, whose licence is non-commercial: benchmarks and tests may, nothing else does.
"""

from __future__ import annotations

import contextlib
import io

import numpy as np
import torch
from smplx import SMPL
from smplx.utils import Struct
from torch import Tensor, nn

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.keypoint_regressor import FACE_ROW, joint_mix, shape_directions
from key2mesh_core.keypoints.table import KEYPOINTS


class SmplxBody(nn.Module):
    """A body posed by `smplx`: joints, keypoints and mesh all come from its one forward pass.

    `latest_vertices (N, V, 3)`: the mesh of the last call of `keypoints`, pelvis at the origin.
    """

    def __init__(self, data: BodyData, as_detected: bool = True) -> None:
        super().__init__()
        count = len(data.template)
        pose_directions = data.pose_directions
        if pose_directions is None:
            # The package knows no body without pose correctives.
            pose_directions = np.zeros((count, 3, 207), np.float32)
        content = Struct(
            v_template=data.template,
            shapedirs=shape_directions(data),
            posedirs=pose_directions,
            J_regressor=data.joint_regressor,
            weights=data.skinning_weights,
            kintree_table=np.stack([data.parents, np.arange(24)]).astype(np.int64),
            f=data.triangles.astype(np.int64),
        )
        # Its own vertex numbers for face and feet are those of another mesh.
        landmarks = dict.fromkeys(_LANDMARKS, 0)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints instead of warning
            self.model = SMPL("", data_struct=content, vertex_ids=landmarks, num_betas=10)
        face = np.zeros((len(KEYPOINTS), count), np.float32)
        for keypoint, row in FACE_ROW.items():
            face[keypoint] = data.face_regressor[row]
        rest = data.joint_regressor @ data.template
        self.register_buffer("face", torch.from_numpy(face))
        self.register_buffer("mix", torch.from_numpy(joint_mix(rest, as_detected)))
        self.latest_vertices: Tensor | None = None

    def keypoints(self, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (N, 24, 3) and the network's keypoints (N, K, 3) [m], pelvis at the origin."""
        output = self.model(
            betas=betas,
            global_orient=rotations[:, :1],
            body_pose=rotations[:, 1:],
            pose2rot=False,
        )
        joints = output.joints[:, :24]
        pelvis = joints[:, :1]
        self.latest_vertices = output.vertices - pelvis
        joints = joints - pelvis
        return joints, self.mix @ joints + self.face @ self.latest_vertices


_LANDMARKS = (
    "nose",
    *(f"{side}{part}" for part in ("eye", "ear") for side in "rl"),
    *("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"),
    *(
        f"{side}{finger}"
        for side in "lr"
        for finger in ("thumb", "index", "middle", "ring", "pinky")
    ),
)
