# SPDX-License-Identifier: Apache-2.0
"""Makes a ROS 2 recording of 2D keypoints from a video, to play into the node or to view.

MediaPipe Pose finds the people. It needs an older numpy than key2mesh: use a separate virtual
environment.

    python3 -m venv /tmp/detector
    /tmp/detector/bin/pip install mediapipe==0.10.21 'numpy<2' rosbags
    /tmp/detector/bin/python tools/video_to_bag.py dance.mp4 dance_bag --fov 65

    ros2 bag play dance_bag          # on a machine with ROS
    key2mesh view --bag dance_bag    # anywhere

Only keypoints and the camera are written, never an image. Frames without anybody are written as
what they are: empty arrays.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from a source tree

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BagError, Key2MeshError

LAYOUT = "mediapipe_33"
LEFT_HIP, RIGHT_HIP = 23, 24

INSTALL = (
    "this tool finds people with MediaPipe, which is not installed here. It wants a virtual "
    "environment of its own:\n"
    "    python3 -m venv /tmp/detector\n"
    "    /tmp/detector/bin/pip install mediapipe==0.10.21 'numpy<2' rosbags\n"
    "    /tmp/detector/bin/python tools/video_to_bag.py ..."
)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path, help="any file that OpenCV reads: .mp4, .avi, .mov ...")
    parser.add_argument("bag", type=Path, help="the folder to make (mcap and metadata.yaml)")
    parser.add_argument(
        "--people",
        type=int,
        default=2,
        metavar="N",
        help="look for at most this many people; each costs one more pass (default: 2)",
    )
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument(
        "--fov",
        type=float,
        default=60.0,
        metavar="DEGREES",
        help="horizontal field of view. How far away people stand follows from it; a phone held "
        "upright has about 40, held sideways 60 to 70, a webcam 60 to 80 (default: 60)",
    )
    camera.add_argument(
        "--focal-length",
        type=float,
        metavar="PX",
        help="instead of --fov, if the camera is calibrated",
    )
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="skip this much")
    parser.add_argument("--duration", type=float, metavar="S", help="stop after this much")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use each Nth frame only")
    parser.add_argument(
        "--model",
        choices=["lite", "full", "heavy"],
        default="full",
        help="MediaPipe's network; lite is faster and less exact, heavy the opposite; those two it "
        "fetches when first used (default: full)",
    )
    parser.add_argument(
        "--stamp",
        type=float,
        metavar="S",
        help="the recording's first second, since 1970 (default: now)",
    )
    parser.add_argument("--frame-id", default="camera_optical_frame", help="name in the headers")
    parser.add_argument("--topic", default="/keypoints", help="default: /keypoints")
    parser.add_argument("--camera-topic", default="/camera_info", help="default: /camera_info")
    options = parser.parse_args(words)
    for name, least in (("people", 1), ("every", 1), ("start", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(options, name)}")
    return options


@dataclass(frozen=True)
class Video:
    """Size [px], frames a second, and number of frames as the file's header says."""

    width: int
    height: int
    rate: float
    frames: int


def open_video(path: Path) -> tuple[Any, Video]:
    """An OpenCV capture and what it says of itself; BagError if it cannot be read."""
    if not path.exists():
        raise BagError(f"there is no video {path}")
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise BagError(INSTALL) from error
    capture = cv2.VideoCapture(str(path))
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    rate = capture.get(cv2.CAP_PROP_FPS)
    if not capture.isOpened() or width <= 0 or height <= 0 or not rate > 0:
        raise BagError(f"{path} is not a video that OpenCV can read")
    return capture, Video(width, height, rate, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))


def detectors(count: int, model: str) -> list[Any]:
    """One MediaPipe tracker per person."""
    try:
        from mediapipe import solutions
    except ModuleNotFoundError as error:
        raise BagError(INSTALL) from error
    complexity = {"lite": 0, "full": 1, "heavy": 2}[model]
    return [solutions.pose.Pose(model_complexity=complexity) for _ in range(count)]


