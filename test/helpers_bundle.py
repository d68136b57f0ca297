# SPDX-License-Identifier: Apache-2.0
"""A small model bundle without trained weights, for tests of everything around the weights.

`make_bundle(folder)` writes a real bundle of two real, tiny ONNX graphs. Its body is always in
T-pose, upright and facing the camera; where it stands follows from the box around the seen
keypoints: as far away as a person of `HEIGHT_M` would be. Its mesh is a thin double pyramid
along each bone.

The ways in which bundles and engines fail are here too: `damage`, `rewrite_manifest`,
`FakeEngine`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import numpy_helper

from key2mesh_core.errors import EngineError
from key2mesh_core.keypoints.table import KEYPOINTS, REQUIRED
from key2mesh_core.model import bundle as bundles
from key2mesh_core.model import estimator
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.model.engines.choice import Choice
from key2mesh_core.model.engines.onnx import POSE_CHUNK
from key2mesh_core.model.engines.protocol import Engine
from key2mesh_core.model.estimator import Estimator

HEIGHT_M = 1.5  # from eyes to ankles: about what the box around the keypoints holds

JOINTS: dict[str, tuple[int, tuple[float, float, float]]] = {
    # name: (parent, place of the T-pose relative to the pelvis [m]); y up, facing +z, left is +x
    "pelvis": (-1, (0.0, 0.0, 0.0)),
    "left_hip": (0, (0.09, -0.08, 0.0)),
    "right_hip": (0, (-0.09, -0.08, 0.0)),
    "spine1": (0, (0.0, 0.11, -0.02)),
    "left_knee": (1, (0.11, -0.47, 0.0)),
    "right_knee": (2, (-0.11, -0.47, 0.0)),
    "spine2": (3, (0.0, 0.24, -0.02)),
    "left_ankle": (4, (0.10, -0.87, -0.03)),
    "right_ankle": (5, (-0.10, -0.87, -0.03)),
    "spine3": (6, (0.0, 0.30, 0.0)),
    "left_foot": (7, (0.12, -0.93, 0.10)),
    "right_foot": (8, (-0.12, -0.93, 0.10)),
    "neck": (9, (0.0, 0.51, -0.03)),
    "left_collar": (9, (0.08, 0.42, -0.02)),
    "right_collar": (9, (-0.08, 0.42, -0.02)),
    "head": (12, (0.0, 0.58, 0.02)),
    "left_shoulder": (13, (0.18, 0.45, -0.03)),
    "right_shoulder": (14, (-0.18, 0.45, -0.03)),
    "left_elbow": (16, (0.44, 0.44, -0.05)),
    "right_elbow": (17, (-0.44, 0.44, -0.05)),
    "left_wrist": (18, (0.69, 0.45, -0.05)),
    "right_wrist": (19, (-0.69, 0.45, -0.05)),
    "left_hand": (20, (0.78, 0.44, -0.06)),
    "right_hand": (21, (-0.78, 0.44, -0.06)),
}
PARENTS = np.array([parent for parent, _ in JOINTS.values()], dtype=np.int32)
REST = np.array([place for _, place in JOINTS.values()], dtype=np.float32)

FACING = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
"""Root rotation of someone upright who faces the camera (x right, y down, z forward)."""

# The joint of each network keypoint; the face is left out.
_SHOWN = {
    "neck": 1,
    "right_shoulder": 2,
    "right_elbow": 3,
    "right_wrist": 4,
    "left_shoulder": 5,
    "left_elbow": 6,
    "left_wrist": 7,
    "right_hip": 8,
    "right_knee": 9,
    "right_ankle": 10,
    "left_hip": 11,
    "left_knee": 12,
    "left_ankle": 13,
}

_POSE = """
<ir_version: 9, opset_import: ["" : 17]>
pose (float[N,18,3] keypoints, float[N,4] intrinsics) =>
     (float[N,10] betas, float[N,24,3,3] rotations, float[N,3] translation,
      float[N,72] poses, float[N,24,3] joints, float[N] reprojection_error)
