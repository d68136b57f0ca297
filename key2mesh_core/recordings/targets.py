# SPDX-License-Identifier: Apache-2.0
"""Detections to adapt to, from wherever they lie: one interface over every reader.

A target is named by a spec, `KIND:PATH` with options behind a question mark
(`bag:my_bag?topic=/people`); docs/targets.md lists them. Whatever the kind, the result is the
network's 18 keypoints of every usable person, in time order within each person's sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import KeypointError, TargetError
from key2mesh_core.keypoints.arrays import (
    MINIMUM_KEYPOINTS,
    MINIMUM_SIZE_PX,
    SEEN_CONFIDENCE,
    bounding_boxes,
    sanitise,
)
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.recordings.detections import Detections, Losses
from key2mesh_core.recordings.together import Person, number_persons, persons_of_take
from key2mesh_core.recordings.tracks import Tracker

DEFAULT_TOPIC = "/keypoints"

OPTIONS: dict[str, tuple[str, ...]] = {
    "bag": ("topic", "width", "height", "rectified"),
    "openpose": ("layout", "width", "height", "together"),
    "coco": ("layout", "width", "height"),
    "aistpp": ("sequences",),
    "npz": ("layout", "width", "height"),
}
"""Kinds of targets, and the options that each understands."""


@dataclass(frozen=True, eq=False)
class TargetKeypoints:
    """Detections of persons: N rows, one person in one image each.

    Attributes:
        keypoints: (N, 18, 3) float32 x px, y px, confidence in the network's order, sanitised:
            an unseen keypoint is (0, 0, 0).
        image_size: (N, 2) float32 width, height px; 0 where unknown.
        intrinsics: (N, 4) float32 fx, fy, cx, cy px of the camera, lens undone; 0 where unknown.
        source: the specs that they came from.
        frame: (N,) int64 number of the image in its recording, camera or folder.
        sequence: (N,) int32 one person seen by one camera. Rows are ordered by sequence, and by
            frame within it: neighbouring rows of one sequence follow each other in time, with
            nothing between them if their frames differ by 1.
        camera: (N,) int32 the camera (stream) that saw it, numbered over all targets.
        person: (N,) int32 rows of one number >= 0 show the same person of one take, so that rows
            with the same person and the same frame show one moment from different cameras; -1
            where no take is known, where who is who is in doubt, or where only one camera ever
            saw the person.
        left_out: how many persons (or whole images) were left out, by cause.
        names: what each sequence is: where it was read, and the person's name if there is one.
        images: how many images were read, with and without persons.
    """

    keypoints: NDArray[np.float32]
    image_size: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    source: str
    frame: NDArray[np.int64]
    sequence: NDArray[np.int32]
    camera: NDArray[np.int32]
    person: NDArray[np.int32]
    left_out: dict[str, int]
    names: tuple[str, ...] = ()
    images: int = 0

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True)
class Spec:
    """A target as the user names it.

    Raises:
        TargetError: an unknown kind, no path, or an option that the kind does not know.
    """

    kind: str
    path: Path
    options: dict[str, str]
    text: str

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read `KIND:PATH?option=value&option=value`."""
        kind, colon, rest = text.partition(":")
        if not colon or kind not in OPTIONS:
            raise TargetError(
                f"the target {text!r} does not say what it is: write KIND:PATH with one of "
                f"{', '.join(OPTIONS)}, for example bag:my_bag"
            )
        path, _, query = rest.partition("?")
        if not path:
            raise TargetError(f"the target {text!r} has no path after '{kind}:'")
        try:
            options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        except ValueError as error:
            raise TargetError(
                f"the target {text!r}: options are written ?name=value&name=value, got '?{query}'"
            ) from error
        unknown = sorted(set(options) - set(OPTIONS[kind]))
        if unknown:
            known = ", ".join(OPTIONS[kind]) or "none"
            raise TargetError(
                f"the target {text!r} has the option {unknown}; {kind} knows: {known}"
            )
        return cls(kind, Path(path).expanduser(), options, text)

    def size(self) -> tuple[int, int]:
        """Width and height [px] that the user gave; (0, 0) for none.

        Raises:
            TargetError: only one of them, or no whole number above 0.
        """
        given = [self.options.get(name, "") for name in ("width", "height")]
        if not any(given):
            return 0, 0
        if not all(value.isdecimal() and int(value) > 0 for value in given):
            raise TargetError(
                f"the target {self.text!r}: width and height belong together and are whole "
                f"numbers of pixels, got {given[0]!r} and {given[1]!r}"
            )
        return int(given[0]), int(given[1])

    def flag(self, option: str) -> bool:
        """Whether the user says that something is so; an option that is not given is "false".

        Raises:
            TargetError: neither "true" nor "false".
        """
        given = self.options.get(option, "false")
        if given not in ("true", "false"):
            raise TargetError(f"the target {self.text!r}: {option} is true or false, got {given!r}")
        return given == "true"


