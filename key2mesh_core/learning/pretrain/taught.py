# SPDX-License-Identifier: Apache-2.0
"""Detections as samples with labels: the poses that several cameras agree on.

Real detections have errors that no simulation has, and the poses that cameras agree on are closer
to the truth than what single views show.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.placement import place
from key2mesh_core.errors import TrainingError
from key2mesh_core.geometry.rotations import with_turned_root
from key2mesh_core.keypoints.table import MIRROR
from key2mesh_core.learning.detections.multi_view import agreement
from key2mesh_core.learning.detections.predictions import mean_by
from key2mesh_core.learning.detections.target_domain import target_domain
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.pretrain.config import PretrainConfig
from key2mesh_core.learning.runs import digest_of
from key2mesh_core.learning.trained_model import TrainedModel
from key2mesh_core.network.crop import bounding_box
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.recordings.targets import load_targets
from key2mesh_core.synthesis.batches import Batch, seen_by_network
from key2mesh_core.synthesis.config import SynthesisConfig
from key2mesh_core.synthesis.detector import hide
from key2mesh_core.synthesis.poses import mirrored

_MISFIT = 0.07
"""Mean distance [box sizes] of a label's keypoints from the detections beyond which it is left
out."""

_MISFIT_OF_MOMENT = 0.05
"""The same of all views of a moment together. On AIST++ such poses are 16 to 25 mm from the truth,
others 33 to 79 mm, also in the views that they fit."""

_HIDING = SynthesisConfig(drop=0.15, drop_limbs=0.1)
"""How much of the detections is hidden in training: less than in synthesis, because they have gaps
of their own."""

_MIRRORED = 0.5
"""Share of the samples that are mirrored."""


class TaughtBank(nn.Module):
    """Detections and labels to sample from.

    Buffers: `points (F, K, 2)` on the image plane in units of the focal length, `confidence (F,
    K)`, 0 where unseen; `betas (F, 10)`; `rotations (F, 24, 3, 3)` and `translation (F, 3)` [m], in
    the frame of each camera.
    """

    def __init__(
        self,
        points: Tensor,
        confidence: Tensor,
        betas: Tensor,
        rotations: Tensor,
        translation: Tensor,
        centre: bool,
    ) -> None:
        super().__init__()
        self.centre = centre
        for name, values in {
            "points": points,
            "confidence": confidence,
            "betas": betas,
            "rotations": rotations,
            "translation": translation,
        }.items():
            self.register_buffer(name, values, persistent=False)

    def __len__(self) -> int:
        return len(self.points)

    @torch.no_grad()
    def draw(self, count: int, body: BodyModel, generator: torch.Generator) -> Batch:
        """Random samples: half of them mirrored, some keypoints hidden."""
        device = self.points.device
        rows = torch.randint(len(self), (count,), generator=generator, device=device)
        points, confidence = self.points[rows], self.confidence[rows]
        rotations, translation = self.rotations[rows], self.translation[rows]
        flip = torch.rand(count, generator=generator, device=device) < _MIRRORED
        # The plane x = 0 of the camera: left and right of the image change places, too.
        order = list(MIRROR[: points.shape[1]])
        across = torch.tensor([-1.0, 1.0, 1.0], device=device)
        points = torch.where(flip[:, None, None], points[:, order] * across[:2], points)
        confidence = torch.where(flip[:, None], confidence[:, order], confidence)
        rotations = torch.where(flip[:, None, None, None], mirrored(rotations), rotations)
        translation = torch.where(flip[:, None], translation * across, translation)
        confidence = confidence * hide(confidence > 0, _HIDING, generator)
        return seen_by_network(
            points, confidence, self.betas[rows], rotations, translation, body, self.centre
        )


def load_taught(
    config: PretrainConfig, source: TrainedModel, body: BodyModel, processes: ProcessGroup
) -> tuple[TaughtBank, str]:
    """The detections of `config.taught` whose pose several cameras agree on, starting from the
    guesses of `source`, and a digest of what they follow from.

    Raises:
        TrainingError: no cameras agree on anything.
        TargetError, BagError: from the readers of the recordings.
    """
    device = body.part_sum.device
    targets = load_targets(config.taught)
    domain = target_domain(targets, source.centre_view, device, len(body.part_sum))
    network = FittedNetwork(source.network.eval().to(device), body)
    agreed = agreement(network, domain, body, quiet=not processes.first)
    if agreed is None:
        raise TrainingError(
            f"{targets.source}: no cameras agree on the pose of anybody; --taught needs recordings "
            "in which several cameras saw a person at once (`key2mesh targets` says who they saw)"
        )
    with torch.no_grad():
        rows = torch.nonzero(agreed.known)[:, 0]
        points, confidence = domain.rays[rows], domain.batch.confidence[rows]
        betas, rotations = (part[rows] for part in agreed.poses)
        rotations = with_turned_root(domain.turn[rows], rotations)
        _, keypoints = body.keypoints(betas, rotations)
        translation = place(keypoints, points, confidence)
        placed = keypoints + translation[:, None]
        missed = (placed[..., :2] / placed[..., 2:].clamp(min=0.1) - points).norm(dim=2)
        seen = confidence > 0
        missed = (missed * seen).sum(1) / seen.sum(1) / bounding_box(points, seen)[1][:, 0]
        moments = torch.stack([domain.person, domain.frame])[:, rows.cpu()]
        _, moment = moments.unique(dim=1, return_inverse=True)
        together = mean_by(missed[:, None], moment)[:, 0]
        fits = (missed < _MISFIT) & (together < _MISFIT_OF_MOMENT)
    processes.say(
        f"{len(domain)} detections; several cameras agree on the pose of {len(rows)} of them, of "
        f"which {int(fits.sum())} teach; {len(rows) - int(fits.sum())} are left out, because the "
        f"pose misses the keypoints by more than {_MISFIT:.0%} of the person's size, or by more "
        f"than {_MISFIT_OF_MOMENT:.0%} in all views of the moment"
    )
    if not fits.any():
        raise TrainingError(f"{targets.source}: no pose is near its keypoints; nothing to learn")
    arrays = (part[fits] for part in (points, confidence, betas, rotations, translation))
    learned_from = [targets.keypoints, targets.intrinsics, targets.frame, targets.sequence]
    learned_from += [
        targets.camera,
        targets.person,
        np.frombuffer(source.origin.encode(), np.uint8),
    ]
    return TaughtBank(*arrays, source.centre_view), digest_of(*learned_from)
