# SPDX-License-Identifier: Apache-2.0
"""Compares a step of adaptation with its networks alone: their forward and backward passes, and
Adam.

The detections are the demo's. The default recipe learns from them and from samples of the model's
own predictions; the paper's updates a critic ten times in every step, which differentiates twice.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.people import camera, people
from benchmarks.timing import SETTLE_S, interleave
from benchmarks.training_step import Precision, busy_share, repeated
from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.learning.adapt.config import ADAPT_RECIPES
from key2mesh_core.learning.adapt.losses import critic_loss, domain_loss, feature_loss
from key2mesh_core.learning.adapt.run import AdaptRun
from key2mesh_core.learning.detections.target_domain import target_domain
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.recordings.targets import TargetKeypoints
from key2mesh_core.synthesis.batches import synthesise

BARE, SYNTHESIS, STEP = "networks alone, and Adam", "synthesis alone", "adaptation step"
_FRAMES = 64


def run(
    model: str = "default",
    body: str = "default",
    *,
    recipe: str = "default",
    batch_size: int = 256,
    threads: int = 2,
    precision: Precision = "float32",
    device: str = "cpu",
    detections: int = 2048,
    budget_s: float = 15.0,
    rounds: int = 5,
    settle_s: float = SETTLE_S,
) -> dict[str, Any]:
    """Times [ms] of a step's parts and, on a GPU, the share of the step in which it is busy."""
    torch.set_num_threads(threads)
    config = replace(
        ADAPT_RECIPES[recipe][1],
        init=model,
        body=body,
        batch_size=batch_size,
        precision=precision,
        device=device,
        threads=threads,
    )
    adaptation = _start(config, detections)
    source = _synthesis(adaptation).inputs
    target = adaptation.sampler.domain.batch.inputs[:batch_size]
    mix = torch.full((batch_size, 1), 0.5, device=adaptation.device)
    draws = 1 + bool(config.weights.domain) * config.critic_updates
    calls = {
        BARE: lambda: _bare(adaptation, source, target, mix),
        SYNTHESIS: lambda: [_synthesis(adaptation) for _ in range(draws)],
        STEP: adaptation.advance,
    }
    waiting = {name: repeated(call, 1, device) for name, call in calls.items()}
    timings = interleave(waiting, budget_s=budget_s, rounds=rounds, settle_s=settle_s)
    return {
        "what": f"adaptation ({recipe})",
        "batch_size": batch_size,
        "precision": precision,
        "device": device,
        "bare": BARE,
        "timings": {name: asdict(timing) for name, timing in timings.items()},
        "bare_floor_ms": None,
        "busy": busy_share(waiting[STEP]) if device != "cpu" else None,
    }


def _start(config: Any, detections: int) -> AdaptRun:
    data = load_body(config.body)
    source = load_trained_model(config.init, data)
    body = BodyModel(data, source.detector_keypoints).to(config.device)
    intrinsics = camera()
    size = np.array([2 * intrinsics.cx, 2 * intrinsics.cy], np.float32)
    targets = TargetKeypoints(
        keypoints=people(detections),
        image_size=np.tile(size, (detections, 1)),
        intrinsics=np.tile(intrinsics.as_array(), (detections, 1)),
        metric=np.ones(detections, bool),
        source="the demo's detections",
        frame=np.arange(detections) % _FRAMES,
        sequence=(np.arange(detections) // _FRAMES).astype(np.int32),
        camera=np.zeros(detections, np.int32),
        person=np.full(detections, -1, np.int32),
        left_out={},
    )
    device = torch.device(config.device)
    domain = target_domain(targets, source.centre_view, device)
    return AdaptRun(config, source, domain, domain, body, None, ProcessGroup())


def _synthesis(adaptation: AdaptRun) -> Any:
    sampler, count = adaptation.sampler, adaptation.config.batch_size
    return synthesise(sampler.bank, sampler.body, sampler.synthesis, count, sampler.generator)


def _bare(adaptation: AdaptRun, source: Tensor, target: Tensor, mix: Tensor) -> None:
    """The step's passes through networks, on the same inputs every time."""
    config, weights = adaptation.config, adaptation.config.weights
    autocast = torch.autocast(
        adaptation.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
    )
    critic, extractor, head = adaptation.critic, adaptation.extractor, adaptation.head
    for _ in range(config.critic_updates if weights.domain else 0):
        with autocast:
            with torch.no_grad():
                features = adaptation.source.extractor(source), extractor(target)
            near, far = (each.float() for each in features)
            loss, _ = critic_loss(critic, near, far, mix, config.gradient_penalty)
        _update(adaptation.critic_optimiser, loss)
    terms = []
    with autocast:
        features = extractor(target)
        if weights.reprojection:
            terms += _means(head(features))
        if weights.rehearsal:
            terms += _means(head(extractor(source)))
        if weights.domain:
            critic.requires_grad_(False)
            terms.append(domain_loss(critic, features))
            critic.requires_grad_(True)
        if weights.features:
            terms.append(feature_loss(features, adaptation.source.extractor(target)))
    _update(adaptation.optimiser, torch.stack([term.float() for term in terms]).sum())


def _means(prediction: Any) -> list[Tensor]:
    return [prediction.betas.mean(), prediction.rotations.mean()]


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
