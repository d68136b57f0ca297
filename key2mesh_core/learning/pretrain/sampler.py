# SPDX-License-Identifier: Apache-2.0
"""Samples the batch of each step of pre-training: it follows from the step's number and the
seed."""

from __future__ import annotations

import math

import torch

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.pretrain.config import PretrainConfig
from key2mesh_core.learning.pretrain.taught import TaughtBank
from key2mesh_core.learning.runs import seed_of
from key2mesh_core.synthesis.batches import Batch, synthesise
from key2mesh_core.synthesis.motions import MotionBank

#: Number of steps whose samples are made together, because the cost of small operations depends on
#: their number.
BATCHES_AT_ONCE = 4
_ORDER = 1


class Sampler:
    """Samples the batches of one run. All processes that share the run draw the same samples and
    take their part, so that N of them compute what one would."""

    def __init__(
        self,
        config: PretrainConfig,
        bank: MotionBank,
        body: BodyModel,
        processes: ProcessGroup,
        taught: TaughtBank | None = None,
    ) -> None:
        self.config, self.bank, self.body, self.processes = config, bank, body, processes
        self.taught = taught
        self.generator = torch.Generator(bank.poses.device)
        self._made: tuple[int, list[Batch]] | None = None
        #: Samples of motion capture in a step of all processes together.
        self._untaught = processes.size * (
            config.batch_size - config.taught_rows(config.batch_size)
        )
        #: Steps of an epoch: as configured, or one pass over all frames.
        self.steps_per_epoch = config.steps_per_epoch or math.ceil(len(bank) / self._untaught)
        self._order: tuple[int, torch.Tensor] | None = None

    def batch(self, step: int) -> Batch:
        """This process's samples of a step."""
        group, place = divmod(step, BATCHES_AT_ONCE)
        if self._made is None or self._made[0] != group:
            self.generator.manual_seed(seed_of(self.config.seed, group))
            frames = None if self.config.steps_per_epoch else self.frames(group)
            self._made = group, self.make(frames)
        mine = self.processes.part(self.config.batch_size * self.processes.size)
        return Batch(*(part[mine] for part in self._made[1][place]))

    def frames(self, group: int) -> torch.Tensor:
        """The frames of a group of steps, in each epoch's own random order; the last step of an
        epoch is filled up with frames from its beginning."""
        count, frames = self._untaught, []
        for step in range(group * BATCHES_AT_ONCE, (group + 1) * BATCHES_AT_ONCE):
            epoch, place = divmod(step, self.steps_per_epoch)
            if self._order is None or self._order[0] != epoch:
                generator = torch.Generator().manual_seed(seed_of(self.config.seed, _ORDER, epoch))
                self._order = epoch, torch.randperm(len(self.bank), generator=generator)
            rows = torch.arange(place * count, (place + 1) * count)
            frames.append(self._order[1][rows % len(self.bank)])
        return torch.cat(frames)

    def make(self, frames: torch.Tensor | None = None) -> list[Batch]:
        """The generator's next batches of all processes together, from `frames` of the motion
        capture or from random ones: of the fitted samples, which come first, and of the others the
        same share is taught."""
        config, size = self.config, self.processes.size
        count, fitted = size * config.batch_size, size * min(config.fitted, config.batch_size)
        taught = size * config.taught_rows(config.batch_size)
        taught_first = size * round(config.taught_rows(fitted) / size)
        made = synthesise(
            self.bank,
            self.body,
            config.synthesis,
            BATCHES_AT_ONCE * (count - taught),
            self.generator,
            frames,
        )
        batches = _split(made, count - taught)
        if self.taught is None:
            return batches
        labelled = self.taught.draw(BATCHES_AT_ONCE * taught, self.body, self.generator)
        untaught_first = fitted - taught_first
        return [
            Batch(
                *(
                    torch.cat(
                        [b[:taught_first], a[:untaught_first], b[taught_first:], a[untaught_first:]]
                    )
                    for a, b in zip(one, other, strict=True)
                )
            )
            for one, other in zip(batches, _split(labelled, taught), strict=True)
        ]


def _split(batch: Batch, count: int) -> list[Batch]:
    """Parts of `count` samples each."""
    return [Batch(*parts) for parts in zip(*(part.split(count) for part in batch), strict=True)]