def load_targets(
    specs: Sequence[str], topic: str = DEFAULT_TOPIC, minimum: int = MINIMUM_KEYPOINTS
) -> TargetKeypoints:
    """Every usable person of the targets that `specs` name, one target after the other.

    Args:
        specs: targets, such as "bag:my_bag" or "openpose:json/".
        topic: the topic of bags whose spec names none; several with commas between them are
            cameras that saw the same people at the same time.
        minimum: seen keypoints that a person needs; those with fewer are left out and counted.

    Raises:
        TargetError: no spec, a spec that cannot be understood, or a target that is damaged, of
            another format, or without a single usable person: then with the count of every cause.
        BagError, EvaluationError: from the readers; each names its file.
    """
    if not specs:
        raise TargetError("no target to read: give at least one, for example bag:my_bag")
    if not 1 <= minimum <= len(NETWORK_KEYPOINTS):
        raise TargetError(
            f"a person has 1 to {len(NETWORK_KEYPOINTS)} keypoints; asked for at least {minimum}"
        )
    parts = [_load(Spec.parse(spec), topic, minimum) for spec in specs]
    left_out: dict[str, int] = {}
    for part in parts:
        for cause, count in part.left_out.items():
            left_out[cause] = left_out.get(cause, 0) + count
    return TargetKeypoints(
        keypoints=np.concatenate([part.keypoints for part in parts]),
        image_size=np.concatenate([part.image_size for part in parts]),
        intrinsics=np.concatenate([part.intrinsics for part in parts]),
        source=", ".join(specs),
        frame=np.concatenate([part.frame for part in parts]),
        sequence=_joined([part.sequence for part in parts]),
        camera=_joined([part.camera for part in parts]),
        person=_joined([part.person for part in parts]),
        left_out=left_out,
        names=tuple(name for part in parts for name in part.names),
        images=sum(part.images for part in parts),
    )


