# SPDX-License-Identifier: Apache-2.0
"""`key2mesh view`: shows the meshes of a topic or a recording in a browser."""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from key2mesh_core.camera.choose import Camera
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.interrupts import end_at_next_interrupt
from key2mesh_core.people.mesh_frame import MeshFrame, bodies_frame
from key2mesh_core.recordings.options import RecordingOptions, Source, parse_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from key2mesh_core.view.viewer import Viewer


@dataclass(frozen=True)
class ViewConfig:
    """Shows body meshes live in a browser.

    Shows what the node publishes, or a recording: a bag with meshes, or any recording of keypoints,
    whose meshes are computed while it plays. Stop it with Ctrl-C.
    """

    recording: Positional[str] = ""
    """Show this recording instead of a topic; any kind that `key2mesh mesh` reads: a path, or
    KIND:PATH?option=value as in docs/recordings.md (json/?width=1280&height=720). Needs no ROS."""
    topic: str = "/mesh_node/meshes"
    """Topic of the meshes to show; the topology topic must be next to it. Needs a ROS
    environment."""
    camera_topic: str = "/camera_info"
    """CameraInfo topic of the camera to draw."""
    bag: str = ""
    """Same as RECORDING."""
    model: str = "default"
    """Model bundle for recorded keypoints: its folder, or 'default'."""
    layout: str = ""
    """Keypoint layout of files (coco_17, halpe_26...); by default inferred from their number."""
    loop: bool = True
    """Repeat the recording."""
    rate: float = 1.0
    """Playback speed factor."""
    port: int = 8080
    """Port of the web page; if it is taken, the next free one."""
    host: str = "127.0.0.1"
    """Address to serve on; 0.0.0.0 allows access from other machines."""

    def __post_init__(self) -> None:
        if self.recording and self.bag:
            raise Key2MeshError(f"two recordings, {self.recording} and {self.bag}: give one")
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise Key2MeshError(f"--rate must be a positive number, got {self.rate}")
        if not 0 < self.port < 65536:
            raise Key2MeshError(f"--port must lie between 1 and 65535, got {self.port}")


@dataclass(frozen=True)
class RecordingView:
    """The contents of a recording: triangles (F, 3) and parents (24,) of the body model and the
    camera, None if unknown; each call of `frames` begins at the recording's start."""

    triangles: NDArray[np.int32] | None
    parents: NDArray[np.int32] | None
    camera: Camera | None
    frames: Callable[[], Iterator[MeshFrame]]


def view(config: ViewConfig) -> int:
    """Serves the page until interrupted, or until the end of a recording that is played once."""
    # Fail before a page is served.
    source = config.recording or config.bag
    recording = open_view(source, config.model, config.layout) if source else None
    for reason in recording.camera.reasons if recording and recording.camera else ():
        print(f"warning: {reason}", file=sys.stderr)
    watch = None if recording is not None else _topic_watcher()
    from key2mesh_core.view.viewer import Viewer  # viser takes a second to import

    viewer = Viewer(host=config.host, port=config.port)
    try:
        try:
            print(f"open {viewer.url} in a browser; stop with Ctrl-C", flush=True)
            if recording is None:
                watch(viewer, config.topic, config.camera_topic)
            else:
                play(viewer, recording, loop=config.loop, rate=config.rate)
        finally:
            viewer.close()
    except (
        KeyboardInterrupt
    ):  # the usual way to stop it; a second Ctrl-C may come while the page is closed
        end_at_next_interrupt(0)
    return 0


def open_view(recording: str | Path, model: str = "default", layout: str = "") -> RecordingView:
    """Loads the contents of a recording, and checks that it can be read; `layout` is the keypoint
    layout of files.

    Raises:
        Key2MeshError: the recording cannot be read, has neither meshes nor a usable person, or the
            model cannot be used.
    """
    source = parse_source(recording, RecordingOptions(layout=layout))
    if source.kind == "bag":
        from key2mesh_core.recordings.bags import MESHES_TYPE, topics_of_type

        if topics_of_type(source.path, MESHES_TYPE):
            return _recorded_meshes(source.path, model)
    return _made_meshes(source, model)


def _recorded_meshes(bag: Path, model: str) -> RecordingView:
    from key2mesh_core.recordings import bags

    infos = bags.topics_of_type(bag, bags.CAMERA_TYPE)
    camera = bags.read_camera(bag, infos[0]) if len(infos) == 1 else None
    first = next(bags.read_meshes(bag))
    triangles, parents = _topology(bag, model, first.body_model)
    return RecordingView(triangles, parents, camera, lambda: bags.read_meshes(bag))


def play(
    viewer: Viewer, recording: RecordingView, *, loop: bool = False, rate: float = 1.0
) -> None:
    """Shows a recording at the speed of its stamps, times `rate`."""
    if recording.triangles is not None:
        viewer.set_topology(recording.triangles, recording.parents)
    if recording.camera is not None:
        viewer.set_camera(recording.camera)
    while True:
        begin = None
        for frame in recording.frames():
            place = frame.stamp_ns / 1e9 / rate
            begin = time.monotonic() - place if begin is None else begin
            time.sleep(max(0.0, begin + place - time.monotonic()))
            viewer.show(frame)
        if not loop:
            return
        time.sleep(0.5)  # so that the jump back is visible as such


def _made_meshes(source: Source, model: str) -> RecordingView:
    """Meshes of recorded keypoints, computed as in `key2mesh mesh`."""
    from key2mesh_core.meshing.maker import MeshMaker
    from key2mesh_core.model.bundle import load_bundle
    from key2mesh_core.model.estimator import Estimator
    from key2mesh_core.recordings.open import open_recording

    bundle = load_bundle(model)
    recording = open_recording(source)
    # Raises if the recording ends without anybody.
    first = next(frame for frame in recording if len(frame))
    maker = MeshMaker(Estimator(bundle), vertices=True)

    def frames() -> Iterator[MeshFrame]:
        for frame in recording:
            if frame.stream == first.stream:  # one scene is one camera's images
                _, bodies = maker.make([frame])
                yield bodies_frame(frame, bodies, bundle.body_model)

    return RecordingView(bundle.triangles, bundle.parents, first.camera, frames)


def _topology(
    bag: Path, model: str, body_model: str
) -> tuple[NDArray[np.int32] | None, NDArray[np.int32] | None]:
    """The topology of recorded meshes: from the recording, else from a model bundle with the same
    body."""
    from key2mesh_core.model.bundle import load_bundle
    from key2mesh_core.recordings.bags import read_topologies

    for topology in read_topologies(bag):
        if topology.body_model == body_model:
            return topology.triangles, topology.parents
    bundle = load_bundle(model)
    if bundle.body_model == body_model:
        return bundle.triangles, bundle.parents
    print(
        f"{bag} has meshes of {body_model} but no topology, and the model {bundle.name} "
        f"has the body {bundle.body_model}: only joints can be shown. Record the topology, too, or "
        "give the right --model"
    )
    return None, bundle.parents


def _topic_watcher() -> Callable[[Viewer, str, str], None]:
    """The subscriber of key2mesh_ros; the only import from there."""
    try:
        return importlib.import_module("key2mesh_ros.view_source").watch
    except ImportError as error:
        why = str(error).partition("\n")[0]
        raise Key2MeshError(
            f"showing a topic needs ROS 2 and this package's messages ({why}): source your "
            "workspace, or run it as `tools/with-ros key2mesh view`; recordings need neither: --bag"
        ) from error
