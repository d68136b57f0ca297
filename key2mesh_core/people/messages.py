# SPDX-License-Identifier: Apache-2.0
"""Detectors' messages to plain arrays, on any object that has a message's attributes.

rclpy's messages and those decoded from a recording are read by the same lines. Every reader is
`read_...(message, width=0, height=0) -> People`, where width and height [px] are those of the
image and count only where the message does not carry its own. It raises `MessageRefused`, whose
`cause` is a short name to count by; `READERS` finds a reader by the ROS type:

    read_person_keypoints   key2mesh_ros/msg/PersonKeypointsArray
    read_yolo               yolo_msgs/msg/DetectionArray, COCO-17 keypoints of a pose model
    read_hri                hri_msgs/msg/Skeleton2D, one person (ROS4HRI); needs width and height
    read_zed                zed_msgs/msg/ObjectsStamped, body tracking with 18, 34 or 38 keypoints
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import KeypointError
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.layouts import get_layout

_NORMALISED_LIMIT = 3.0
"""Normalised coordinates beyond this are pixels: nobody is seen three images away."""

# zed_msgs/Object.body_format, in the order of the ZED SDK's BODY_FORMAT.
_ZED_LAYOUTS = {0: "openpose_coco_18", 1: "zed_34", 2: "zed_38"}


class MessageRefused(KeypointError):
    """A message that cannot be understood.

    Attributes:
        cause: its short name, to count by and to look the advice up with.
    """

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class People(NamedTuple):
    """The persons of one message.

    Attributes:
        ids: N names; empty strings where the detector gives none.
        keypoints: (N, K, 3) float32 x px, y px, confidence; K keypoints in the layout's order,
            as the detector gave them: not sanitised, zeros for those that it left out.
        layout: name of the layout, a key of `keypoints.LAYOUTS`.
        width, height: of the image [px]; 0 where unknown.
    """

    ids: tuple[str, ...]
    keypoints: NDArray[np.float32]
    layout: str
    width: int
    height: int


def read_person_keypoints(message: Any, width: int = 0, height: int = 0) -> People:
    """The persons of a key2mesh_ros/PersonKeypointsArray.

    Raises:
        MessageRefused: `unknown_layout`; `unequal_lengths`, a person whose x, y and confidence
            differ in length; `keypoint_count`, not one entry per keypoint of the layout.
    """
    try:
        layout = get_layout(message.layout)
    except KeypointError as error:
        raise MessageRefused("unknown_layout", str(error)) from error
    people = message.people
    keypoints = np.empty((len(people), len(layout), 3), dtype=np.float32)
    for index, person in enumerate(people):
        x, y, confidence = len(person.x), len(person.y), len(person.confidence)
        if not x == y == confidence:
            raise MessageRefused(
                "unequal_lengths",
                f"person {index}: x, y and confidence must be of one length, have {x}, {y} "
                f"and {confidence} entries",
            )
        if x != len(layout):
            raise MessageRefused(
                "keypoint_count",
                f"person {index}: layout '{layout.name}' has {len(layout)} keypoints, the message "
                f"has {x}; name the layout that the detector uses",
            )
        keypoints[index, :, 0] = person.x
        keypoints[index, :, 1] = person.y
        keypoints[index, :, 2] = person.confidence
    ids = tuple(person.id for person in people)
    return People(
        ids, keypoints, layout.name, message.image_width or width, message.image_height or height
    )


def read_yolo(message: Any, width: int = 0, height: int = 0) -> People:
    """The persons of a yolo_msgs/DetectionArray: those detections that carry keypoints.

    A detection of the class "person" without any keypoint is a person without any, so that a
    model which finds boxes only shows in the counts. Ids are the tracker's, empty without one.
    The image's size is that of a mask, if a detection has one.

    Raises:
        MessageRefused: `keypoint_count`, a keypoint id that COCO-17 does not have (1 to 17).
    """
    layout = get_layout("coco_17")
    ids, persons = [], []
    for index, detection in enumerate(message.detections):
        points = detection.keypoints.data
        if not points and detection.class_name != "person":
            continue
        person = np.zeros((len(layout), 3), dtype=np.float32)
        for point in points:
            # Ids count from 1, and those that the model is unsure of are absent.
            if not 1 <= point.id <= len(layout):
                raise MessageRefused(
                    "keypoint_count",
                    f"detection {index} has a keypoint of id {point.id}; a pose model for COCO's "
                    f"{len(layout)} keypoints gives 1 to {len(layout)}",
                )
            person[point.id - 1] = point.point.x, point.point.y, point.score
        ids.append(detection.id)
        persons.append(person)
        width, height = detection.mask.width or width, detection.mask.height or height
    return People(tuple(ids), _stacked(persons, len(layout)), layout.name, width, height)


def read_hri(message: Any, width: int = 0, height: int = 0) -> People:
    """The one person of a hri_msgs/Skeleton2D; its id is in the topic's name, not in the message.

    Args:
        message: keypoints normalised to 0..1 over the image; an empty list is nobody.
        width, height: of the image [px], which the message does not tell.

    Raises:
        MessageRefused: `no_image_size`; `keypoint_count`, other than 18 keypoints;
            `not_normalised`, coordinates that can only be pixels.
    """
    if not (width > 0 and height > 0):
        raise MessageRefused(
            "no_image_size",
            f"hri_msgs/Skeleton2D is normalised by the image's size, which is not known ({width} x "
            f"{height}): give width and height [px]",
        )
    layout = get_layout("hri_18")
    if not message.skeleton:
        return People((), _stacked([], len(layout)), layout.name, width, height)
    if len(message.skeleton) != len(layout):
        raise MessageRefused(
            "keypoint_count",
            f"a hri_msgs/Skeleton2D has {len(layout)} keypoints, this one {len(message.skeleton)}",
        )
    person = np.array([(point.x, point.y, point.c) for point in message.skeleton], np.float32)
    seen = person[person[:, 2] >= SEEN_CONFIDENCE, :2]
    largest = np.abs(seen[np.isfinite(seen)]).max(initial=0.0)
    if largest > _NORMALISED_LIMIT:
        raise MessageRefused(
            "not_normalised",
            f"a coordinate of {largest:g} in a hri_msgs/Skeleton2D, which holds 0 to 1: the "
            "detector must divide by the image's width and height",
        )
    person[:, 0] *= width
    person[:, 1] *= height
    return People(("",), person[None], layout.name, width, height)


def read_zed(message: Any, width: int = 0, height: int = 0) -> People:
    """The persons of a zed_msgs/ObjectsStamped of body tracking.

    A keypoint counts as seen if it is finite and not negative (the SDK's way to say unseen) and
    not (0, 0), what the wrapper leaves empty. The message has no confidence per keypoint in most
    versions: the body's then stands for all.

    Raises:
        MessageRefused: `unknown_layout`, a skeleton of 70 keypoints or of two kinds at once;
            `no_keypoints`, objects of which none has a skeleton.
    """
    bodies = [body for body in message.objects if body.skeleton_available]
    if message.objects and not bodies:
        raise MessageRefused(
            "no_keypoints",
            f"none of {len(message.objects)} objects has a skeleton: take the topic of body "
            "tracking, not that of object detection",
        )
    formats = {int(body.body_format) for body in bodies}
    if len(formats) > 1 or not formats <= set(_ZED_LAYOUTS):
        raise MessageRefused(
            "unknown_layout",
            f"skeletons of body_format {sorted(formats)}; known: 0 (18 keypoints), 1 (34), 2 (38): "
            "set body_tracking.body_format of the ZED's node",
        )
    layout = get_layout(_ZED_LAYOUTS[formats.pop() if formats else 0])
    persons = [_zed_person(body, len(layout)) for body in bodies]
    # Without tracking every body is -1, or numbered anew in every image.
    ids = tuple(
        str(body.label_id) if body.tracking_available and body.label_id >= 0 else ""
        for body in bodies
    )
    return People(ids, _stacked(persons, len(layout)), layout.name, width, height)


def _zed_person(body: Any, count: int) -> NDArray[np.float32]:
    person = np.zeros((count, 3), dtype=np.float32)
    person[:, :2] = [point.kp for point in body.skeleton_2d.keypoints[:count]]
    points = person[:, :2]
    with np.errstate(invalid="ignore"):
        seen = np.isfinite(points).all(axis=1) & (points >= 0).all(axis=1) & points.any(axis=1)
    confidence = getattr(body, "skeleton_keypoint_confidence", None)  # SDK: 1 to 99
    if confidence is None:
        confidence = np.full(count, max(body.confidence, 100 * SEEN_CONFIDENCE))
    person[:, 2] = np.where(seen, np.asarray(confidence[:count]) / 100, 0.0)
    return person


def _stacked(persons: list[NDArray[np.float32]], count: int) -> NDArray[np.float32]:
    return np.array(persons, dtype=np.float32).reshape(len(persons), count, 3)


READERS: dict[str, Callable[..., People]] = {
    "key2mesh_ros/msg/PersonKeypointsArray": read_person_keypoints,
    "yolo_msgs/msg/DetectionArray": read_yolo,
    "hri_msgs/msg/Skeleton2D": read_hri,
    "zed_msgs/msg/ObjectsStamped": read_zed,
    # Earlier names of the same messages.
    "yolov8_msgs/msg/DetectionArray": read_yolo,
    "zed_interfaces/msg/ObjectsStamped": read_zed,
}
"""The reader of each ROS message type."""
