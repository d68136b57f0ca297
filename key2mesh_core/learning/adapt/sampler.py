# SPDX-License-Identifier: Apache-2.0
"""What each update of an adaptation looks at: rows of the target, samples of the source domain.

All of it follows from the step's number, the seed, and the model before adaptation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.learning.adapt.multi_view import Agreement, agreement
from key2mesh_core.learning.adapt.own_poses import OwnPoses, smooth_answers, trusted
from key2mesh_core.learning.adapt.target_domain import TargetBatch, TargetDomain
from key2mesh_core.learning.adapt.target_noise import target_noise, with_noise
from key2mesh_core.learning.distributed import Crew
from key2mesh_core.learning.runs import seed_of
from key2mesh_core.network.key2mesh import Key2Mesh, Prediction
from key2mesh_core.synthesis.batches import Batch, synthesise
from key2mesh_core.synthesis.config import SynthesisConfig
from key2mesh_core.synthesis.motions import MotionBank

#: What random numbers are for.
_STEP, _DROPOUT, _ORDER = range(3)


class Draw(NamedTuple):
    """One update's target rows, source samples, where between both (N, 1), and what several
    cameras agree on of the target rows, if they do."""

    target: TargetBatch
    source: Batch
    mix: Tensor
    agreed: Agreement | None


class Draws:
    """Where the updates of one run draw from.

    Args:
        network: the model before adaptation, whose answers are the source domain without a bank.
        domain: detections to learn from.
        bank: motion capture for the source domain, or None.
        workers: the processes that share the run. All draw alike and take their part, so that N
            of them compute what one would.
    """

    def __init__(
        self,
        config: AdaptConfig,
        synthesis: SynthesisConfig,
        network: Key2Mesh,
        domain: TargetDomain,
        body: BodyModel,
        bank: MotionBank | None,
        workers: Crew,
    ) -> None:
        self.config, self.synthesis, self.domain = config, synthesis, domain
        self.body, self.workers = body, workers
        self.device = domain.batch.inputs.device
        found = smooth_answers(network, domain, config.smoothing)
        rows = trusted(found, domain.batch, body, config.keep)
        found = Prediction(found.betas[rows], found.rotations[rows])
        self.noise = target_noise(found, domain.batch.rows(rows), body)
        self.agreed = None
        if config.weights.agreement:
            self.agreed = agreement(network, domain, body, quiet=not workers.first)
        self.bank = (bank or OwnPoses(found.rotations, found.betas)).to(self.device)
        self.generator = torch.Generator(self.device)
        self._together = config.batch_size * workers.size
        least = math.ceil(config.least_steps / config.epochs)
        self.steps_per_epoch = max(least, len(domain) // self._together)
        self._order: tuple[int, Tensor] | None = None

    def begin(self, step: int) -> None:
        """All that is random from now on is this step's, dropout in each process included."""
        self.generator.manual_seed(seed_of(self.config.seed, _STEP, step))
        torch.manual_seed(seed_of(self.config.seed, _DROPOUT, step, self.workers.rank))

    def in_turn(self, step: int) -> Draw:
        """The step's rows of the epoch's random order, which follows from the epoch's number."""
        return self._draw(self.rows(step))

    def at_random(self) -> Draw:
        """Random rows."""
        rows = torch.randint(
            len(self.domain), (self._together,), generator=self.generator, device=self.device
        )
        return self._draw(rows)

    def rows(self, step: int) -> Tensor:
        """(N,) of the target, for all processes together."""
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

    def _draw(self, rows: Tensor) -> Draw:
        source = self._synthesise(len(rows))
        mix = torch.rand(len(rows), 1, generator=self.generator, device=self.device)
        mine = self.workers.part(len(rows))
        return Draw(
            self.domain.batch.rows(rows[mine]),
            Batch(*(part[mine] for part in source)),
            mix[mine],
            None if self.agreed is None else self.agreed.rows(rows[mine]),
        )

    def _synthesise(self, count: int) -> Batch:
        config = self.config
        batch = synthesise(self.bank, self.body, self.synthesis, count, self.generator)
        if not config.detector_noise:
            return batch
        scale = config.detector_noise_scale
        return with_noise(batch, self.noise, config.detector_noise, scale, self.generator)
