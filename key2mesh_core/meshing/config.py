# SPDX-License-Identifier: Apache-2.0
"""The options of `key2mesh mesh`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.recordings.options import RecordingOptions

Form = Literal["auto", "bag", "npz", "obj", "amass"]
Storage = Literal["mcap", "sqlite3", "same"]


@dataclass(frozen=True)
class MeshConfig:
    """Makes body meshes of recorded keypoints.

    A bag becomes a bag with the meshes added, every other topic kept byte for byte. Every kind of
    recording becomes an .npz file, .obj files or motion in AMASS's layout. If interrupted, it
    resumes when the same command is given again.
    """

    source: str
    """A bag (a rosbag2 folder, a .mcap or .db3 file), a folder of OpenPose's JSON files, COCO's
    JSON, .npz or AIST++: a path, or KIND:PATH?option=value as in docs/recordings.md."""
    target: Path
    """What to make: a folder, or an .npz file. It must not exist yet."""
    form: Form = "auto"
    """What to make: auto is npz for a target that ends in .npz, else bag for a bag and obj for
    other recordings."""
    storage: Storage = "mcap"
    """How the new bag is stored; 'same' means as the source."""
    topic: str = ""
    """The keypoints' topic; needed where a bag has several."""
    layout: str = ""
    """Name of the keypoints' layout in files (coco_17, halpe_26...); by default by their number."""
    meshes_topic: str = "/mesh_node/meshes"
    """The meshes' topic in the new bag; the topology's topic is beside it."""
    vertices: bool = True
    """Make the meshes' points; --no-vertices writes poses, shapes and joints alone."""
    smooth: bool = False
    """Track persons from image to image and smooth their motion, as the node does."""
    model: str = "default"
    """Model bundle: its folder, or 'default'."""
    backend: str = "auto"
    """Engine: auto (the fastest that is ready here), onnx, tensorrt or onnxruntime-gpu."""
    threads: int = 2
    """CPU threads."""
    body: str = "default"
    """For amass: the body file that the model was made with, if that is not the shipped one."""
    camera_topic: str = ""
    """The CameraInfo topic of a bag; by default the one of the keypoints' frame."""
    image_rectified: bool = False
    """The detector looked at rectified images: CameraInfo's P counts, and no distortion."""
    camera_fx: float = 0.0
    """Focal length [px]; if given, it replaces a bag's CameraInfo."""
    camera_fy: float = 0.0
    """Vertical focal length [px]; 0: the same as camera-fx."""
    camera_cx: float = 0.0
    """Principal point [px]; 0: the image's middle."""
    camera_cy: float = 0.0
    """Principal point [px]; 0: the image's middle."""
    fov: float = 0.0
    """Horizontal field of view [degrees]; if given, it replaces a bag's CameraInfo. If nothing is
    known, 60 is assumed, and positions are to scale only."""
    image_size: tuple[int, int] = (0, 0)
    """Width and height [px] of the images, where the recording does not tell (OpenPose)."""
    fps: float = 30.0
    """Images per second, which files do not tell."""
    segment: int = 256
    """MiB after which a bag continues in its next file, as rosbag2 splits bags. What an
    interruption costs is less than one of them."""
    restart: bool = False
    """Start from the beginning instead of resuming."""

    def __post_init__(self) -> None:
        self.recording_options()
        for name, most in (("threads", 64), ("segment", 65536)):
            if not 1 <= getattr(self, name) <= most:
                raise Key2MeshError(
                    f"--{name} must lie within 1 and {most}, got {getattr(self, name)}"
                )
        if not self.meshes_topic.startswith("/"):
            raise Key2MeshError(f"--meshes-topic must begin with '/', got {self.meshes_topic!r}")

    def recording_options(self) -> RecordingOptions:
        """What they say of the recording."""
        return RecordingOptions(
            topic=self.topic,
            camera_info=self.camera_topic,
            layout=self.layout,
            fps=self.fps,
            camera=CameraOptions(
                fx=self.camera_fx,
                fy=self.camera_fy,
                cx=self.camera_cx,
                cy=self.camera_cy,
                fov_deg=self.fov,
                image_size=self.image_size,
                rectified=self.image_rectified,
            ),
        )

    @property
    def topology_topic(self) -> str:
        """Beside the meshes, as the node has it."""
        return self.meshes_topic.rpartition("/")[0] + "/topology"
