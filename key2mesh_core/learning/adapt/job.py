# SPDX-License-Identifier: Apache-2.0
"""`key2mesh adapt`: a model learns a robot's own detections, without labels (paper, Sec. 3.4-3.6).

Only the feature extractor learns. Source extractor and head stay as they are, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.learning.adapt.run import AdaptRun
from key2mesh_core.learning.adapt.selection import choose, score
from key2mesh_core.learning.adapt.target_domain import split_in_time, target_domain
from key2mesh_core.learning.checkpoints import load_checkpoint
from key2mesh_core.learning.distributed import Crew, crew, local_device
from key2mesh_core.learning.export import write_bundle
from key2mesh_core.learning.pretrain.sources import load_bank
from key2mesh_core.learning.runs import (
    FREE_SETTINGS,
    LAST,
    claim_folder,
    device_named,
    train_watched,
)
from key2mesh_core.learning.trained_model import TrainedModel, load_trained_model
from key2mesh_core.recordings.targets import TargetKeypoints, load_targets

_STEPS_BETWEEN_REPORTS = 20
_FREE = (*FREE_SETTINGS, "name", "always_adapt", "seconds_between_checkpoints")
_LEAST_PERSONS = 64


@dataclass(frozen=True)
class AdaptResult:
    """What a run came to.

    Attributes:
        bundle: folder of the new model.
        adapted: False when the model was better before: the bundle then holds its old weights.
        epoch: whose weights the bundle holds, 0 for those before adaptation.
        history: criteria of every epoch, from 0 on (`selection.Judge.measure`), and true errors
            where `aistpp_truth` was given.
    """

    bundle: Path
    adapted: bool
    epoch: int
    history: list[dict[str, float]]


def adapt(config: AdaptConfig) -> AdaptResult:
    """Adapts, or continues the run in OUTPUT.adaptation, and writes the bundle to `config.output`.

    Raises TrainingError for an unusable start or target, a diverged loss, a full disk, or a folder
    that belongs to a run with other settings; TargetError and others from the readers.
    """
    if not config.target:
        raise TrainingError(
            "--target names no detections: give at least one, for example bag:my_bag"
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    device = local_device(device_named(config.device))
    with crew(device) as workers:
        folder = config.work_folder
        if workers.first:
            claim_folder(folder, config, _FREE)
        data = load_body(config.body)
        source = load_trained_model(config.init, data)
        body = BodyModel(data, source.detector_keypoints).to(device)
        targets = load_targets(config.target, topic=config.topic)
        run = _start(config, source, targets, body, workers, device)
        if (folder / LAST).exists():
            run.restore(load_checkpoint(folder / LAST))
            _say(workers, f"continuing {folder} after {run.step} of {run.total_steps} steps")
        train_watched(
            run,
            folder,
            seconds_between_checkpoints=config.seconds_between_checkpoints,
            steps_between_reports=_STEPS_BETWEEN_REPORTS,
            writes=workers.first,
        )
        epoch = 0
        if workers.first:
            epoch = len(run.history) - 1 if config.always_adapt else choose(run.history)
            _export(config, source, targets, run, epoch)
    return AdaptResult(config.output, epoch > 0, epoch, run.history)


def _start(
    config: AdaptConfig,
    source: TrainedModel,
    targets: TargetKeypoints,
    body: BodyModel,
    workers: Crew,
    device: torch.device,
) -> AdaptRun:
    domain = target_domain(targets, source.centre_view, config.horizontal_fov, device)
    training, held_out = split_in_time(domain, config.hold_out)
    people = len(torch.unique(domain.sequence))
    left_out = ", ".join(f"{count} {cause}" for cause, count in sorted(targets.left_out.items()))
    _say(
        workers,
        f"{len(domain)} detections in {people} sequences ({left_out or 'none'} left out); "
        f"{len(held_out)} are held out to judge by; {_cameras(targets, config.horizontal_fov)}",
    )
    if len(training) < _LEAST_PERSONS:
        raise TrainingError(
            f"{targets.source}: {len(training)} detections to adapt to; at least {_LEAST_PERSONS} "
            "are needed, and thousands help: record for some minutes"
        )
    if not len(held_out):
        held_out = training
    bank = None
    if config.motions:
        # On the CPU, where clips lie and are told apart; the run moves the frames to its device.
        bank, _ = load_bank(config.motions, config.held_out, body.cpu(), config.balance)
        body.to(device)
    run = AdaptRun(config, source, training, held_out, body, bank, workers)
    if run.draws.agreed is not None:
        count = int(run.draws.agreed.known.sum())
        _say(workers, f"of {count} detections the pose is known: several cameras agree on it")
    return run


def _cameras(targets: TargetKeypoints, horizontal_fov: float) -> str:
    known = int((targets.intrinsics[:, 0] > 0).sum())
    if known == len(targets):
        return "their camera is known"
    whose = f"{len(targets) - known} of them" if known else "them"
    return f"{horizontal_fov:g} degrees of view are assumed for {whose}"


def _export(
    config: AdaptConfig, source: TrainedModel, targets: TargetKeypoints, run: AdaptRun, epoch: int
) -> None:
    """The bundle of an epoch, and in words what was decided and why."""
    before, chosen = run.history[0], run.history[epoch]
    facts = {
        "recipe": config.recipe,
        "from": source.origin,
        "to": targets.source,
        "detections": len(targets),
        "seed": config.seed,
        "epoch": epoch,
        "score": round(score(chosen, before), 4),
        "criteria": {name: {"before": before[name], "after": chosen[name]} for name in before},
    }
    card = {name: value for name, value in source.card.items() if name != "errors_mm"}
    card |= {
        "centre_view": source.centre_view,
        "detector_keypoints": source.detector_keypoints,
        "adaptation": facts,
    }
    try:
        bundle = write_bundle(
            config.output,
            name=config.name or f"{source.name}-adapted",
            network=run.network_of(epoch).cpu(),
            data=load_body(config.body),
            body=run.body.cpu(),
            centre=source.centre_view,
            card=card,
        )
    except OSError as error:
        raise TrainingError(
            f"{config.output}: cannot be written ({error}); free some space, then give the same "
            "command again: nothing is computed twice"
        ) from error
    if epoch:
        text = (
            f"adapted: epoch {epoch} of {len(run.history) - 1}; on held-out detections the "
            f"re-projection error went from {100 * before['reprojection']:.2f} to "
            f"{100 * chosen['reprojection']:.2f} % of a person's size, answers to mirror images "
            f"differ by {chosen['mirror_mm']:.1f} instead of {before['mirror_mm']:.1f} mm"
        )
        if "agreement_mm" in chosen:
            text += (
                f", from the poses that several cameras agree on by {chosen['agreement_mm']:.1f} "
                f"instead of {before['agreement_mm']:.1f} mm"
            )
        print(text)
    else:
        print(
            "do not adapt: on held-out detections the model was better before than after every "
            "epoch; the bundle holds its old weights (--always-adapt overrules this)"
        )
    print(f"{bundle.path}: {bundle.name} for {bundle.body_model}")


def _say(workers: Crew, text: str) -> None:
    if workers.first:
        print(text, flush=True)
