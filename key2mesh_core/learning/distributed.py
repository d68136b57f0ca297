# SPDX-License-Identifier: Apache-2.0
"""Distributed training: each process takes its part of every batch, and gradients are averaged.

`torchrun --nproc-per-node N -m key2mesh_core adapt ...` starts them. Every process draws the random
numbers of the whole batch and takes its part, so N processes compute what one would with an N-fold
batch, up to rounding. The only exception is dropout: the critic's (`critic_dropout`, recipe
"paper") is drawn by each process on its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from key2mesh_core.errors import TrainingError


@dataclass(frozen=True)
class ProcessGroup:
    """This process among `size`, the `rank`-th; the first one writes files."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's equal share of `count` rows."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces every gradient with its mean over the processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def average(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every term's mean over the processes."""
        if self.size == 1 or not terms:
            return terms
        values = torch.stack([term.float() for term in terms.values()])
        dist.all_reduce(values)
        return dict(zip(terms, values / self.size, strict=True))


@contextmanager
def process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """The processes that torchrun started, or this one alone."""
    size = world_size()
    if size == 1:
        yield ProcessGroup()
        return
    if device.type == "cuda":
        # Otherwise NCCL, and every tensor without an explicit GPU, would use the first one.
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(dist.get_rank(), size)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_device(device: torch.device) -> torch.device:
    """A separate GPU for every process of a machine; raises TrainingError if there are too few."""
    if device.type != "cuda" or (device.index is not None and world_size() == 1):
        return device
    if device.index is not None:
        raise TrainingError(
            f"--device {device} is one GPU for {world_size()} processes; give --device cuda: each "
            "process then takes its own GPU"
        )
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank >= torch.cuda.device_count():
        raise TrainingError(
            f"process {rank} of this machine has no GPU, as there are {torch.cuda.device_count()}; "
            "start as many processes as there are GPUs (torchrun --nproc-per-node)"
        )
    return torch.device("cuda", rank)
