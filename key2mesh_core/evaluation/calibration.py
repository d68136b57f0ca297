# SPDX-License-Identifier: Apache-2.0
"""What quality is worth: measured errors for each range of it, and the fit of its constants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from key2mesh_core.evaluation.samples import Samples
from key2mesh_core.evaluation.tables import markdown_table
from key2mesh_core.keypoints.table import KEYPOINTS, REQUIRED
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.quality import UNSEEN, evidence
from key2mesh_core.synthesis.config import SynthesisConfig, as_recorded

BINS = 10


@dataclass(frozen=True, eq=False)
class Judged:
    """N bodies with what was known of them and how wrong they were.

    Attributes:
        quality: (N,).
        miss, doubt: (N,) and unseen (N, K), as `key2mesh_core.people.quality.evidence` gives them.
        pa_mpjpe_mm, mpjpe_mm: (N,) errors; the second, pelvis-centred, is NaN where the truth has
            another scale or frame.
    """

    quality: NDArray[np.float32]
    miss: NDArray[np.float32]
    doubt: NDArray[np.float32]
    unseen: NDArray[np.bool_]
    pa_mpjpe_mm: NDArray[np.float64]
    mpjpe_mm: NDArray[np.float64]


def hard_to_see(detector_keypoints: bool = True) -> SynthesisConfig:
    """Poses as recorded, seen by a detector that errs, exchanges limbs and sees halves."""
    detector = replace(SynthesisConfig(), detector_keypoints=detector_keypoints)
    return replace(
        as_recorded(detector),
        jitter=(0.003, 0.04),
        outliers=0.02,
        swaps=0.1,
        drop_limbs=0.3,
        drop_halves=0.3,
    )


def judge(estimator: Estimator, samples: Iterable[Samples], in_metres: bool = True) -> Judged:
    """Estimates all samples.

    Args:
        in_metres: whether their truth is of the camera's frame and of true size.
    """
    parts: list[tuple[NDArray, ...]] = []
    for each in samples:
        bodies = estimator.estimate_poses(each.keypoints, each.camera)
        found = bodies.joints[:, list(each.joint_numbers)]
        centred = np.full(len(found), np.nan)
        if in_metres:
            centred = mpjpe(found - bodies.joints[:, :1], each.joints, each.valid)
        parts.append(
            (
                bodies.quality,
                *evidence(each.keypoints, bodies.reprojection_error),
                pa_mpjpe(found, each.joints, each.valid),
                centred,
            )
        )
    return Judged(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def error_by_quality(
    quality: NDArray[np.floating], error_mm: NDArray[np.floating], bins: int = BINS
) -> list[tuple[float, float, int, float]]:
    """Lowest and highest quality, number of bodies and their mean error [mm], of equally many
    bodies a row, the best first."""
    measured = np.isfinite(error_mm)
    quality, error_mm = quality[measured], error_mm[measured]
    order = np.argsort(-quality, kind="stable")
    return [
        (float(quality[part].min()), float(quality[part].max()), len(part), error_mm[part].mean())
        for part in np.array_split(order, bins)
        if len(part)
    ]


def quality_table(
    columns: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]], bins: int = BINS
) -> str:
    """Markdown of (quality, errors) by name: a row for each tenth of the bodies."""
    rows = {name: error_by_quality(*each, bins) for name, each in columns.items()}
    header = ["bodies, best first"]
    for name in rows:
        header += ["quality", name]
    cells = []
    for number in range(bins):
        cells.append([f"{100 * number // bins} to {100 * (number + 1) // bins} %"])
        for row in rows.values():
            low, high, _, error = row[number]
            cells[-1] += [f"{low:.2f} to {high:.2f}", f"{error:.1f}"]
    return markdown_table(header, cells)


def fit(judged: Judged) -> dict[str, float | dict[str, float]]:
    """The constants of `key2mesh_core.people.quality`: least squares of the error's logarithm, no
    constant below zero, left and right alike."""
    from scipy.optimize import lsq_linear

    kinds = list(UNSEEN)
    kind_of = [kinds.index(keypoint.kind) for keypoint in KEYPOINTS[:REQUIRED]]
    unseen = judged.unseen.astype(np.float64) @ np.eye(len(kinds))[kind_of]
    ones = np.ones((len(unseen), 1))
    columns = np.concatenate([ones, judged.miss[:, None], judged.doubt[:, None], unseen], axis=1)
    least = np.array([-np.inf, *np.zeros(columns.shape[1] - 1)])
    found = lsq_linear(columns, np.log(judged.mpjpe_mm), (least, np.inf)).x
    values = [round(float(x), 3) for x in found]
    return {
        "OFFSET": values[0],
        "MISS": values[1],
        "DOUBT": values[2],
        "UNSEEN": dict(zip(kinds, values[3:], strict=True)),
    }