def detect(trackers: list[Any], image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The people in an RGB image (height, width, 3): a list of (33, 3) x px, y px, visibility.

    MediaPipe Pose finds one person. Each person found is painted over before the next pass, so that
    it finds somebody else.
    """
    height, width = image.shape[:2]
    image = image.copy()
    people = []
    for tracker in trackers:
        landmarks = tracker.process(image).pose_landmarks
        if landmarks is None:
            continue
        person = np.array(
            [[p.x * width, p.y * height, p.visibility] for p in landmarks.landmark],
            dtype=np.float32,
        )
        people.append(person)
        low, high = person[:, :2].min(axis=0), person[:, :2].max(axis=0)
        margin = 0.2 * (high - low).max()
        x0, y0 = np.maximum(low - margin, 0).astype(int)
        x1, y1 = np.maximum(high + margin, 0).astype(int)
        image[y0:y1, x0:x1] = 127
    return people


class Names:
    """Gives each person a name that stays while they are seen.

    A tracker may jump to somebody else, so names follow the middle of the hips: whoever is
    nearest to where a name was last seen, within half their own height, keeps it.
    """

    PATIENCE = 15
    """A name is forgotten after so many frames without its person."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, NDArray[np.float32]]] = {}
        self._count = 0

    def assign(self, frame: int, people: list[NDArray[np.float32]]) -> list[str]:
        """A name for each of the people seen in the given frame."""
        self._last = {n: v for n, v in self._last.items() if frame - v[0] <= self.PATIENCE}
        hips = [person[[LEFT_HIP, RIGHT_HIP], :2].mean(axis=0) for person in people]
        pairs = sorted(
            (float(np.linalg.norm(hip - at)), i, name)
            for i, hip in enumerate(hips)
            for name, (_, at) in self._last.items()
        )
        names: dict[int, str] = {}
        for distance, i, name in pairs:
            reach = 0.5 * float(np.ptp(people[i][:, 1]))
            if distance <= reach and i not in names and name not in names.values():
                names[i] = name
        for i in range(len(people)):
            if i not in names:
                self._count += 1
                names[i] = f"person_{self._count}"
        self._last |= {names[i]: (frame, hip) for i, hip in enumerate(hips)}
        return [names[i] for i in range(len(people))]


def images(
    capture: Any, video: Video, options: argparse.Namespace
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The chosen images as RGB, each with its time in the video [s]; shows how far it is."""
    last = video.frames or None
    if options.duration is not None:
        end = int((options.start + options.duration) * video.rate)
        last = end if last is None else min(last, end)
    started = shown = time.monotonic()
    index = 0
    while last is None or index < last:
        good, image = capture.read()
        if not good:
            break
        seconds = index / video.rate
        if seconds >= options.start and index % options.every == 0:
            yield seconds, image[:, :, ::-1]
        index += 1
        now = time.monotonic()
        if now - shown > 0.5 or index == last:
            shown = now
            left = f", {(now - started) / index * (last - index):.0f} s left" if last else ""
            print(f"\r  frame {index}/{last or '?'}{left}   ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def convert(options: argparse.Namespace) -> str:
    """Writes the recording; returns a sentence on what is in it."""
    if options.bag.exists():
        raise BagError(f"{options.bag} exists already: remove it or choose another name")
    capture, video = open_video(options.video)
    trackers = detectors(options.people, options.model)
    # After MediaPipe has been found: then rosbags is the only other thing that can be missing.
    from write_bags import camera_recording, keypoint_recording, write_bag

    from key2mesh_core.camera.choose import Camera
    from key2mesh_core.people.person_frame import PersonFrame

    if options.focal_length is not None:
        focal = options.focal_length
        intrinsics = Intrinsics(focal, focal, video.width / 2, video.height / 2)
    else:
        intrinsics = Intrinsics.from_field_of_view(
            video.width, video.height, horizontal_degrees=options.fov
        )
    first_ns = int((time.time() if options.stamp is None else options.stamp) * 1e9)
    names = Names()
    frames = []
    for number, (seconds, image) in enumerate(images(capture, video, options)):
        people = detect(trackers, image)
        frames.append(
            PersonFrame(
                stamp_ns=first_ns + round((seconds - options.start) * 1e9),
                frame_id=options.frame_id,
                layout=LAYOUT,
                width=video.width,
                height=video.height,
                ids=tuple(names.assign(number, people)),
                keypoints=np.array(people, dtype=np.float32).reshape(-1, 33, 3),
            )
        )
    if not any(frame.ids for frame in frames):
        raise BagError(f"nobody was found in {len(frames)} frames of {options.video}")
    camera = Camera(intrinsics, video.width, video.height)
    stamps = [frame.stamp_ns for frame in frames]
    write_bag(
        options.bag,
        [
            camera_recording(options.camera_topic, camera, options.frame_id, stamps),
            keypoint_recording(options.topic, frames),
        ],
    )
    seen = sum(bool(frame.ids) for frame in frames)
    size = sum(f.stat().st_size for f in options.bag.iterdir()) / 1000
    return (
        f"{options.bag}: {len(frames)} frames, {seen} with somebody, "
        f"{sum(len(f.ids) for f in frames)} persons in all, focal length "
        f"{intrinsics.fx:.0f} px, {size:.0f} kB"
    )


def main() -> int:
    """Returns the process's exit status."""
    options = arguments()
    try:
        print(convert(options))
    except Key2MeshError as error:
        print(f"video_to_bag: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nvideo_to_bag: interrupted, nothing written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
