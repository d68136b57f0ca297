# SPDX-License-Identifier: Apache-2.0
"""yolo_msgs/DetectionArray of yolo_ros (https://github.com/mgonzs13/yolo_ros), with a pose model.

Frame: the header's, which yolo_ros copies from the input image.
Resolution: pixels of that image (Ultralytics scales back what it resizes). The only size in the
message is that of a segmentation mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.keypoints.layouts import get_layout
from key2mesh_core.people.messages.reading import MessageRefused, person_frame, refuse_normalised
from key2mesh_core.people.person_frame import PersonFrame


def read_yolo(message: Any, info: Any | None, options: CameraOptions) -> PersonFrame:
    """The people in a yolo_msgs/DetectionArray: the detections with keypoints.

    A detection of the class "person" without keypoints counts as a person without keypoints, so
    that the counts reveal a model that finds only boxes. Ids come from yolo_ros' tracker and are
    empty without it. Arguments are those of `messages.Reader`.

    Raises:
        MessageRefused: `keypoint_count`, a keypoint id that COCO-17 does not have (1 to 17);
            `normalised`, coordinates that are not pixels.
    """
    layout = get_layout("coco_17")
    ids, persons, size = [], [], (0, 0)
    for index, detection in enumerate(message.detections):
        points = detection.keypoints.data
        if not points and detection.class_name != "person":
            continue
        person = np.zeros((len(layout), 3), dtype=np.float32)
        for point in points:
            # yolo_ros counts from 1 and leaves out keypoints below its threshold.
            if not 1 <= point.id <= len(layout):
                raise MessageRefused(
                    "keypoint_count",
                    f"detection {index} has a keypoint of id {point.id}; a pose model for COCO's "
                    f"{len(layout)} keypoints gives 1 to {len(layout)}",
                )
            person[point.id - 1] = point.point.x, point.point.y, point.score
        ids.append(detection.id)
        persons.append(person)
        if detection.mask.width and detection.mask.height:
            size = detection.mask.width, detection.mask.height
    return refuse_normalised(person_frame(message.header, ids, persons, layout, size))
