# SPDX-License-Identifier: Apache-2.0
"""Errors by what is seen of a person: behind a desk, in a door frame, cut by the image's edge.

The same samples are measured with all keypoints and with some hidden, so that every error has its
own full view to be compared with: joints that stay visible should not get worse because others
are hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.evaluation.metrics import mean_of_measured, pa_mpjpe
from key2mesh_core.evaluation.samples import Predict, Samples
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE, bounding_boxes, usable_sanitised
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS

FULL_VIEW = "everything seen"

EDGE_CUT = 1 / 3
"""Share of the person's box that an edge of the image cuts off."""


@dataclass(frozen=True)
class View:
    """The part of a person that is hidden.

    Attributes:
        name: as reports call it.
        hidden: numbers of the network's keypoints that are not seen.
        edge: "left", "right", "top" or "bottom": the side of the box whose outer third is
            outside the image; "" for none.
    """

    name: str
    hidden: tuple[int, ...] = ()
    edge: str = ""


def _view(name: str, *keypoints: str) -> View:
    """A view that hides the keypoints of these names; "arm" and the like mean a limb's end."""
    limbs = {"arm": ("elbow", "wrist"), "leg": ("knee", "ankle")}
    names = []
    for keypoint in keypoints:
        side, _, part = keypoint.rpartition("_")
        names += [f"{side}_{each}" if side else each for each in limbs.get(part, (part,))]
    return View(name, tuple(NETWORK_KEYPOINTS.index(each) for each in names))


_FACE = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
_LEGS = ("right_leg", "left_leg")
_HIPS = ("right_hip", "left_hip")
_ARMS = ("right_arm", "left_arm")
_SHOULDERS = ("neck", "right_shoulder", "left_shoulder")

VIEWS: tuple[View, ...] = (
    View(FULL_VIEW),
    _view("head unseen", *_FACE),
    _view("right arm unseen", "right_arm"),
    _view("left arm unseen", "left_arm"),
    _view("right leg unseen", "right_leg"),
    _view("left leg unseen", "left_leg"),
    _view("legs unseen", *_LEGS),
    _view("at a desk: hips and legs unseen", *_HIPS, *_LEGS),
    _view("close-up: head and shoulders seen", *_ARMS, *_HIPS, *_LEGS),
    _view("legs seen: upper body unseen", *_FACE, *_SHOULDERS, *_ARMS),
    _view(
        "right half unseen",
        *("right_shoulder", "right_arm", "right_hip", "right_leg", "right_eye", "right_ear"),
    ),
    _view(
        "left half unseen",
        *("left_shoulder", "left_arm", "left_hip", "left_leg", "left_eye", "left_ear"),
    ),
    View("cut by the bottom edge", edge="bottom"),
    View("cut by the top edge", edge="top"),
    View("cut by a side edge", edge="left"),
)
"""What robots meet: furniture, door frames, persons too near, the edge of the image."""


@dataclass(frozen=True)
class VisibilityErrors:
    """Errors [mm] of one view, means over the samples that can be measured.

    Attributes:
        name: what was measured.
        view: the view's name.
        samples: persons of whom at least 6 keypoints are seen.
        all_joints_mm: PA-MPJPE over all scored joints, hidden ones included.
        all_joints_full_mm: the same of the same samples with everything seen.
        visible_joints_mm: PA-MPJPE over the joints whose keypoints are seen, aligned by them.
        visible_joints_full_mm: the same joints of the same samples with everything seen.
    """

    name: str
    view: str
    samples: int
    all_joints_mm: float
    all_joints_full_mm: float
    visible_joints_mm: float
    visible_joints_full_mm: float

    @property
    def ratio(self) -> float:
        """How many times as large the visible joints' error is as with everything seen."""
        return self.visible_joints_mm / self.visible_joints_full_mm


def hide(keypoints: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """(N, K, 3) sanitised keypoints as they are in `view`: hidden ones are zero."""
    hidden = np.zeros(keypoints.shape[:2], dtype=bool)
    hidden[:, list(view.hidden)] = True
    if view.edge:
        axis = 0 if view.edge in ("left", "right") else 1
        boxes = bounding_boxes(keypoints)
        low, high = boxes[:, axis, None], boxes[:, 2 + axis, None]
        cut = EDGE_CUT * (high - low)
        places = keypoints[..., axis]
        beyond = places < low + cut if view.edge in ("left", "top") else places > high - cut
        hidden |= beyond
    return np.where(hidden[..., None], np.float32(0.0), keypoints)


def visibility_errors(
    predict: Predict, samples: Samples, views: tuple[View, ...] = VIEWS
) -> list[NDArray[np.float64]]:
    """For every view (4, N) mm of each sample: all joints, the same in the full view, the visible
    joints, the same in the full view; NaN where a sample cannot be measured."""
    chosen = list(samples.joint_numbers)
    full = np.asarray(predict(samples.keypoints, samples.camera))[:, chosen]
    results = []
    for view in views:
        shown = hide(samples.keypoints, view)
        good = usable_sanitised(shown)
        errors = np.full((4, len(shown)), np.nan)
        if good.any():
            found = np.asarray(predict(shown[good], samples.camera))[:, chosen]
            seen = shown[:, samples.keypoint_numbers, 2] >= SEEN_CONFIDENCE
            for row, counted in ((0, samples.valid[good]), (2, (samples.valid & seen)[good])):
                errors[row, good] = pa_mpjpe(found, samples.joints[good], counted)
                errors[row + 1, good] = pa_mpjpe(full[good], samples.joints[good], counted)
        results.append(errors)
    return results


def evaluate_views(
    name: str, predict: Predict, samples: Iterable[Samples], views: tuple[View, ...] = VIEWS
) -> tuple[VisibilityErrors, ...]:
    """The means over all samples, one row a view; no rows without a sample."""
    parts = [visibility_errors(predict, each, views) for each in samples]
    if not parts:
        return ()
    rows = []
    for view, same_view in zip(views, zip(*parts, strict=True), strict=True):
        errors = np.concatenate(same_view, axis=1)
        measured = int(np.isfinite(errors[0]).sum())
        rows.append(VisibilityErrors(name, view.name, measured, *map(mean_of_measured, errors)))
    return tuple(rows)
