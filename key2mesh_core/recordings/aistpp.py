# SPDX-License-Identifier: Apache-2.0
"""AIST++: real detections of dancers from nine cameras, and ground-truth 3D joints.

Two kinds of files are read:

- the official annotation `keypoints2d/<sequence>.pkl` (Google, CC BY 4.0): a dict of
  `keypoints2d (C, F, 17, 3)` x px, y px, score in COCO-17 order, `det_scores`, `timestamps`;
- a ground-truth file, `.npz`: cameras `K (C,3,3)`, `k1 (C,)` radial distortion, `R (C,3,3)`, `t
  (C,3)` world to camera in metres, and for every sequence `<channel>` (`ch03`) its joints
  `<channel> (F,17,3)` in metres in the world frame with `valid_<channel> (F,17)`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.pickles import read_pickle
from key2mesh_core.camera.lens import BROWN, Distortion, distort_pixels, undistort
from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.errors import BodyFileError, EvaluationError, TargetError
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.options import RecordingOptions
from key2mesh_core.recordings.prepare import DroppedRecords

COCO_JOINTS = 17

IMAGE_SIZE = 1920, 1080
"""Width and height [px] of all videos."""


@dataclass(frozen=True)
class AistppTruth:
    """Cameras of one recording and the 3D joints of its sequences.

    Attributes:
        intrinsics: one pinhole camera per view, px.
        lenses: lens of each view.
        rotations: (C, 3, 3) world to camera.
        translations: (C, 3) world to camera, m.
        joints: channel -> (F, 17, 3) m, world frame, COCO-17 order.
        valid: channel -> (F, 17) bool; invalid joints may have any value.
    """

    intrinsics: tuple[Intrinsics, ...]
    lenses: tuple[Distortion, ...]
    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    joints: dict[str, NDArray[np.float32]]
    valid: dict[str, NDArray[np.bool_]]

    def project(self, channel: str, camera: int) -> NDArray[np.float64]:
        """(F, 17, 2) px projections of a channel's true joints in a camera, lens included."""
        points = self.joints[channel] @ self.rotations[camera].T + self.translations[camera]
        intrinsics = self.intrinsics[camera]
        return distort_pixels(project(points, intrinsics), intrinsics, self.lenses[camera])

    def undistorted(self, detections: NDArray[np.float32], camera: int) -> NDArray[np.float32]:
        """(F, K, 3) a camera's detections (F, 17, 3) in the network's order, sanitised, lens
        undone."""
        straight = undistort(detections, self.intrinsics[camera], self.lenses[camera])
        return sanitise(to_network("coco_17", straight))


def read_keypoints(path: str | Path) -> NDArray[np.float32]:
    """(C, F, 17, 3) x px, y px, score from one official pickle; may contain NaN.

    Raises:
        EvaluationError: the file cannot be read, contains anything but arrays, or has wrong shapes.
    """
    try:
        # This reader for body files also reads dictionaries of arrays; it executes nothing.
        keypoints = read_pickle(Path(path), ("keypoints2d",)).get("keypoints2d")
    except BodyFileError as error:
        raise EvaluationError(f"not an AIST++ keypoints2d file: {error}") from error
    if not isinstance(keypoints, np.ndarray):
        raise EvaluationError(
            f"{path} has no array 'keypoints2d', as AIST++'s keypoints2d/ have; name a sequence of "
            "3DPW 3dpw:PATH"
        )
    if keypoints.ndim != 4 or keypoints.shape[2:] != (COCO_JOINTS, 3):
        raise EvaluationError(
            f"{path}: keypoints2d has shape {keypoints.shape}; expected (cameras, frames, 17, 3)."
        )
    return keypoints.astype(np.float32)


def read_frames(
    path: Path, options: RecordingOptions, dropped: DroppedRecords
) -> Iterator[PersonFrame]:
    """Each camera's detections of the dancer, lens included, from one pickle or a folder (with
    `options.sequences`, only those channels); a pickle's cameras are synchronous.

    Raises:
        TargetError: the file does not exist, or the folder has no pickle.
        EvaluationError: see `read_keypoints`.
    """
    if options.sequences:
        files = [find_keypoints(path, channel) for channel in options.sequences]
    else:
        files = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise TargetError(f"{path} is neither an AIST++ pickle nor a folder with AIST++ pickles")
    for file in files:
        for camera, frames in enumerate(read_keypoints(file)):
            for number, points in enumerate(frames):
                yield PersonFrame(
                    ids=("dancer",),
                    keypoints=points[None],
                    layout="coco_17",
                    stamp_ns=round(1e9 * number / options.fps),
                    width=IMAGE_SIZE[0],
                    height=IMAGE_SIZE[1],
                    stream=f"{file.name} camera {camera + 1}",
                    number=number,
                    take=file.name,
                )


def read_truth(path: str | Path) -> AistppTruth:
    """Reads a ground-truth file; raises EvaluationError if it is missing, damaged or lacks an
    array."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"cannot read the ground-truth file {path}: {error}") from error
    missing = [name for name in ("K", "k1", "R", "t") if name not in arrays]
    channels = [name for name in arrays if f"valid_{name}" in arrays]
    if missing or not channels:
        raise EvaluationError(
            f"{path} lacks {missing or 'any chNN with its valid_chNN'}; it has {sorted(arrays)}"
        )
    cameras = len(arrays["K"])
    expected = {"K": (cameras, 3, 3), "k1": (cameras,), "R": (cameras, 3, 3), "t": (cameras, 3)}
    for channel in channels:
        frames = len(arrays[channel])
        expected[channel] = (frames, COCO_JOINTS, 3)
        expected[f"valid_{channel}"] = (frames, COCO_JOINTS)
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise EvaluationError(f"{path}: {name} has shape {arrays[name].shape}, not {shape}.")
    return AistppTruth(
        intrinsics=tuple(Intrinsics.from_matrix(matrix) for matrix in arrays["K"]),
        lenses=tuple(Distortion(BROWN, (float(k1), *[0.0] * 11)) for k1 in arrays["k1"]),
        rotations=arrays["R"].astype(np.float64),
        translations=arrays["t"].astype(np.float64),
        joints={channel: arrays[channel] for channel in channels},
        valid={channel: arrays[f"valid_{channel}"].astype(bool) for channel in channels},
    )


def find_keypoints(folder: str | Path, channel: str) -> Path:
    """The one pickle in `folder` whose name ends in `_<channel>.pkl` (or is it); raises
    EvaluationError if there is none, or several."""
    folder = Path(folder)
    found = sorted({*folder.glob(f"*_{channel}.pkl"), *folder.glob(f"{channel}.pkl")})
    if len(found) != 1:
        raise EvaluationError(
            f"{folder} has {len(found)} files named *_{channel}.pkl ({[f.name for f in found]}); "
            "give a folder with exactly one dancer's keypoints2d pickles."
        )
    return found[0]
