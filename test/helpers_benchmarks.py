# SPDX-License-Identifier: Apache-2.0
"""Miniatures of the licensed data sets in their official layouts, posed by the `smplx` package.

The bodies are variants of the default body in SMPL's file form. Positions come from `smplx`, which
shares no code with what is tested.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from helpers_smplx import python2_pickle, smpl_arrays
from scipy.spatial.transform import Rotation
from smplx import SMPL
from smplx.utils import Struct

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.files import default_body, save_body
from key2mesh_core.evaluation.benchmarks.predictors import SmplPredictor
from key2mesh_core.evaluation.benchmarks.scores import Meshes

GENDERS = ("neutral", "female", "male")
#: The COCO joints among what `smplx` returns with this body: 24 joints, then the face.
_COCO_JOINTS = (12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7)
#: SMPL's joint for each row of Human3.6M's regressor; 9 and 10 (jaw, head) are special.
_H36M_JOINTS = (0, 1, 4, 7, 2, 5, 8, 3, 12, 15, 15, 16, 18, 20, 17, 19, 21)
#: The fourteen scored rows (SPIN's H36M_TO_J14), and SPIN's 24 joints for Human3.6M's 17.
J14 = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10)
SPIN_24 = (14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6)


def gendered_bodies() -> dict[str, BodyData]:
    """The default body, and two with other proportions."""
    body = default_body()
    scales = {"neutral": (1, 1, 1), "female": (0.93, 0.95, 1.02), "male": (1.06, 1.04, 0.98)}
    return {
        gender: replace(
            body, name=f"SMPL_{gender.upper()}", gender=gender, template=body.template * scale
        )
        for gender, scale in scales.items()
    }


def h36m_regressor(body: BodyData) -> np.ndarray:
    """(17, V) float64: what J_regressor_h36m.npy is for SMPL."""
    matrix = body.joint_regressor[list(_H36M_JOINTS)].astype(np.float64)
    matrix[10] = 0
    matrix[10, np.argmax(body.template[:, 1])] = 1
    return matrix


@dataclass(frozen=True)
class Licensed:
    """What a user has: body files, the regressor, and the oracle's own bodies."""

    folder: Path
    regressor: Path
    matrix: np.ndarray
    models: dict[str, SMPL]
    face: np.ndarray

    def meshes(self, gender: str, betas: np.ndarray, poses: np.ndarray) -> Meshes:
        """By `smplx` with zero translation."""
        n = len(poses)

        def as_tensor(x: np.ndarray) -> torch.Tensor:
            return torch.tensor(np.array(x), dtype=torch.float32)

        with torch.no_grad():
            out = self.models[gender](
                betas=as_tensor(np.broadcast_to(betas, (n, 10))),
                global_orient=as_tensor(poses[:, :3]),
                body_pose=as_tensor(poses[:, 3:]),
            )
        return Meshes(out.vertices.numpy(), out.joints.numpy()[:, :24], np.zeros((n, 3)))


def licensed(folder: Path) -> Licensed:
    """Write the body files and the regressor."""
    bodies = gendered_bodies()
    (folder / "smpl").mkdir(parents=True)
    for gender, body in bodies.items():
        save_body(folder / "smpl" / f"SMPL_{gender.upper()}.npz", body)
    matrix = h36m_regressor(bodies["neutral"])
    np.save(folder / "J_regressor_h36m.npy", matrix)
    models = {
        gender: SMPL("", data_struct=Struct(**smpl_arrays(body)), gender=gender)
        for gender, body in bodies.items()
    }
    return Licensed(
        folder / "smpl",
        folder / "J_regressor_h36m.npy",
        matrix,
        models,
        bodies["neutral"].face_regressor,
    )


def motion(frames: int, seed: int) -> np.ndarray:
    """(F, 72) poses of somebody upright in a y-down camera who moves a little."""
    rng = np.random.default_rng(seed)
    poses = 0.25 * rng.normal(size=(frames, 72))
    facing = Rotation.from_euler("xyz", [np.pi, 0.8 * seed, 0.1])
    poses[:, :3] = (facing * Rotation.from_rotvec(0.2 * rng.normal(size=(frames, 3)))).as_rotvec()
    return poses


def detections(
    licensed: Licensed, meshes: Meshes, place: np.ndarray, matrix: np.ndarray
) -> np.ndarray:
    """(F, 18, 3) OpenPose's COCO keypoints of bodies whose origin is at `place` (3,)."""
    face = np.einsum("jv,nvc->njc", licensed.face, meshes.vertices)
    points = np.concatenate([face[:, :1], meshes.joints[:, _COCO_JOINTS], face[:, 1:]], 1) + place
    image = points @ matrix.T
    pixels = image[..., :2] / image[..., 2:]
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 0.8)], 2)


class Oracle:
    """A predictor that knows the answer to every set of keypoints it was told about."""

    def __init__(self) -> None:
        self.keypoints: list[np.ndarray] = []
        self.meshes: list[Meshes] = []
        self.calls = 0

    def learn(self, keypoints: np.ndarray, meshes: Meshes) -> None:
        self.keypoints += list(keypoints[..., :2])
        self.meshes += [
            Meshes(v, j, o)
            for v, j, o in zip(meshes.vertices, meshes.joints, meshes.origin, strict=True)
        ]

    def __call__(self, keypoints: np.ndarray, intrinsics: object) -> Meshes:
        self.calls += 1
        rows = []
        for person in keypoints:
            seen = person[:, 2] > 0
            known = np.array(self.keypoints)[:, seen]
            distances = np.abs(known - person[seen, :2]).max((1, 2))
            rows.append(int(distances.argmin()))
            assert distances[rows[-1]] < 1.0
        chosen = [self.meshes[row] for row in rows]
        return Meshes(*(np.stack([getattr(m, f) for m in chosen]) for f in _FIELDS))

    def predictor(self, change=lambda meshes: meshes, name: str = "oracle") -> SmplPredictor:
        """This oracle, with `change` applied to what it knows."""
        return SmplPredictor(lambda k, i: change(self(k, i)), name, name, name)