<int64[1] zero_i = {0}, int64[1] one_i = {1}, int64[1] two_i = {2}, int64[1] three_i = {3},
 int64[1] four_i = {4}, int64[1] last = {2}, float big = {1000000.0}, float one = {1.0},
 float tenth = {0.1}, float zero = {0.0}, float half = {0.5}, float height = {HEIGHT},
 float[1,1] anything = {0.0}>
{
    xy = Slice (keypoints, zero_i, two_i, last)
    confidence = Slice (keypoints, two_i, three_i, last)
    seen = GreaterOrEqual (confidence, tenth)
    nothing = Mul (xy, zero)
    low_xy = Add (nothing, big)
    high_xy = Sub (nothing, big)
    for_low = Where (seen, xy, low_xy)
    for_high = Where (seen, xy, high_xy)
    low = ReduceMin <axes = [1], keepdims = 0> (for_low)
    high = ReduceMax <axes = [1], keepdims = 0> (for_high)
    focal = Slice (intrinsics, zero_i, two_i, one_i)
    centre = Slice (intrinsics, two_i, four_i, one_i)

    extent = Sub (high, low)
    longest_any = ReduceMax <axes = [1], keepdims = 1> (extent)
    longest = Max (longest_any, one)
    focal_y = Slice (focal, one_i, two_i, one_i)
    focal_height = Mul (focal_y, height)
    depth = Div (focal_height, longest)
    sum = Add (low, high)
    middle = Mul (sum, half)
    from_centre = Sub (middle, centre)
    slope = Div (from_centre, focal)
    lateral = Mul (slope, depth)
    box_place = Concat <axis = 1> (lateral, depth)
    translation = Add (box_place, offset)

    place = Unsqueeze (translation, one_i)
    joints = Add (place, rest)
    nothing_of_each = Mul (depth, zero)
    betas = Add (nothing_of_each, betas_of_each)
    nothing_wide = Unsqueeze (nothing_of_each, two_i)
    nothing_wider = Unsqueeze (nothing_wide, three_i)
    rotations = Add (nothing_wider, rotations_of_each)
    poses = Add (nothing_of_each, poses_of_each)

    body = Gather <axis = 1> (joints, shown_joints)
    body_xy = Slice (body, zero_i, two_i, last)
    body_z_any = Slice (body, two_i, three_i, last)
    body_z = Max (body_z_any, tenth)
    flat = Div (body_xy, body_z)
    focal_each = Unsqueeze (focal, one_i)
    centre_each = Unsqueeze (centre, one_i)
    scaled = Mul (flat, focal_each)
    pixel = Add (scaled, centre_each)
    wanted = Gather <axis = 1> (xy, shown_keypoints)
    seen_f = Cast <to = 1> (seen)
    weight = Gather <axis = 1> (seen_f, shown_keypoints)
    miss = Sub (pixel, wanted)
    squared = Mul (miss, miss)
    counted = Mul (squared, weight)
    total = ReduceSum <keepdims = 0> (counted, error_axes)
    weights_any = ReduceSum <keepdims = 0> (weight, error_axes)
    weights = Max (weights_any, one)
    mean = Div (total, weights)
    reprojection_error = Sqrt (mean)
}
"""

_MESH = """
<ir_version: 9, opset_import: ["" : 17]>
mesh (float[N,10] betas, float[N,24,3,3] rotations, float[N,3] translation) =>
     (float[N,VERTICES,3] vertices)
<int64[1] zero_i = {0}, int64[1] one_i = {1}, float inch = {0.03}, float one = {1.0}>
{
    roots = Slice (rotations, zero_i, one_i, one_i)
    root = Squeeze (roots, one_i)
    turned = Transpose <perm = [0, 2, 1]> (root)
    first = Slice (betas, zero_i, one_i, one_i)
    change = Mul (first, inch)
    scale_flat = Add (change, one)
    scale = Unsqueeze (scale_flat, one_i)
    scaled = Mul (template, scale)
    rotated = MatMul (scaled, turned)
    place = Unsqueeze (translation, one_i)
    vertices = Add (rotated, place)
}
"""


def mesh_template() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices (138, 3) and triangles (184, 3): a closed double pyramid along each bone."""
    vertices, triangles = [], []
    for parent, child in zip(PARENTS[1:], range(1, len(REST)), strict=True):
        start, end = REST[parent], REST[child]
        along = (end - start) / np.linalg.norm(end - start)
        side = np.cross(along, [0.0, 0.0, 1.0] if abs(along[2]) < 0.9 else [1.0, 0.0, 0.0])
        side = 0.04 * side / np.linalg.norm(side)
        up = np.cross(along, side)
        waist = start + 0.3 * (end - start)
        first = len(vertices)
        vertices += [start, end, waist + side, waist + up, waist - side, waist - up]
        for k in range(4):
            a, b = first + 2 + k, first + 2 + (k + 1) % 4
            triangles += [[first, b, a], [first + 1, a, b]]
    return np.array(vertices, dtype=np.float32), np.array(triangles, dtype=np.int32)


