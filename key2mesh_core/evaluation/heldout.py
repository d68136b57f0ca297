# SPDX-License-Identifier: Apache-2.0
"""Errors on held-out motion capture, seen through synthetic cameras."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.synthesis.batches import Batch, synthesise
from key2mesh_core.synthesis.config import SynthesisConfig
from key2mesh_core.synthesis.motions import MotionBank

#: The fourteen joints that pose benchmarks score: ankles, knees, hips, wrists, elbows, shoulders,
#: neck and head, as SMPL's own joints.
SCORED_JOINTS = (7, 8, 4, 5, 1, 2, 20, 21, 18, 19, 16, 17, 12, 15)
_BATCH = 512


@torch.no_grad()
def held_out_errors(
    network: nn.Module,
    body: BodyModel,
    bank: MotionBank,
    synthesis: SynthesisConfig,
    frames: int,
    seed: int = 20240,
) -> dict[str, float]:
    """Mean errors [mm] over `frames` samples, which are equal for equal seeds.

    Returns pa_mpjpe_mm and mpjpe_mm over 14 joints (pelvis-centred), and the same over all
    24. The network is evaluated in eval mode and left in the mode it was in.
    """
    fitted, was_training = FittedNetwork(network, body), network.training
    network.eval()
    try:
        means = mean_errors(
            lambda batch: _errors(fitted, body, batch), bank, body, synthesis, frames, seed, _BATCH
        )
    finally:
        network.train(was_training)
    return {name: float(mean) for name, mean in means.items()}


def mean_errors(
    measure: Callable[[Batch], dict[str, np.ndarray]],
    bank: MotionBank,
    body: BodyModel,
    synthesis: SynthesisConfig,
    frames: int,
    seed: int,
    size: int,
) -> dict[str, np.ndarray]:
    """The mean of each error over `frames` samples, measured `size` at a time."""
    generator = torch.Generator(bank.poses.device).manual_seed(seed)
    counts = [min(size, frames - start) for start in range(0, frames, size)]
    parts = [measure(synthesise(bank, body, synthesis, count, generator)) for count in counts]
    return {name: np.concatenate([part[name] for part in parts]).mean(0) for name in parts[0]}


def _errors(network: FittedNetwork, body: BodyModel, batch: Batch) -> dict[str, np.ndarray]:
    answer = network(batch.inputs, batch.centre, batch.side)
    found, _ = body.forward_kinematics(*answer)
    found, true = found.cpu().numpy(), batch.joints.cpu().numpy()
    scored = list(SCORED_JOINTS)
    return {
        "pa_mpjpe_mm": pa_mpjpe(found[:, scored], true[:, scored]),
        "mpjpe_mm": mpjpe(found[:, scored], true[:, scored]),
        "pa_mpjpe_24_mm": pa_mpjpe(found, true),
        "mpjpe_24_mm": mpjpe(found, true),
    }
