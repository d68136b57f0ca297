# SPDX-License-Identifier: Apache-2.0
"""The options of `key2mesh mesh`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.recordings.options import RecordingOptions

Form = Literal["auto", "bag", "npz", "parquet", "obj", "amass"]
Storage = Literal["mcap", "sqlite3", "same"]


@dataclass(frozen=True, kw_only=True)
class MeshOptions:
    """What the meshes of a recording depend on besides the recording."""

    form: Form = "auto"
    """Output format. auto: npz or parquet if the target's name ends so, else bag for a bag and obj
    for other recordings."""
    storage: Storage = "mcap"
    """Storage of the new bag; 'same': like the source."""
    topic: str = ""
    """Keypoint topic; needed if a bag has several."""
    layout: str = ""
    """Keypoint layout of files (coco_17, halpe_26...); by default inferred from their number."""
    meshes_topic: str = "/mesh_node/meshes"
    """Topic of the meshes in the new bag; the topology topic is next to it."""
    vertices: bool = True
    """Write vertices; --no-vertices writes only poses, shapes and joints."""
    smooth: bool = False
    """Track people and smooth their motion, as the node does."""
    model: str = "default"
    """Model bundle: its folder, or 'default'."""
    backend: str = "auto"
    """Inference engine: auto (the fastest that is ready), onnx, tensorrt or onnxruntime-gpu."""
    threads: int = 2
    """CPU threads."""
    body: str = "default"
    """For amass: the body file that the model was trained with, if it is not the shipped one."""
    camera_topic: str = ""
    """CameraInfo topic of a bag; by default the one with the keypoints' frame."""
    image_rectified: bool = False
    """The detector saw rectified images: use CameraInfo's P, without distortion."""
    camera_fx: float = 0.0
    """Focal length [px]; overrides a bag's CameraInfo."""
    camera_fy: float = 0.0
    """Vertical focal length [px]; 0: the same as camera-fx."""
    camera_cx: float = 0.0
    """Principal point [px]; 0: the image centre."""
    camera_cy: float = 0.0
    """Principal point [px]; 0: the image centre."""
    fov: float = 0.0
    """Horizontal field of view [degrees]; overrides a bag's CameraInfo. If the camera is unknown,
    60 is assumed, and positions are scale-free."""
    image_size: tuple[int, int] = (0, 0)
    """Width and height [px] of the images, if the recording does not state them (OpenPose)."""
    fps: float = 30.0
    """Images per second of files, which do not state it."""
    segment: int = 256
    """Size [MiB] at which the bag is split, as rosbag2 splits bags. An interruption loses less than
    one file."""

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
        """The options for the recording."""
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
        """The topology topic, next to the meshes, as in the node."""
        return self.meshes_topic.rpartition("/")[0] + "/topology"


@dataclass(frozen=True)
class MeshConfig(MeshOptions):
    """Makes body meshes from recorded keypoints.

    Adds meshes to a bag, keeping every other topic byte for byte, or writes an .npz file, a
    .parquet file, .obj files or motion in AMASS layout from any kind of recording. The same command
    resumes if interrupted.
    """

    source: str
    """A bag (a rosbag2 folder, a .mcap or .db3 file), a folder of OpenPose's JSON files, COCO's
    JSON, .npz or AIST++: a path, or KIND:PATH?option=value as in docs/recordings.md."""
    target: Path
    """Folder, .npz or .parquet file to write. It must not exist yet."""
    restart: bool = field(default=False, kw_only=True)
    """Start over instead of resuming."""