def _model(text: str, **tensors: NDArray[Any]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    for name, values in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(model)
    return model


def pose_model() -> onnx.ModelProto:
    """The pose graph described above."""
    names = list(JOINTS)
    rest = REST @ FACING.T
    rotations = np.tile(np.eye(3, dtype=np.float32), (1, 24, 1, 1))
    rotations[0, 0] = FACING
    # The box's middle lies halfway between the eyes and the ankles, not at the pelvis.
    middle = (rest[names.index("head"), 1] - 0.05 + rest[names.index("left_ankle"), 1]) / 2
    return _model(
        _POSE.replace("HEIGHT", str(HEIGHT_M)),
        rest=rest[None],
        offset=np.array([[0.0, -middle, 0.0]], dtype=np.float32),
        betas_of_each=np.zeros((1, 10), np.float32),
        rotations_of_each=rotations,
        poses_of_each=np.array([[np.pi, *[0.0] * 71]], dtype=np.float32),
        shown_joints=np.array([names.index(name) for name in _SHOWN]),
        shown_keypoints=np.array(list(_SHOWN.values())),
        error_axes=np.array([1, 2]),
    )


def mesh_model() -> onnx.ModelProto:
    """The mesh graph described above: the template scaled by beta 0, turned and moved."""
    template, _ = mesh_template()
    return _model(_MESH.replace("VERTICES", str(len(template))), template=template[None])


def make_bundle(
    folder: Path,
    change_pose: Callable[[onnx.ModelProto], None] | None = None,
    change_mesh: Callable[[onnx.ModelProto], None] | None = None,
) -> Bundle:
    """Write a valid bundle into `folder` (made if missing) and load it.

    Args:
        change_pose, change_mesh: may alter a graph before it is written; the manifest then
            vouches for the altered one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, model, change in (
        (bundles.POSE_GRAPH, pose_model(), change_pose),
        (bundles.MESH_GRAPH, mesh_model(), change_mesh),
    ):
        if change is not None:
            change(model)
        (folder / name).write_bytes(model.SerializeToString())
    template, triangles = mesh_template()
    bundles.write_topology(folder, triangles, PARENTS)
    return bundles.write_manifest(
        folder,
        name="untrained",
        body_model="bones@000000000000",
        vertex_count=len(template),
        joint_names=list(JOINTS),
        card={"training": "none: a T-pose placed by the box around the keypoints"},
    )


def damage(path: Path, how: str) -> None:
    """Spoil a file: "truncate" (half of it), "flip" (one bit), "empty", "remove"."""
    content = path.read_bytes()
    if how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "remove":
        path.unlink()
    else:
        raise ValueError(how)


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Alter model.json in place, unchecked."""
    path = folder / bundles.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


class FakeEngine:
    """An engine of a function; fails from its n-th call on if `fails_at` is given (1-based)."""

    device = "fake"

    def __init__(
        self,
        function: Callable[[dict[str, NDArray]], dict[str, NDArray]],
        fails_at: int | None = None,
        most: int = POSE_CHUNK,
    ) -> None:
        self.function, self.most = function, most
        self.fails_at = fails_at
        self.batches: list[int] = []
        self.closed = False

    def run(self, inputs: dict[str, NDArray]) -> dict[str, NDArray]:
        self.batches.append(len(next(iter(inputs.values()))))
        if self.fails_at is not None and len(self.batches) >= self.fails_at:
            raise EngineError(f"fake engine fails at call {len(self.batches)}")
        return self.function(inputs)

    def close(self) -> None:
        self.closed = True


def estimator_on(bundle: Bundle, pose: Engine, mesh: Engine) -> Estimator:
    """An estimator on these engines, as if they had been chosen."""
    with mock.patch.object(estimator, "choose", return_value=Choice(pose, mesh, "asked for")):
        return Estimator(bundle)


def standing_person(
    centre_px: tuple[float, float] = (320.0, 240.0), height_px: float = 300.0
) -> NDArray[np.float32]:
    """(1, K, 3) keypoints of the bundle's T-pose person, seen with confidence 0.9."""
    names = list(JOINTS)
    places = np.zeros((len(KEYPOINTS), 2))
    for name, number in _SHOWN.items():
        places[number] = REST[names.index(name), :2]
    head = REST[names.index("head"), :2]
    for number, offset in {
        0: (0.0, 0.0),
        14: (-0.03, 0.05),
        15: (0.03, 0.05),
        16: (-0.07, 0.03),
        17: (0.07, 0.03),
    }.items():
        places[number] = head + offset
    low, high = places[:REQUIRED].min(axis=0), places[:REQUIRED].max(axis=0)
    scale = height_px / (high - low)[1]
    pixels = (places - (low + high) / 2) * scale * [1.0, -1.0] + centre_px
    person = np.concatenate([pixels, np.full((len(KEYPOINTS), 1), 0.9)], axis=1)
    person[REQUIRED:] = 0  # optional keypoints are unseen
    return person[None].astype(np.float32)
