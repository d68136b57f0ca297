# SPDX-License-Identifier: Apache-2.0
"""InstaVariety's TFRecords (Kanazawa et al., CVPR 2019): OpenPose's keypoints of web videos.

A file holds one tf.train.Example per video, with (github.com/akanazawa/human_dynamics,
doc/datasets.md) `meta/N` frames, `image/xys (N,2,14)`, `image/visibilities (N,14)`, `image/face_pts
(N,3,5)` and `image/toe_pts (N,3,6)`. With `image/phis`, coordinates are -1 to 1 in a crop of 224 x
224 px around the person, so the camera is unknown. Neither TensorFlow nor protobuf is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import TargetError
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.options import RecordingOptions
from key2mesh_core.recordings.prepare import DroppedRecords

CROP_PX = 224
_LAYOUT = "instavariety_25"
_MOST_BYTES = 1 << 30
"""Limit of one record: a video's images take some tens of MB."""

_SHAPES = {
    "image/xys": (2, 14),
    "image/visibilities": (1, 14),
    "image/face_pts": (3, 5),
    "image/toe_pts": (3, 6),
}
"""Numbers of each frame."""
_WANTED = {"meta/N", *_SHAPES, "image/phis", "image/heightwidths"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_frames(
    path: Path, options: RecordingOptions, dropped: DroppedRecords
) -> Iterator[PersonFrame]:
    """The person in every frame of a .tfrecord, or of all in a folder.

    Raises:
        TargetError: there is no such file, or one is damaged or holds other data.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.tfrecord"))
    if not files:
        raise TargetError(f"{path} is neither a .tfrecord of InstaVariety nor a folder with any")
    for file in files:
        for video, record in enumerate(_records(file)):
            where = f"{file}, record {video}"
            try:
                keypoints, size = _keypoints(where, dict(_features(record)))
            except TargetError:
                raise
            except Exception as error:  # damage makes Python raise nearly anything
                raise TargetError(f"{where}: not a tf.train.Example ({error})") from error
            for number, person in enumerate(keypoints):
                yield PersonFrame(
                    ids=("person",),
                    keypoints=person[None],
                    layout=_LAYOUT,
                    stamp_ns=round(1e9 * number / options.fps),
                    width=size[0],
                    height=size[1],
                    stream=f"{file.name} {video}",
                    number=number,
                )


def _keypoints(
    where: str, features: dict[str, NDArray]
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """(N, 25, 3) px, px, confidence, and the width and height of the image [px]."""
    if missing := [name for name in ("meta/N", *_SHAPES) if name not in features]:
        raise TargetError(
            f"{where} lacks {', '.join(missing)}, which InstaVariety's records have; it has "
            f"{', '.join(sorted(features)) or 'nothing'}"
        )
    count = int(features["meta/N"][0])
    parts = []
    for name, (rows, columns) in _SHAPES.items():
        numbers = features[name]
        if numbers.size != count * rows * columns:
            raise TargetError(f"{where}: {name} has {numbers.size} numbers for {count} frames")
        parts.append(numbers.reshape(count, rows, columns))
    places, visible, *others = parts
    found = np.concatenate([np.concatenate([places, visible], axis=1), *others], axis=2)
    found = found.transpose(0, 2, 1).astype(np.float32)
    if "image/phis" in features:
        found[..., :2] = (found[..., :2] + 1) * (CROP_PX / 2)
        return found, (CROP_PX, CROP_PX)
    size = features.get("image/heightwidths", np.zeros(2))
    return found, (int(size[1]), int(size[0]))


def _records(path: Path) -> Iterator[memoryview]:
    """The records of a TFRecord file: a length, its checksum, the content, its checksum."""
    with path.open("rb") as stream:
        while header := stream.read(12):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else -1
            if not 0 <= length <= _MOST_BYTES:
                raise TargetError(f"{path} is not a TFRecord file, or is damaged")
            content = stream.read(length + 4)
            if len(content) != length + 4:
                raise TargetError(f"{path} is truncated: a record of {length} bytes ends early")
            yield memoryview(content)[:length]


def _features(example: memoryview) -> Iterator[tuple[str, NDArray]]:
    """The wanted entries of Example.features.feature as arrays; images are skipped."""
    for field, features in _fields(example):
        for _, entry in _fields(features) if field == 1 else ():
            parts = dict(_fields(entry))
            name = bytes(parts.get(1, b"")).decode()
            if name in _WANTED:
                yield name, _numbers(parts[2])


def _numbers(feature: memoryview) -> NDArray:
    """A Feature's list of floats or integers; packed, or number by number."""
    values: list[Any] = []
    for kind, content in _fields(feature):
        for _, packed in _fields(content):
            if kind == 2:
                values.append(np.frombuffer(packed, "<f4"))
            elif kind == 3 and isinstance(packed, int):
                values.append(np.array([packed]))
            elif kind == 3:
                values.append(_varints(packed))
    return np.concatenate(values) if values else np.zeros(0)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and content of each field of a protobuf message: bytes, or an integer."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _BYTES:
            length, place = _varint(message, place)
            end = place + length
        elif kind == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        elif kind in (_FIXED32, _FIXED64):
            end = place + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"field type {kind}")
        if end > len(message):
            raise ValueError("a field ends beyond the record")
        yield key >> 3, message[place:end]
        place = end


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number without end")


def _varints(packed: memoryview) -> NDArray[np.int64]:
    values, place = [], 0
    while place < len(packed):
        value, place = _varint(packed, place)
        values.append(value - (1 << 64) if value >> 63 else value)
    return np.array(values, np.int64)
