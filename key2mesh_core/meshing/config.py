# SPDX-License-Identifier: Apache-2.0
"""The options of `key2mesh mesh`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from key2mesh_core.errors import Key2MeshError

Form = Literal["auto", "bag", "npz", "obj", "amass"]
Storage = Literal["mcap", "sqlite3", "same"]


@dataclass(frozen=True)
class MeshConfig:
    """Makes body meshes of recorded keypoints.

    A bag becomes a bag with the meshes added, every other topic kept byte for byte. A bag or a
    folder of OpenPose's JSON files becomes an .npz file, .obj files or motion in AMASS's layout.
    Interrupted, it goes on where it was when the same command is given again.
    """

    source: Path
    """A rosbag2 folder, a .mcap or .db3 file, or a folder of OpenPose's *_keypoints.json."""
    target: Path
    """What to make: a folder, or an .npz file. It must not exist yet."""
    form: Form = "auto"
    """What to make of it: auto is npz for a name that ends so, else a bag (of a bag) or obj."""
    storage: Storage = "mcap"
    """How a bag is stored; 'same' is as the source."""
    topic: str = ""
    """The keypoints' topic; needed where a bag has several."""
    meshes_topic: str = "/mesh_node/meshes"
    """The meshes' topic in a bag; the topology goes beside it."""
    vertices: bool = True
    """Whether to make the meshes' points; without them poses, shapes and joints remain."""
    smooth: bool = False
    """Keep persons' identities and smooth their motion, as the node's parameter does."""
    model: str = "default"
    """Model bundle: its folder, or 'default'."""
    backend: str = "auto"
    """Engine that runs the model: 'auto' takes the best at hand."""
    threads: int = 2
    """CPU threads."""
    body: str = "default"
    """For amass: the body file the model was made with, where that is not the shipped one."""
    camera_topic: str = ""
    """The CameraInfo topic of a bag; by default the one of the keypoints' frame."""
    image_rectified: bool = False
    """The detector looked at rectified images: CameraInfo's P counts, and no distortion."""
    camera_fx: float = 0.0
    """Focal length [px]; given, it comes before a bag's CameraInfo."""
    camera_fy: float = 0.0
    """Vertical focal length [px]; 0: the same as camera-fx."""
    camera_cx: float = 0.0
    """Principal point [px]; 0: the image's middle."""
    camera_cy: float = 0.0
    """Principal point [px]; 0: the image's middle."""
    fov: float = 0.0
    """Horizontal field of view [degrees]; given, it comes before a bag's CameraInfo. Where
    nothing is known 60 is assumed, and positions are to scale only."""
    image_size: tuple[int, int] = (0, 0)
    """Width and height [px] of the images, which OpenPose's files do not tell."""
    fps: float = 30.0
    """Images per second, which OpenPose's files do not tell."""
    segment: int = 256
    """MiB after which a bag goes on in its next file, as rosbag2 splits bags. What an
    interruption costs is less than one of them."""
    restart: bool = False
    """Begin anew instead of going on with what was interrupted."""

    def __post_init__(self) -> None:
        for name in ("camera_fx", "camera_fy", "camera_cx", "camera_cy", "fov"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise Key2MeshError(f"--{_option(name)} must be 0 or more, got {value}")
        if not self.fov < 180:
            raise Key2MeshError(f"--fov must lie below 180 degrees, got {self.fov}")
        if self.camera_fx and self.fov:
            raise Key2MeshError("--camera-fx and --fov contradict each other: give one")
        if not self.camera_fx and (self.camera_fy or self.camera_cx or self.camera_cy):
            raise Key2MeshError("--camera-fy, --camera-cx and --camera-cy need --camera-fx")
        if min(self.image_size) < 0 or (min(self.image_size) == 0 < max(self.image_size)):
            raise Key2MeshError(f"--image-size must be width and height, got {self.image_size}")
        if not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise Key2MeshError(f"--fps must lie between 0 and 1000, got {self.fps}")
        for name, most in (("threads", 64), ("segment", 65536)):
            if not 1 <= getattr(self, name) <= most:
                raise Key2MeshError(
                    f"--{name} must lie within 1 and {most}, got {getattr(self, name)}"
                )
        if not self.meshes_topic.startswith("/"):
            raise Key2MeshError(f"--meshes-topic must begin with '/', got {self.meshes_topic!r}")

    @property
    def topology_topic(self) -> str:
        """Beside the meshes, as the node has it."""
        return self.meshes_topic.rpartition("/")[0] + "/topology"


def _option(name: str) -> str:
    return name.replace("_", "-")
