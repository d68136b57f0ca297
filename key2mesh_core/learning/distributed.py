# SPDX-License-Identifier: Apache-2.0
"""Distributed training: each process takes its part of every batch, and gradients are averaged.

`torchrun --nproc-per-node N -m key2mesh_core adapt ...` (or `pretrain`) starts them. Every process
draws the random numbers of the whole batch and takes its part, and BatchNorm normalises over the
whole batch, so N processes compute what one would with an N-fold batch, up to rounding. The only
exception is dropout (recipe "paper"), which each process draws on its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

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

    def say(self, text: str) -> None:
        """Prints in the first process only."""
        if self.first:
            print(text, flush=True)

    def part(self, count: int) -> slice:
        """This process's share of `count` rows: every `size`-th, so each process has its share of
        the first ones."""
        return slice(self.rank, count, self.size)

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

    def refuse_other_steps(self, step: int, folder: Path, device: torch.device) -> None:
        """Raises TrainingError if the processes resume a run at different steps."""
        if self.size == 1:
            return
        steps = torch.zeros(self.size, device=device)
        steps[self.rank] = step
        dist.all_reduce(steps)
        if (steps != step).any():
            numbers = ", ".join(str(int(each)) for each in steps)
            raise TrainingError(
                f"the processes found different checkpoints in {folder} (after steps {numbers}): "
                "give an --output that all of them share"
            )

    def average(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every term's mean over the processes."""
        if self.size == 1 or not terms:
            return terms
        values = torch.stack([term.float() for term in terms.values()])
        dist.all_reduce(values)
        return dict(zip(terms, values / self.size, strict=True))


class _Sum(torch.autograd.Function):
    """The sum over the processes: of values forward, of gradients backward."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm with the statistics of all processes' rows (N, D); every process has as many.
    `torch.nn.SyncBatchNorm` does the same, but on GPUs only."""

    processes = ProcessGroup()

    def forward(self, rows: Tensor) -> Tensor:
        if not self.training:
            return super().forward(rows)
        size = self.processes.size
        # Relative to the running mean, because the difference of two large squares is imprecise.
        centred = rows.float() - self.running_mean
        sums = _Sum.apply(torch.stack([centred.mean(0), centred.square().mean(0)]))
        mean, square = sums / size
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            count = size * len(rows)
            self.running_mean.add_(self.momentum * mean)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return ((centred - mean) * scale + self.bias).to(rows.dtype)


def share_batch_norms(network: nn.Module, processes: ProcessGroup) -> None:
    """Makes every BatchNorm1d of a network, in place, normalise over all processes' rows."""
    if processes.size == 1:
        return
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.BatchNorm1d):
                shared = _SharedBatchNorm(module.num_features).to(module.weight.device)
                shared.load_state_dict(module.state_dict())
                shared.eps, shared.momentum = module.eps, module.momentum
                shared.processes = processes
                setattr(parent, name, shared)


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
