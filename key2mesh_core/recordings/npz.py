# SPDX-License-Identifier: Apache-2.0
"""Reads keypoints from numpy's `.npz`, a person in one image per row: our own keys, InstaVariety's
(`joints2D`, `vid_name`, `frame_id`) and SPIN's (`openpose`, `imgname`), as docs/recordings.md lists
them. `layout`, `width`, `height` and `intrinsics` may be one for all rows.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError, TargetError
from key2mesh_core.keypoints.layouts import to_network
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame
from key2mesh_core.recordings.numbering import number_names
from key2mesh_core.recordings.options import RecordingOptions
from key2mesh_core.recordings.prepare import DroppedRecords
from key2mesh_core.recordings.which_layout import which_layout

MAX_BYTES = 1 << 30
"""Limit of all unpacked arrays together: two million people with 25 keypoints take 600 MB."""

# Errors of numpy and zipfile for damaged files.
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, MemoryError, RuntimeError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip

_KEYPOINTS = {"keypoints": None, "joints2D": "instavariety_25", "openpose": "openpose_body_25"}
_CAMERAS, _FRAMES = ("camera", "vid_name"), ("frame", "frame_id")
_OTHERS = (
    "layout", "sequence", "frame", "frame_id", "camera", "vid_name", "imgname", "width", "height",
    "intrinsics", "take",
)  # fmt: skip


def read_frames(
    path: Path, options: RecordingOptions, dropped: DroppedRecords
) -> Iterator[PersonFrame]:
    """The people in every image of a file, with the camera if the file states it. `options.layout`
    overrides the file's.

    Raises:
        TargetError: the file is damaged, lacks keypoints, or its arrays do not match; or no layout
            has this number of keypoints.
        KeypointError: the layout is unknown, or the keypoints do not have its shape.
    """
    arrays = _load(path)
    key = next((key for key in _KEYPOINTS if key in arrays), None)
    if key is None:
        raise TargetError(
            f"{path} has no array {' or '.join(_KEYPOINTS)} of shape (N, K, 3); it has "
            f"{sorted(arrays)}"
        )
    raw = arrays[key]
    if raw.ndim != 3 or raw.shape[2] != 3 or raw.dtype.kind not in "fiu":
        raise TargetError(
            f"{path}: {key} is {raw.dtype} of shape {raw.shape}; expected numbers of shape "
            "(N, K, 3): people, keypoints, (x px, y px, confidence)"
        )
    stated = options.layout or _KEYPOINTS[key] or _layout(path, arrays)
    with np.errstate(over="ignore"):  # too large for float32: infinite, so unseen
        people = raw.astype(np.float32)
    layout = which_layout(people, stated, str(path))
    keypoints = to_network(layout, people[:, : len(layout)])
    count = len(keypoints)
    camera, frame = _images(path, arrays, count)
    takes = _takes(path, arrays, count)
    ids = _texts(path, "sequence", arrays, count)
    width, height = (_whole(path, name, arrays, count) for name in ("width", "height"))
    intrinsics = _intrinsics(path, arrays, count)
    streams, numbers = np.unique(np.array(camera, dtype=str), return_inverse=True)
    order = np.lexsort((frame, numbers))
    turns = np.flatnonzero((np.diff(numbers[order]) != 0) | (np.diff(frame[order]) != 0)) + 1
    for rows in np.split(order, turns) if count else []:
        first = rows[0]
        if len(found := sorted({takes[row] for row in rows})) > 1:
            raise TargetError(
                f"{path}: image {frame[first]} of camera {camera[first]!r} is in the takes {found}"
                ": continue the image numbers from take to take"
            )
        size = int(width[first]), int(height[first])
        if bool(size[0]) != bool(size[1]):
            raise TargetError(f"{path}: images are {size[0]} x {size[1]}: give width and height")
        yield PersonFrame(
            ids=tuple(ids[row] for row in rows),
            keypoints=keypoints[rows],
            layout=NETWORK_LAYOUT,
            stamp_ns=round(1e9 * int(frame[first]) / options.fps),
            width=size[0],
            height=size[1],
            camera=_camera(path, intrinsics[first].tolist(), size),
            stream=f"{path.name} {streams[numbers[first]]}".rstrip(),
            number=int(frame[first]),
            take=takes[first],
        )


def _layout(path: Path, arrays: dict[str, NDArray]) -> str:
    """The layout in the file, given once or once per person; empty if none."""
    array = arrays.get("layout", np.array(""))
    names = sorted(set(_texts(path, "layout", {"layout": array.reshape(-1)}, array.size)))
    if len(names) > 1:
        raise TargetError(f"{path}: its layouts are {', '.join(names)}; give each a separate file")
    return "".join(names)


def _load(path: Path) -> dict[str, NDArray]:
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is missing, truncated, or not made by np.savez")
        with np.load(path, allow_pickle=False) as stored:
            wanted = {*_KEYPOINTS, *_OTHERS} & set(stored.files)
            total = sum(info.file_size for info in stored.zip.infolist())
            if total > MAX_BYTES:
                raise TargetError(
                    f"{path} unpacks to {total / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB are "
                    "read: split it"
                )
            found = {name: stored[name] for name in wanted} or dict.fromkeys(stored.files)
            return {n: _whole_floats(a) if n in _OTHERS else a for n, a in found.items()}
    except _DAMAGE as error:
        raise TargetError(
            f"{path} cannot be read as an .npz of plain arrays without pickles: {error}"
        ) from error


def _whole_floats(array: NDArray) -> NDArray:
    """Whole floats as integers: some tools write numbers and ids as floats, 3.0 for 3."""
    if array.dtype.kind == "f" and (array == np.rint(array)).all() and (abs(array) < 1 << 53).all():
        return array.astype(np.int64)
    return array


def _images(
    path: Path, arrays: dict[str, NDArray], count: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Camera and image number of each row."""
    if "imgname" in arrays:
        names = _texts(path, "imgname", arrays, count)
        numbered = number_names(names)
        return [numbered[n][0] for n in names], np.array([numbered[n][1] for n in names], np.int64)
    camera = next((key for key in _CAMERAS if key in arrays), "")
    frame = next((key for key in _FRAMES if key in arrays), None)
    numbers = _whole(path, frame, arrays, count) if frame else np.arange(count)
    return _texts(path, camera, arrays, count), numbers