_FIELDS = ("vertices", "joints", "origin")


def moved(meshes: Meshes, rotation: np.ndarray, scale: float, shift: np.ndarray) -> Meshes:
    """Every point under one similarity (a reflection, if the matrix is one)."""
    return Meshes(
        *(scale * getattr(meshes, field) @ np.transpose(rotation) + shift for field in _FIELDS)
    )


def write_3dpw(
    licensed: Licensed,
    root: Path,
    truth: str,
    name: str = "downtown_walk_00",
    split: str = "test",
    frames: int = 12,
    seed: int = 0,
) -> tuple[Oracle, dict[str, object]]:
    """A sequence of a woman and a man; returns the oracle and the content of the file.

    Camera poses of images 1 and 7 are invalid, the woman is undetected in image 3, and the man
    shows 5 keypoints in image 4.
    """
    rng = np.random.default_rng(seed)
    matrix = np.array([[1961.0, 0, 540], [0, 1969.0, 960], [0, 0, 1]])
    world = Rotation.random(frames, rng)  # world to camera
    cam_poses = np.tile(np.eye(4), (frames, 1, 1))
    cam_poses[:, :3, :3] = world.as_matrix()
    valid = np.ones(frames, int)
    valid[[1, 7]] = 0
    oracle = Oracle()
    content: dict[str, object] = {
        "sequence": name,
        "img_frame_ids": np.arange(frames),
        "cam_poses": cam_poses,
        "cam_intrinsics": matrix,
        "genders": ["f", "m"],
        "betas": [rng.normal(size=300), rng.normal(size=10)],
        "poses": [],
        "poses2d": [],
        "campose_valid": [valid.copy(), valid.copy()],
        "trans": [np.zeros((frames, 3))] * 2,
        "jointPositions": [np.zeros((frames, 72))] * 2,
        "texture_maps": [],
    }
    for actor, gender in enumerate(("female", "male")):
        poses = motion(frames, seed + actor)
        betas = content["betas"][actor][:10]
        meshes = licensed.meshes(gender if truth == "gendered" else "neutral", betas, poses)
        found = detections(licensed, meshes, np.array([actor - 0.5, 0.1, 5.0]), matrix)
        oracle.learn(found, meshes)
        if actor == 0:
            found[3] = 0
        else:
            found[4, 5:] = 0
        roots = world.inv() * Rotation.from_rotvec(poses[:, :3])
        content["poses"].append(np.concatenate([roots.as_rotvec(), poses[:, 3:]], 1))
        content["poses2d"].append(found.transpose(0, 2, 1))
    save_3dpw(root, content, split)
    return oracle, content


def save_3dpw(root: Path, content: dict[str, object], split: str = "test") -> Path:
    """Write a sequence as the release has it: a pickle of Python 2."""
    path = root / "sequenceFiles" / split / f"{content['sequence']}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python2_pickle(content))
    return path


def write_emdb(
    licensed: Licensed, root: Path, name: str = "P1/14_outdoor_climb", emdb1: bool = True
) -> tuple[Oracle, np.ndarray, Path]:
    """A man's sequence of 8 images, the third of which is bad; (oracle, boxes, the file)."""
    rng = np.random.default_rng(3)
    frames, matrix = 8, np.array([[1200.0, 0, 720], [0, 1200.0, 960], [0, 0, 1]])
    world = Rotation.random(frames, rng)
    poses, betas = motion(frames, 5), rng.normal(size=10)
    meshes = licensed.meshes("male", betas, poses)
    place = np.array([0.2, 0.0, 4.0])
    image = (meshes.joints + place) @ matrix.T
    kp2d = image[..., :2] / image[..., 2:]
    found = detections(licensed, meshes, place, matrix)
    boxes = np.concatenate([found[..., :2].min(1), found[..., :2].max(1)], 1)
    extrinsics = np.tile(np.eye(4), (frames, 1, 1))
    extrinsics[:, :3, :3] = world.as_matrix()
    roots = (world.inv() * Rotation.from_rotvec(poses[:, :3])).as_rotvec()
    subject, _, sequence = name.partition("/")
    good = np.ones(frames, bool)
    good[2] = False
    content = {
        "gender": "male",
        "name": f"{subject}_{sequence}",
        "emdb1": emdb1,
        "emdb2": False,
        "n_frames": frames,
        "good_frames_mask": good,
        "camera": {"intrinsics": matrix, "extrinsics": extrinsics, "width": 1440, "height": 1920},
        "smpl": {
            "poses_root": roots,
            "poses_body": poses[:, 3:],
            "trans": np.zeros((frames, 3)),
            "betas": betas,
        },
        "kp2d": kp2d,
        "bboxes": {"bboxes": boxes, "invalid_idxs": np.array([2])},
    }
    path = root / name / f"{subject}_{sequence}_data.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(content))
    oracle = Oracle()
    order = (0, 12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7, 0, 0, 0, 0)
    oracle.learn(kp2d[:, order], meshes)  # the face is never seen
    oracle.learn(found, meshes)
    return oracle, found, path


def write_openpose(file: Path, people: list[np.ndarray]) -> None:
    """A file of OpenPose's --write_json."""
    file.parent.mkdir(parents=True, exist_ok=True)
    persons = [{"person_id": [-1], "pose_keypoints_2d": np.ravel(p).tolist()} for p in people]
    file.write_text(json.dumps({"version": 1.3, "people": persons}))
