# SPDX-License-Identifier: Apache-2.0
"""Detections to adapt to, as the network's input, on the training device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.network.crop import network_view
from key2mesh_core.recordings.targets import TargetKeypoints


class TargetBatch(NamedTuple):
    """N persons: `inputs (N, K, 5)` of `network_inputs`; `seen (N, K)`; `confidence (N, K)`;
    `centre (N, 2)` and `side (N, 1)` of the input's box in units of the focal length."""

    inputs: Tensor
    seen: Tensor
    confidence: Tensor
    centre: Tensor
    side: Tensor

    def rows(self, rows: Tensor | slice) -> TargetBatch:
        """Some of the people."""
        return TargetBatch(*(part[rows] for part in self))


@dataclass(frozen=True, eq=False)
class TargetDomain:
    """People in the order of `TargetKeypoints`: by sequence, and by time within each.

    Attributes:
        batch: all people.
        rays: (N, K, 2) keypoints on the image plane of the real camera in units of its focal
            length, while `batch` holds those of the network's view.
        turn: (N, 3, 3) rotation from that view to the real camera.
        sequence, frame, camera, person: (N,) int64, on the CPU, as in `TargetKeypoints`.
    """

    batch: TargetBatch
    rays: Tensor
    turn: Tensor
    sequence: Tensor
    frame: Tensor
    camera: Tensor
    person: Tensor

    def __len__(self) -> int:
        return len(self.sequence)

    def rows(self, rows: Tensor) -> TargetDomain:
        """Some of the people, in the same order if `rows` ascends."""
        there = rows.to(self.batch.side.device)
        return TargetDomain(
            self.batch.rows(there),
            self.rays[there],
            self.turn[there],
            *(part[rows] for part in (self.sequence, self.frame, self.camera, self.person)),
        )


def target_domain(
    targets: TargetKeypoints,
    centre: bool,
    device: torch.device,
    count: int = len(KEYPOINTS),
) -> TargetDomain:
    """Normalises detections like the pose graph.

    Args:
        centre: first turn each view to the person.
        count: number of keypoints that the network takes, the first rows of the table of keypoints.
    """
    keypoints = torch.from_numpy(np.ascontiguousarray(targets.keypoints[:, :count])).to(device)
    intrinsics = torch.from_numpy(targets.intrinsics).to(device)
    seen = keypoints[..., 2] >= SEEN_CONFIDENCE
    points = (keypoints[..., :2] - intrinsics[:, None, 2:]) / intrinsics[:, None, :2]
    rays = torch.where(seen[..., None], points, torch.zeros_like(points))
    confidence = torch.where(seen, keypoints[..., 2], torch.zeros_like(keypoints[..., 2]))
    view = network_view(rays, confidence, centre)
    turn = view.turn
    if turn is None:
        turn = torch.eye(3, device=device).expand(len(rays), 3, 3)
    return TargetDomain(
        TargetBatch(view.inputs, seen, confidence.clamp(max=1), view.centre, view.side),
        rays,
        turn,
        *(
            torch.from_numpy(each.astype(np.int64))
            for each in (targets.sequence, targets.frame, targets.camera, targets.person)
        ),
    )


def split_in_time(domain: TargetDomain, share: float) -> tuple[TargetDomain, TargetDomain]:
    """Splits into (to adapt to, held out): the last `share` of every sequence is held out.

    Neighbouring frames are nearly equal, so whole stretches are held out, not random frames.
    """
    _, sequence, counts = torch.unique_consecutive(
        domain.sequence, return_inverse=True, return_counts=True
    )
    first = torch.cumsum(counts, 0) - counts
    place = torch.arange(len(domain)) - first[sequence]
    held_out = place >= counts[sequence] - torch.floor(share * counts[sequence])
    return (
        domain.rows(torch.nonzero(~held_out)[:, 0]),
        domain.rows(torch.nonzero(held_out)[:, 0]),
    )
