# SPDX-License-Identifier: Apache-2.0
"""Samples the batch of each step of pre-training: it follows from the step's number and the
seed."""

from __future__ import annotations

import torch

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.pretrain.config import PretrainConfig
from key2mesh_core.learning.runs import seed_of
from key2mesh_core.synthesis.batches import Batch, synthesise
from key2mesh_core.synthesis.motions import MotionBank

#: Number of steps whose samples are made together, because the cost of small operations depends on
#: their number.
BATCHES_AT_ONCE = 4


class Sampler:
    """Samples the batches of one run. All processes that share the run draw the same samples and
    take their part, so that N of them compute what one would."""

    def __init__(
        self, config: PretrainConfig, bank: MotionBank, body: BodyModel, processes: ProcessGroup
    ) -> None:
        self.config, self.bank, self.body, self.processes = config, bank, body, processes
        self.generator = torch.Generator(bank.poses.device)
        self._together = config.batch_size * processes.size
        self._made: tuple[int, Batch] | None = None

    def batch(self, step: int) -> Batch:
        """This process's samples of a step."""
        group, place = divmod(step, BATCHES_AT_ONCE)
        if self._made is None or self._made[0] != group:
            self.generator.manual_seed(seed_of(self.config.seed, group))
            self._made = group, self.make(BATCHES_AT_ONCE * self._together)
        rows = slice(place * self._together, (place + 1) * self._together)
        mine = self.processes.part(self._together)
        return Batch(*(part[rows][mine] for part in self._made[1]))

    def make(self, count: int) -> Batch:
        """The generator's next samples."""
        return synthesise(self.bank, self.body, self.config.synthesis, count, self.generator)
