# SPDX-License-Identifier: Apache-2.0
"""Samples the data of each update of an adaptation: rows of the target and source samples.

Everything follows from the step's number, the seed and the initial model.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.keypoints.arrays import MINIMUM_KEYPOINTS
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.learning.adapt.losses import reprojected
from key2mesh_core.learning.adapt.pseudo_labels import PseudoLabelBank, pseudo_labels
from key2mesh_core.learning.detections.multi_view import Agreement, agreement
from key2mesh_core.learning.detections.target_domain import TargetBatch, TargetDomain
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.runs import seed_of
from key2mesh_core.network.crop import from_box, network_view
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.synthesis.batches import Batch, synthesise
from key2mesh_core.synthesis.config import SynthesisConfig
from key2mesh_core.synthesis.motions import MotionBank

#: Purposes of random numbers.
_STEP, _DROPOUT, _ORDER = range(3)


class StepBatch(NamedTuple):
    """One update's target rows and source samples; `mix (N, 1)`, the position between both at which
    the critic's gradient is penalised; and the poses that several cameras agree on, if any."""

    target: TargetBatch
    source: Batch
    mix: Tensor
    agreed: Agreement | None


class Sampler:
    """Samples the batches of one run: from `domain`, and from `bank` or else the pseudo-labels of
    `network`, the initial model. All processes that share the run draw the same samples and take
    their part, so that N of them compute what one would."""

    def __init__(
        self,
        config: AdaptConfig,
        synthesis: SynthesisConfig,
        network: FittedNetwork,
        domain: TargetDomain,
        body: BodyModel,
        bank: MotionBank | None,
        processes: ProcessGroup,
    ) -> None:
        self.config, self.synthesis, self.domain = config, synthesis, domain
        self.body, self.processes = body, processes
        self.device = domain.batch.inputs.device
        labels = pseudo_labels(network, domain, config.smoothing)
        self.noise = target_noise(labels, domain.batch, body)
        self.agreed = None
        if config.weights.agreement:
            self.agreed = agreement(network, domain, body, quiet=not processes.first)
        self.bank = (bank or PseudoLabelBank(labels.rotations, labels.betas)).to(self.device)
        self.generator = torch.Generator(self.device)
        self._together = config.batch_size * processes.size
        least = math.ceil(config.least_steps / config.epochs)
        self.steps_per_epoch = max(least, len(domain) // self._together)
        self._order: tuple[int, Tensor] | None = None

    def begin(self, step: int) -> None:
        """Seeds a step: its samples, and dropout, which each process draws on its own."""
        self.generator.manual_seed(seed_of(self.config.seed, _STEP, step))
        torch.manual_seed(seed_of(self.config.seed, _DROPOUT, step, self.processes.rank))

    def in_order(self, step: int) -> StepBatch:
        """The step's rows of the epoch's random order, which follows from the epoch's number."""
        return self._batch(self.rows(step))

    def at_random(self) -> StepBatch:
        """Random rows."""
        size = (self._together,)
        return self._batch(
            torch.randint(len(self.domain), size, generator=self.generator, device=self.device)
        )

    def rows(self, step: int) -> Tensor:
        """(N,) rows of the target, for all processes together."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(seed_of(self.config.seed, _ORDER, epoch))
            passes = math.ceil(self.steps_per_epoch * self._together / len(self.domain))
            orders = [torch.randperm(len(self.domain), generator=generator) for _ in range(passes)]
            self._order = epoch, torch.cat(orders).to(self.device)
        return self._order[1][place * self._together : (place + 1) * self._together]

    def samples(self, count: int, seed: int) -> Batch:
        """Samples of the source domain that follow from a seed alone."""
        self.generator.manual_seed(seed)
        return self._synthesise(count)

    def _batch(self, rows: Tensor) -> StepBatch:
        source = self._synthesise(len(rows))
        mix = torch.rand(len(rows), 1, generator=self.generator, device=self.device)
        mine = self.processes.part(len(rows))
        return StepBatch(
            self.domain.batch.rows(rows[mine]),
            Batch(*(part[mine] for part in source)),
            mix[mine],
            None if self.agreed is None else self.agreed.rows(rows[mine]),
        )

    def _synthesise(self, count: int) -> Batch:
        batch = synthesise(self.bank, self.body, self.synthesis, count, self.generator)
        share, scale = self.config.detector_noise, self.config.detector_noise_scale
        return with_noise(batch, self.noise, share, scale, self.generator) if share else batch


class TargetNoise(NamedTuple):
    """The detector's own errors: `offsets (N, K, 2)` in box sizes, zero where unseen, and
    `seen (N, K)`.

    The residual between a detection and its pseudo-label is mostly this detector's noise, for all
    keypoints jointly and including missing ones.
    """

    offsets: Tensor
    seen: Tensor


@torch.no_grad()
def target_noise(labels: Prediction, batch: TargetBatch, body: BodyModel) -> TargetNoise:
    """Offsets of detections from the projections of their pseudo-labels."""
    offsets = batch.inputs[..., :2] - reprojected(labels, batch, body)
    return TargetNoise(
        torch.where(batch.seen[..., None], offsets, torch.zeros_like(offsets)), batch.seen
    )


def with_noise(
    batch: Batch, noise: TargetNoise, share: float, scale: float, generator: torch.Generator
) -> Batch:
    """Source samples, a share of them with the errors of a random person times `scale`.

    A keypoint that either lacks is unseen, unless fewer than 6 keypoints would remain.
    """
    device, count = batch.seen.device, len(batch.seen)
    rows = torch.randint(len(noise.seen), (count,), generator=generator, device=device)
    taken = torch.rand(count, 1, generator=generator, device=device) < share
    points = from_box(batch.inputs, batch.centre, batch.side)
    moved = points + scale * noise.offsets[rows] * batch.side[:, None]
    points = torch.where(taken[..., None], moved, points)
    seen = batch.seen & (noise.seen[rows] | ~taken)
    seen = torch.where(seen.sum(1, keepdim=True) < MINIMUM_KEYPOINTS, batch.seen, seen)
    view = network_view(points, batch.inputs[..., 3] * seen, turned=False)
    return batch._replace(inputs=view.inputs, seen=seen, centre=view.centre, side=view.side)
