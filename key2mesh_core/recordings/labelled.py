# SPDX-License-Identifier: Apache-2.0
"""One person of a labelled data set: detections in an image sequence with their ground truth.

The readers of labelled data sets (`threedpw`, `human36m`, `emdb`) share one interface:
`sequences(...)` finds the sequences of a data set without reading them, and returns for each name a
function that reads its people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.pickles import read_pickle
from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.lens import undistort
from key2mesh_core.errors import BodyFileError, EvaluationError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame


@dataclass(frozen=True, eq=False)
class LabelledPerson:
    """F images of one person that count in the benchmark, in chronological order.

    Attributes:
        name: of the person in the sequence: "actor 0"; empty if there is only one.
        images: (F,) number of each image in its video.
        keypoints: (F, K, 3) x px, y px, confidence in the network's order; not sanitised.
        camera: of the video.
        poses: (F, 72) SMPL axis-angles [rad], the root in the camera's frame (x right, y down, z
            forward); None if the truth is joints.
        betas: (10,) shape of the body model of `gender`; None without poses.
        gender: "neutral", "female" or "male".
        joints: (F, J, 3) true joints in the camera's frame, relative to any point [m]; None if the
            truth is a body.
        invalid: number of images that the data set itself marks as invalid.
    """

    name: str
    images: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    camera: Camera
    poses: NDArray[np.float64] | None = None
    betas: NDArray[np.float64] | None = None
    gender: str = "neutral"
    joints: NDArray[np.float64] | None = None
    invalid: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def select(self, chosen: NDArray) -> LabelledPerson:
        """The images at these indices, or where a mask is true."""
        return replace(
            self,
            images=self.images[chosen],
            keypoints=self.keypoints[chosen],
            poses=None if self.poses is None else self.poses[chosen],
            joints=None if self.joints is None else self.joints[chosen],
        )

    def undistorted(self) -> LabelledPerson:
        """The same images as a pinhole camera of the same intrinsics would show them: keypoints
        sanitised, lens undone."""
        keypoints, camera = sanitise(self.keypoints), self.camera
        if camera.lens is not None:
            keypoints = sanitise(undistort(keypoints, camera.intrinsics, camera.lens))
        return replace(self, keypoints=keypoints, camera=replace(camera, lens=None))


Sequences = Mapping[str, Callable[[], Sequence[LabelledPerson]]]
"""For the name of each sequence, a function that reads its people."""


def read_labels(file: Path, keys: tuple[str, ...], data_set: str) -> dict[str, Any]:
    """The entries `keys` of a sequence's pickle; raises EvaluationError if it is damaged or
    contains anything but arrays."""
    try:
        return read_pickle(file, keys)
    except BodyFileError as error:
        raise EvaluationError(f"not a sequence of {data_set}: {error}") from error


def check_finite(where: str, poses: NDArray, betas: NDArray, extrinsics: NDArray) -> None:
    """Raises EvaluationError if a number of the images that count is not finite."""
    if not all(np.isfinite(each).all() for each in (poses, betas, extrinsics)):
        raise EvaluationError(f"{where}: the pose, shape or camera of a valid image is not finite")


def in_camera(poses: NDArray, world_to_camera: NDArray) -> NDArray[np.float64]:
    """SMPL poses (F, 72) whose root is in the world, with the root in the camera's frame.

    Args:
        poses: axis-angles [rad].
        world_to_camera: (F, 3, 3) rotations.
    """
    turned = np.array(poses, np.float64)
    roots = world_to_camera @ axis_angle_to_matrix(turned[:, :3])
    turned[:, :3] = matrix_to_axis_angle(roots)
    return turned


def person_frames(
    stream: str, people: Sequence[LabelledPerson], fps: float
) -> Iterator[PersonFrame]:
    """The people of a sequence image by image, as every recording yields them."""
    for image in sorted({int(number) for person in people for number in person.images}):
        here = [person for person in people if (person.images == image).any()]
        keypoints = [person.keypoints[person.images == image][0] for person in here]
        camera = here[0].camera
        yield PersonFrame(
            ids=tuple(person.name for person in here),
            keypoints=np.array(keypoints, np.float32),
            layout=NETWORK_LAYOUT,
            stamp_ns=round(1e9 * image / fps),
            width=camera.width,
            height=camera.height,
            camera=camera,
            stream=stream,
            number=image,
        )


def checked(
    where: str, content: Mapping[str, Any], key: str, shape: tuple[int | None, ...]
) -> NDArray[np.float64]:
    """`content[key]` as numbers of `shape` (None: any size); raises EvaluationError otherwise."""
    value = content.get(key)
    if value is None:
        raise EvaluationError(f"{where} has no {key!r}; it has {sorted(map(str, content))}")
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise EvaluationError(f"{where}: {key} is {type(value).__name__}, not an array of numbers")
    fits = len(shape) == value.ndim and all(
        want in (None, have) for want, have in zip(shape, value.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise EvaluationError(f"{where}: {key} has shape {value.shape}, not ({wanted})")
    return value.astype(np.float64)
