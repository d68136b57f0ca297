# SPDX-License-Identifier: Apache-2.0
"""Recorded messages to images of persons, with the camera that was known at the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection

from key2mesh_core.camera.camera_info import image_intrinsics, image_lens
from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.camera.lens import Distortion, undistort
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BagError, CameraError
from key2mesh_core.keypoints.arrays import sanitise
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.meshing import cameras
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.people import Image, usable_people
from key2mesh_core.people.frames import stamp_ns_of
from key2mesh_core.people.messages import BY_TYPE, MessageRefused
from key2mesh_core.recordings.bag_cameras import first_frame, first_infos
from key2mesh_core.recordings.bag_files import every_message
from key2mesh_core.recordings.bags import definitions, list_topics
from key2mesh_core.recordings.dropped import DroppedRecords
from key2mesh_core.recordings.own_messages import CAMERA_TYPE


class BagKeypoints:
    """Understands the messages of one recording that meshes are made of.

    Attributes:
        topic: the keypoints' topic.
        count: messages on it.
        assumed: whether nothing is known about the camera but the image's size.
        losses: messages that were refused.

    Raises:
        BagError: no topic of keypoints or several, or several cameras, and the options do not
            tell which; or a topic of another type.
    """

    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self._path = config.source
        topics = [t for t in list_topics(config.source) if t.message_count]
        self.topic = _choose(config.source, topics, BY_TYPE, config.topic, "--topic")
        self.count = sum(t.message_count for t in topics if t.name == self.topic)
        self.losses = DroppedRecords()
        self.last: Any = None
        self._decoders: dict[str, Callable[[bytes], Any]] = {}
        self._number = 0
        self._camera_topic = self._info = None
        if not (config.camera_fx or config.fov):
            self._find_camera({t.name for t in topics if t.message_type == CAMERA_TYPE})
        self.assumed = not (config.camera_fx or config.fov or self._info)

    def read(self, connection: Connection, data: bytes) -> Image | None:
        """The image of a message of keypoints; None for other messages and for refused ones.

        Messages must come in order: a CameraInfo counts from its place on. `last` is the decoded
        message of the image.

        Raises:
            BagError: the message cannot be decoded.
            CameraError: the camera is not calibrated, or its image's size is not known.
        """
        if connection.topic == self._camera_topic:
            self._info = self._decoded(connection, data)
        if connection.topic != self.topic:
            return None
        number, self._number = self._number, self._number + 1
        message = self._decoded(connection, data)
        try:
            people = BY_TYPE[connection.msgtype].read(
                message, self._info, CameraOptions(image_size=self._config.image_size)
            )
        except MessageRefused as error:
            self.losses.add(error.cause, f"message {number}: {error}")
            return None
        self.last = message
        intrinsics, distortion = self._camera(people.width, people.height)
        keypoints = to_network(people.layout, people.keypoints)
        if distortion is not None:
            keypoints = undistort(sanitise(keypoints), intrinsics, distortion)
        ids, keypoints = usable_people(people.ids, keypoints)
        return Image(number, number, stamp_ns_of(message.header), ids, keypoints, intrinsics)

    def _camera(self, width: int, height: int) -> tuple[Intrinsics, Distortion | None]:
        given = cameras.from_options(self._config, width, height)
        if given is not None:
            return given, None
        if self._info is None:
            return cameras.assumed(width, height), None
        try:
            intrinsics = image_intrinsics(self._info, width, height, self._config.image_rectified)
            return intrinsics, image_lens(self._info, self._config.image_rectified)
        except CameraError as error:
            raise CameraError(
                f"{self._path}: {self._camera_topic}: {error} (or give --fov or --camera-fx)"
            ) from error

    def _find_camera(self, names: set[str]) -> None:
        wanted = self._config.camera_topic
        if wanted and wanted not in names:
            raise BagError(
                f"{self._path} has no CameraInfo on {wanted!r}; it has: "
                f"{', '.join(sorted(names)) or 'none'}"
            )
        names = {wanted} if wanted else names
        infos = first_infos(self._path, names, self.topic)
        if names and len(infos) != 1:
            raise BagError(
                f"{self._path} has CameraInfo on {sorted(names)}, {len(infos)} of them of the "
                f"keypoints' frame {first_frame(self._path, self.topic)!r}: say which by "
                "--camera-topic"
            )
        if infos:
            ((self._camera_topic, self._info),) = infos.items()

    def _decoded(self, connection: Connection, data: bytes) -> Any:
        kind = connection.msgtype
        if kind not in self._decoders:
            store = definitions(connection, self._path)
            self._decoders[kind] = lambda data: store.deserialize_cdr(data, kind)
        try:
            return self._decoders[kind](data)
        except Exception as error:  # rosbags lets IndexError, struct.error... through
            raise BagError(
                f"{self._path}: a message on {connection.topic!r} is not a {kind} "
                f"({len(data)} bytes): {error}"
            ) from error


def bag_images(keypoints: BagKeypoints, path: Path) -> Iterator[Image]:
    """The images of a recording, in order."""
    with every_message(path) as (_, messages):
        for connection, _, data in messages:
            image = keypoints.read(connection, data)
            if image is not None:
                yield image


def _choose(path: Path, topics: list, types: dict, wanted: str, option: str) -> str:
    """The one topic of some types, or the wanted one of them."""
    fitting = sorted({t.name for t in topics if t.message_type in types})
    if wanted in fitting:
        return wanted
    known = ", ".join(sorted(f"{t.name} ({t.message_type})" for t in topics)) or "no messages"
    if wanted:
        raise BagError(f"{path} has no keypoints on {wanted!r}; it has: {known}")
    if not fitting:
        raise BagError(
            f"{path} has no keypoints, that is no messages of {', '.join(types)}; it has: {known}"
        )
    if len(fitting) > 1:
        raise BagError(f"{path} has keypoints on {', '.join(fitting)}: say which by {option}")
    return fitting[0]
