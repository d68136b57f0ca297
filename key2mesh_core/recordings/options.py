# SPDX-License-Identifier: Apache-2.0
"""How a user names a recording, and the options that they give.

A source is a plain path, whose kind is recognised, or `KIND:PATH`; both take options after a
question mark: `bag:my_bag?topic=/people&fov=70`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import CameraError, KeypointError, TargetError
from key2mesh_core.io import read_json
from key2mesh_core.keypoints.arrays import MINIMUM_KEYPOINTS
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.keypoints.table import REQUIRED

Kind = Literal["bag", "openpose", "coco", "aistpp", "npz", "3dpw", "instavariety"]

KINDS: tuple[Kind, ...] = get_args(Kind)
_BAGS = dict.fromkeys((".mcap", ".db3", ".bag"), "bag")
_BY_SUFFIX: dict[str, Kind] = {
    **_BAGS,
    ".npz": "npz",
    ".pkl": "aistpp",
    ".tfrecord": "instavariety",
}


@dataclass(frozen=True)
class RecordingOptions:
    """A user's options for a recording.

    Attributes:
        topic: keypoint topic of a bag. Empty: the only one, or `/keypoints` if there are several.
            With `*`, one topic for each person ("/humans/bodies/*/skeleton2d"). Several, separated
            by commas, are cameras that saw the same people at the same time.
        camera_info: CameraInfo topic of a bag (one for each of several keypoint topics, separated
            by commas). Empty: the one with the keypoints' frame.
        layout: name of the keypoint layout, for openpose, coco and npz. Empty: by number and
            positions.
        fps: images per second of files.
        sequences: only these sequences of an AIST++ folder (`ch06`). Empty: all.
        split: "train", "validation" or "test" of a folder of 3DPW. Empty: train.
        together: whether the subfolders of an OpenPose folder are cameras that took images with the
            same number at the same moment.
        minimum: least number of seen keypoints of a person; others are dropped and counted.
        need_camera: refuse images of unknown size if the camera needs it; otherwise their frames
            have no camera.
        camera: what the user states about the camera.

    Raises:
        TargetError: a value is outside its range.
    """

    topic: str = ""
    camera_info: str = ""
    layout: str = ""
    fps: float = 30.0
    sequences: tuple[str, ...] = ()
    split: str = ""
    together: bool = False
    minimum: int = MINIMUM_KEYPOINTS
    need_camera: bool = True
    camera: CameraOptions = field(default_factory=CameraOptions)

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 1000:  # false for NaN
            raise TargetError(f"fps must be more than 0 and at most 1000, got {self.fps}")
        if not 1 <= self.minimum <= REQUIRED:
            raise TargetError(
                f"the minimum number of keypoints must be 1 to {REQUIRED}, got {self.minimum}"
            )
        if self.layout:
            try:
                get_layout(self.layout)
            except KeypointError as error:
                raise TargetError(str(error)) from error


@dataclass(frozen=True)
class Source:
    """A recording that the user names by `text`; `options` include those in the name."""

    kind: Kind
    path: Path
    options: RecordingOptions
    text: str


def parse_source(text: str | Path, options: RecordingOptions | None = None) -> Source:
    """Parse a name; its options override `options`.

    Raises:
        TargetError: the kind is unknown or not recognised, or an option is unknown for the kind or
            has an invalid value.
    """
    options = options or RecordingOptions()
    name = str(text)
    kind, _, whole = name.partition(":")
    if Path(name).exists() or kind not in KINDS or kind == name:
        kind, whole = None, name
    path, _, query = (whole, "", "") if Path(whole).exists() else whole.partition("?")
    if not path:
        raise TargetError(f"{name!r} has no path after '{kind}:'")
    where = Path(path).expanduser()
    if kind is None:
        if not where.exists():
            raise TargetError(
                f"there is no {path}; give a path, or KIND:PATH with one of {', '.join(KINDS)}, "
                "for example bag:my_bag"
            )
        kind = recognise(where)
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise TargetError(
            f"{name!r}: options are written ?name=value&name=value, got '?{query}'"
        ) from error
    return Source(kind, where, _with(name, kind, given, options), name)


def recognise(path: Path) -> Kind:
    """The kind of recording at an existing path; raises TargetError if it is not recognised."""
    if path.is_dir():
        if (path / "sequenceFiles").is_dir():
            return "3dpw"
        inside = {_BY_SUFFIX.get(p.suffix) for p in path.iterdir()}
        if "bag" in inside or (path / "metadata.yaml").exists():
            return "bag"
        if "aistpp" in inside:
            return "aistpp"
        if "instavariety" in inside:
            return "instavariety"
        if next(path.rglob("*.json"), None) is not None:
            return "openpose"
        raise TargetError(
            f"{path} contains no known recording: no rosbag2 (.mcap, .db3), no JSON files of "
            "OpenPose, no pickles of AIST++, no sequenceFiles of 3DPW"
        )
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = read_json(path, 512 << 20, TargetError)
        return "openpose" if isinstance(content, dict) and "people" in content else "coco"
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    raise TargetError(
        f"{path} does not end in .mcap, .db3, .json or .npz; name its "
        f"kind, KIND:{path}, with one of {', '.join(KINDS)}"
    )


def _boolean(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def _pixels(value: str) -> int:
    if not (value.isdecimal() and 0 < int(value) < 1 << 20):
        raise ValueError("must be a whole number of pixels")
    return int(value)


_READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("width", "height"), _pixels),
    **dict.fromkeys(("fx", "fy", "cx", "cy", "fov", "fps"), float),
    **dict.fromkeys(("topic", "camera_info", "layout", "split"), str),
    **dict.fromkeys(("rectified", "together"), _boolean),
    "sequences": lambda value: tuple(value.split(",")),
}
_STATED = ("width", "height", "fx", "fy", "cx", "cy", "fov")
OPTIONS: dict[Kind, tuple[str, ...]] = {
    "bag": ("topic", "camera_info", "rectified", *_STATED),
    "openpose": ("layout", "together", "fps", *_STATED),
    "coco": ("layout", "fps", *_STATED),
    "aistpp": ("sequences", "fps", *_STATED[2:]),
    "npz": ("layout", "fps", *_STATED),
    "3dpw": ("split", "fps"),
    "instavariety": ("fps", *_STATED[2:]),
}
"""The options of each kind after the question mark."""


def _with(
    name: str, kind: Kind, given: dict[str, str], options: RecordingOptions
) -> RecordingOptions:
    if unknown := sorted(set(given) - set(OPTIONS[kind])):
        known = ", ".join(OPTIONS[kind])
        raise TargetError(f"{name!r} has the option {unknown}; {kind} has: {known}")
    if options.layout and "layout" not in OPTIONS[kind]:
        raise TargetError(f"{name!r}: a {kind} states the keypoint layout itself: give no layout")
    values: dict[str, Any] = {}
    for option, text in given.items():
        try:
            values[option] = _READ[option](text)
        except ValueError as error:
            raise TargetError(f"{name!r}: {option} is {text!r}: {error}") from error
    width, height = values.pop("width", 0), values.pop("height", 0)
    if bool(width) != bool(height):
        raise TargetError(f"{name!r}: width and height go together")
    stated = ("fx", "fy", "cx", "cy", "fov")
    camera = {key: values.pop(key) for key in (*stated, "rectified") if key in values}
    # A focal length or a field of view in the name replaces one stated before.
    if set(stated) & set(camera):
        camera = dict.fromkeys(stated, 0.0) | camera
        camera["fov_deg"] = camera.pop("fov")
    if width:
        camera["image_size"] = (width, height)
    try:
        merged = replace(options.camera, **camera)
    except CameraError as error:
        raise TargetError(f"{name!r}: {error}") from error
    return replace(options, camera=merged, **values)
