# SPDX-License-Identifier: Apache-2.0
"""Reads recordings of every kind with one function: the people in their images, with the camera.

for frame in open_recording("bag:my_bag?topic=/keypoints"):
    frame.keypoints, frame.camera.intrinsics, frame.stamp_ns
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from key2mesh_core.errors import KeypointError, TargetError
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.options import RecordingOptions, Source, parse_source
from key2mesh_core.recordings.prepare import DroppedRecords, Preparation

if TYPE_CHECKING:
    from key2mesh_core.recordings.bag_keypoints import BagKeypoints


@dataclass(eq=False)
class Recording:
    """The people in a recording's images, in order; may be iterated more than once.

    Frames hold the network's keypoints of the usable people, sanitised, lens undone, and the chosen
    camera. Iterating raises a TargetError at the end if there was no usable person.

    Attributes:
        count: number of images (messages) to read; `streams`: the streams that they belong to.
        dropped: counts of what was left out so far (messages, images and people), by cause.
        warnings: the warnings so far: the name of each, with the first reason.
        bag: reads a bag message by message; None for other kinds.
    """

    source: Source
    count: int
    _frames: Callable[[Preparation], Iterator[PersonFrame]]
    _dropped_before: DroppedRecords = field(default_factory=DroppedRecords)
    bag: BagKeypoints | None = None
    streams: int = 1

    def __post_init__(self) -> None:
        self.begin()

    @property
    def dropped(self) -> DroppedRecords:
        return self._preparation.dropped

    @property
    def warnings(self) -> dict[str, str]:
        return self._preparation.warnings

    @property
    def images(self) -> int:
        """Number of images read so far, with and without people."""
        return self._preparation.images

    def __len__(self) -> int:
        return self.count

    def begin(self) -> Preparation:
        """New counts, for reading the recording from its beginning."""
        self._preparation = Preparation(self.source.options, deepcopy(self._dropped_before))
        return self._preparation

    def __iter__(self) -> Iterator[PersonFrame]:
        preparation = self.begin()
        yield from self._frames(preparation)
        preparation.end(self.source.text)


def open_recording(
    source: str | Path | Source, options: RecordingOptions | None = None
) -> Recording:
    """Opens a recording: a bag, a folder of OpenPose's JSON, COCO's JSON, AIST++, 3DPW or .npz.

    Args:
        source: a path, whose kind is recognised, or `KIND:PATH`; with options after a question mark
            (`options.OPTIONS`), which override `options`.
        options: further options of the user.

    Raises:
        TargetError: the kind is unknown, an option is invalid, or a file is damaged.
        BagError: the bag is damaged, or has no keypoint topic, or several.
        KeypointError: an unknown layout.
        CameraError: (while reading) the image size is needed but unknown.
    """
    if not isinstance(source, Source):
        source = parse_source(source, options)
    if source.kind == "bag":  # only bags need the package rosbags
        from key2mesh_core.recordings.bag_keypoints import BagKeypoints

        bag = BagKeypoints(source.path, source.options)
        streams = len(source.options.topic.split(","))
        return Recording(source, bag.count, bag.frames, bag=bag, streams=streams)
    # Each module's read_frames(path, options, dropped) yields the images in chronological order.
    module = "threedpw" if source.kind == "3dpw" else source.kind
    reader = import_module(f"key2mesh_core.recordings.{module}")
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