def _joined(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Numbers from 0 of one part after the other, no two parts with one in common; -1 stays."""
    shifted, start = [], 0
    for part in parts:
        shifted.append(np.where(part < 0, part, part + np.int32(start)))
        start += int(part.max(initial=-1)) + 1
    return np.concatenate(shifted)


def _load(spec: Spec, topic: str, minimum: int) -> TargetKeypoints:
    losses = Losses()
    try:
        images = list(_read(spec, topic, losses))
    except KeypointError as error:
        raise TargetError(f"{spec.text}: {error}") from error
    keypoints, image_of, usable = _usable(images, minimum, losses)
    if not usable.any():
        raise TargetError(
            f"{spec.text}: {len(images)} images were read and not one usable person was found "
            f"in them: {losses if losses.counts else 'it is empty'}"
        )
    tracker = Tracker()
    sequences: list[int] = []
    streams: dict[str, int] = {}
    cameras: list[int] = []
    persons: list[Person | None] = []
    starts = np.searchsorted(image_of, np.arange(len(images) + 1))
    for number, image in enumerate(images):
        first, after = starts[number], starts[number + 1]
        good = np.flatnonzero(usable[first:after])
        if len(good):
            ids = tuple(image.ids[person] for person in good)
            sequences += tracker.assign(image.stream, image.frame, ids, keypoints[first + good])
            cameras += [streams.setdefault(image.stream, len(streams))] * len(good)
            persons += persons_of_take(image, ids)
    sizes = np.array([(image.width, image.height) for image in images], dtype=np.float32)
    intrinsics = np.array(
        [np.zeros(4) if i.intrinsics is None else i.intrinsics.as_array() for i in images],
        dtype=np.float32,
    )
    frames = np.array([image.frame for image in images], dtype=np.int64)
    sequence = np.array(sequences, dtype=np.int32)
    frame = frames[image_of[usable]]
    order = np.lexsort((frame, sequence))
    camera = np.array(cameras, dtype=np.int32)[order]
    return TargetKeypoints(
        keypoints=keypoints[usable][order],
        image_size=sizes[image_of[usable]][order],
        intrinsics=intrinsics[image_of[usable]][order],
        source=spec.text,
        frame=frame[order],
        sequence=sequence[order],
        camera=camera,
        person=number_persons([persons[row] for row in order], camera),
        left_out=dict(losses.counts),
        names=tuple(tracker.names),
        images=len(images),
    )


def _usable(
    images: list[Detections], minimum: int, losses: Losses
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.bool_]]:
    """Everybody's sanitised keypoints (P, 18, 3), image (P,), and who is usable (P,)."""
    counts = np.array([len(image.ids) for image in images], dtype=int)
    image_of = np.repeat(np.arange(len(images)), counts)
    # At once: numpy's steps cost more than what they do for the one person of an image.
    empty = np.zeros((0, len(NETWORK_KEYPOINTS), 3), np.float32)
    keypoints = sanitise(np.concatenate([empty, *(image.keypoints for image in images)]))
    seen = (keypoints[..., 2] >= SEEN_CONFIDENCE).sum(axis=1)
    boxes = bounding_boxes(keypoints)
    spot = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) < MINIMUM_SIZE_PX

    def count(cause: str, which: NDArray[np.bool_], where: NDArray[np.intp], hint: str) -> None:
        if which.any():
            image = images[where[np.argmax(which)]]
            losses.add(cause, f"{image.stream}, image {image.frame}{hint}", int(which.sum()))

    count("nobody_in_image", counts == 0, np.arange(len(images)), "")
    count("no_keypoints", seen == 0, image_of, "")
    few = (seen > 0) & (seen < minimum)
    count("too_few_keypoints", few, image_of, f" with {seen[np.argmax(few)]}" if few.any() else "")
    pixels = ": coordinates are pixels, not 0 to 1"
    count("all_on_one_spot", spot & (seen >= minimum), image_of, pixels)
    return keypoints, image_of, ~spot & (seen >= minimum)


def _read(spec: Spec, topic: str, losses: Losses) -> Iterator[Detections]:
    # Each reader is imported when its kind is asked for: only bags need the package rosbags.
    match spec.kind:
        case "bag":
            from key2mesh_core.recordings.detector_bags import read_bag

            topic = spec.options.get("topic", topic)
            yield from read_bag(spec.path, topic, spec.size(), losses, spec.flag("rectified"))
        case "openpose":
            from key2mesh_core.recordings import openpose

            layout, together = spec.options.get("layout"), spec.flag("together")
            yield from openpose.read_detections(spec.path, spec.size(), layout, together)
        case "coco":
            from key2mesh_core.recordings import coco

            layout = spec.options.get("layout")
            yield from coco.read_detections(spec.path, spec.size(), layout, losses)
        case "npz":
            from key2mesh_core.recordings import npz

            yield from npz.read_detections(spec.path, spec.size(), spec.options.get("layout"))
        case "aistpp":
            from key2mesh_core.recordings.aistpp import read_detections

            wanted = spec.options.get("sequences", "")
            yield from read_detections(spec.path, wanted.split(",") if wanted else ())
