# SPDX-License-Identifier: Apache-2.0
"""Every problem with the input: its name in the diagnostics, and the advice for it."""

from __future__ import annotations

from typing import NamedTuple

REFUSED = "refused"
"""The whole message was refused and nothing was published for it."""

LEFT_OUT = "left_out"
"""Some people of an otherwise processed message were left out."""

WARNING = "warning"
"""The frame was processed, but the result is doubtful."""


class Cause(NamedTuple):
    """One problem: its kind, and a sentence that says what to do."""

    kind: str
    advice: str


_ADVICE = {
    REFUSED: {
        "malformed": "incomplete messages: build the detector with this version of key2mesh_ros",
        "unknown_layout": "messages name an unknown keypoint layout: correct the detector's "
        "'layout'",
        "unequal_lengths": "x, y and confidence differ in length: fix the detector's messages",
        "keypoint_count": "keypoints do not match the layout in number: name the layout that the "
        "detector uses",
        "no_image_size": "neither image size nor camera is known: fill image_width and "
        "image_height, publish CameraInfo or set camera_fx, camera_cx, camera_cy",
        "not_normalised": "skeletons are in pixels: the detector must divide by the image's size",
        "normalised": "keypoints are normalised to 0..1: the detector must multiply by the image's "
        "size",
        "no_keypoints": "objects have no skeletons: use the topic of body tracking, not of object "
        "detection",
        "late": "frames arrived after newer ones and were dropped: let the detector publish in "
        "order of stamps, from one thread",
        "engine_failed": "the engine failed: see the log; check the model bundle",
        "failed": "an unexpected error: see the log, and please report it",
    },
    LEFT_OUT: {
        "too_few_keypoints": "people with too few usable keypoints were left out (min_keypoints)",
        "all_on_one_spot": "people whose keypoints all lie on one spot were left out: the detector "
        "must give pixels, not 0 to 1",
        "over_max_people": "more people than max_people: the smallest were left out",
        "low_quality": "bodies of too low quality were left out (min_quality)",
    },
    WARNING: {
        "empty_frame_id": "headers name no frame: the detector must copy the image's header",
        "zero_stamp": "headers have no stamp: the detector must copy the image's header",
        "future_stamp": "stamps are in the future: synchronise the clocks, or set use_sim_time",
        "repeated_stamp": "stamps do not advance: the detector must copy the header of each image",
        "clock_jump": "the clock jumped back (a bag that loops?): tracks and filters were reset",
        "repeated_id": "several people share an id in one image and are tracked by pose there; let "
        "the detector's tracker give each person an id, or none",
        "no_camera_info": "no CameraInfo: positions are scale-free; publish it, or set camera_fx "
        "or horizontal_fov_deg",
        "uncalibrated_camera_info": "CameraInfo is from an uncalibrated camera (K is not usable): "
        "calibrate it",
        "camera_info_aspect": "CameraInfo and keypoints differ in the image's aspect ratio: remap "
        "camera_info",
        "camera_info_doubtful": "CameraInfo contradicts itself (the log says how): calibrate "
        "the camera at the size of its images, or set camera_fx, camera_fy, camera_cx, camera_cy",
        "camera_info_frame": "CameraInfo and keypoints name different frames: remap camera_info",
        "unknown_resolution": "the ZED's keypoints may have another resolution than CameraInfo: "
        "set image_width and image_height to what the ZED grabs, or general.pub_resolution: NATIVE "
        "in its wrapper",
        "misfit": "bodies miss their keypoints by a large part of the person's size: check that "
        "'layout' names the detector's order of keypoints, that CameraInfo is the detector's "
        "camera, and that the detector finds people",
        "unanchored": "the scale of some people is a guess: no source measured their size (show "
        "their feet or trunk, check depth, camera_height and body_height)",
        "no_depth": "no depth at the keypoints' stamps: check the topic, the clocks and "
        "depth_max_age",
        "depth_frame": "depth has another frame than the keypoints: use the depth registered to "
        "the image",
        "depth_encoding": "depth has an unknown encoding: 16UC1, 32FC1 and clouds of x, y, z are "
        "read",
        "keypoints_outside_image": "keypoints lie outside the camera's image: remap camera_info to "
        "the detector's image, set image_width and image_height to the size that the detector "
        "sees, or count pixels from the upper left corner",
        "confidence_above_one": "confidences above 1 count as 1: the detector must give x px, y "
        "px and a confidence of 0 to 1, not z, distances or percentages",
        "callback_failed": "a callback failed unexpectedly: see the log, and please report it",
        "lens_misfit": "CameraInfo's lens does not explain most keypoints, which count as unseen: "
        "calibrate the camera, remap camera_info, or set image_rectified",
        "unknown_distortion": "CameraInfo's distortion model is unknown and is not undone: "
        "detect on rectified images and set image_rectified",
    },
}

CAUSES: dict[str, Cause] = {
    name: Cause(kind, advice) for kind, causes in _ADVICE.items() for name, advice in causes.items()
}
"""Every cause, by its name."""