def _takes(path: Path, arrays: dict[str, NDArray], count: int) -> list[str]:
    """Take of each row; empty for none."""
    for what, keys in (("camera", _CAMERAS), ("frame", _FRAMES)):
        if "take" in arrays and not any(key in arrays for key in (*keys, "imgname")):
            raise TargetError(
                f"{path} has takes but no {what} (N,): a take groups cameras that saw the same "
                "moment in images with the same number"
            )
    return _texts(path, "take", arrays, count)


def _texts(path: Path, name: str, arrays: dict[str, NDArray], count: int) -> list[str]:
    """One name per row, from numbers, strings or bytes; empty without the array."""
    array = arrays.get(name, np.full(count, ""))
    if array.shape != (count,) or array.dtype.kind not in "iuUS":
        raise TargetError(
            f"{path}: {name} is {array.dtype} of shape {array.shape}; expected {count} whole "
            "numbers or names"
        )
    return [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in array.tolist()]


def _whole(path: Path, name: str, arrays: dict[str, NDArray], count: int) -> NDArray[np.int64]:
    """One whole number per row, or one for all; zeros without the array."""
    array = arrays.get(name, np.zeros((), np.int64))
    if array.shape not in ((), (count,)) or array.dtype.kind not in "iu":
        raise TargetError(
            f"{path}: {name} is {array.dtype} of shape {array.shape}; expected {count} "
            "whole numbers"
        )
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 1 << 40):
        raise TargetError(f"{path}: {name} ranges from {array.min()} to {array.max()}")
    return np.broadcast_to(array.astype(np.int64), (count,))


def _intrinsics(path: Path, arrays: dict[str, NDArray], count: int) -> NDArray[np.float64]:
    """(N, 4) fx, fy, cx, cy; zeros if unknown."""
    array = arrays.get("intrinsics", np.zeros(4))
    if array.shape not in ((4,), (count, 4)) or array.dtype.kind not in "fiu":
        raise TargetError(
            f"{path}: intrinsics is {array.dtype} of shape {array.shape}; expected ({count}, 4): "
            "fx, fy, cx, cy"
        )
    return np.broadcast_to(array, (count, 4)).astype(float)


def _camera(path: Path, values: list[float], size: tuple[int, int]) -> Camera | None:
    try:
        intrinsics = Intrinsics(*values) if any(values) else None
    except CameraError as error:
        raise TargetError(f"{path}: {error}") from error
    return None if intrinsics is None else Camera(intrinsics, *size, "intrinsics of the file")
