# SPDX-License-Identifier: Apache-2.0
"""Recordings of every kind behind one function: the persons of their images, with the camera.

for frame in open_recording("bag:my_bag?topic=/keypoints"):
    frame.keypoints, frame.camera.intrinsics, frame.stamp_ns
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from key2mesh_core.errors import KeypointError, TargetError
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.dropped import DroppedRecords
from key2mesh_core.recordings.options import RecordingOptions, Source, parse_source
from key2mesh_core.recordings.prepare import Preparation

if TYPE_CHECKING:
    from key2mesh_core.recordings.bag_keypoints import BagKeypoints


class Recording:
    """The persons of a recording's images, in order; can be iterated over more than once.

    Frames hold the network's keypoints of the usable persons, sanitised, the lens undone, and the
    camera that was chosen. Iterating raises a TargetError at the end if there was not a single
    usable person.

    Attributes:
        count: images (messages) that there are to read; `streams` that they belong to.
        dropped: what was left out so far: messages, images and persons, by cause.
        warnings: what there is to doubt so far: name of each warning, and the first reason.
        bag: reads a bag message by message; None for other kinds.
    """

    def __init__(
        self,
        source: Source,
        count: int,
        frames: Callable[[Preparation], Iterator[PersonFrame]],
        dropped: DroppedRecords | None = None,
        bag: BagKeypoints | None = None,
        streams: int = 1,
    ) -> None:
        self.source, self.count, self.bag, self.streams = source, count, bag, streams
        self._frames, self._dropped_before = frames, dropped or DroppedRecords()
        self.begin()

    @property
    def dropped(self) -> DroppedRecords:
        return self._preparation.dropped

    @property
    def warnings(self) -> dict[str, str]:
        return self._preparation.warnings

    @property
    def images(self) -> int:
        """Images read so far, with and without persons."""
        return self._preparation.images

    def __len__(self) -> int:
        return self.count

    def begin(self) -> Preparation:
        """New books, for who reads the recording from its beginning."""
        self._preparation = Preparation(self.source.options, deepcopy(self._dropped_before))
        return self._preparation

    def __iter__(self) -> Iterator[PersonFrame]:
        preparation = self.begin()
        yield from self._frames(preparation)
        preparation.end(self.source.text)


def open_recording(
    source: str | Path | Source, options: RecordingOptions | None = None
) -> Recording:
    """Opens a recording: a bag, a folder of OpenPose's JSON, COCO's JSON, AIST++ or .npz.

    Args:
        source: a path, whose kind is recognised by what lies there, or `KIND:PATH`; with options
            behind a question mark (`options.OPTIONS`), which come before `options`.
        options: what else the user says.

    Raises:
        TargetError: nothing there that is known, an option that cannot be, a damaged file.
        BagError: the bag is damaged, or has no topic of keypoints, or several.
        KeypointError: an unknown layout.
        CameraError: while it is read, the image's size is needed and nobody knows it.
    """
    if not isinstance(source, Source):
        source = parse_source(source, options)
    if source.kind == "bag":  # only bags need the package rosbags
        from key2mesh_core.recordings.bag_keypoints import BagKeypoints

        bag = BagKeypoints(source.path, source.options)
        streams = len(source.options.topic.split(","))
        return Recording(source, bag.count, bag.frames, bag=bag, streams=streams)
    # Each module's read_frames(path, options, dropped) yields the images in the order of time.
    reader = import_module(f"key2mesh_core.recordings.{source.kind}")
    dropped = DroppedRecords()
    try:
        frames = list(reader.read_frames(source.path, source.options, dropped))
    except KeypointError as error:
        raise TargetError(f"{source.text}: {error}") from error
    return Recording(
        source,
        len(frames),
        lambda preparation: (preparation.prepare(frame) for frame in frames),
        dropped,
        streams=len({frame.stream for frame in frames}),
    )
