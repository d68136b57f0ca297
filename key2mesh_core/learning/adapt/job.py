# SPDX-License-Identifier: Apache-2.0
"""`key2mesh adapt`: adapts a model to a robot's own detections, without labels.

Only the feature extractor is trained. The source extractor and the head do not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning import runs
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.learning.adapt.labelled import labelled_selection
from key2mesh_core.learning.adapt.run import AdaptRun
from key2mesh_core.learning.adapt.validation import choose, score, threshold
from key2mesh_core.learning.detections.target_domain import split_in_time, target_domain
from key2mesh_core.learning.distributed import ProcessGroup, local_device, process_group
from key2mesh_core.learning.export import refuse_occupied, write_bundle
from key2mesh_core.learning.pretrain.sources import load_bank
from key2mesh_core.learning.trained_model import TrainedModel, load_trained_model
from key2mesh_core.recordings.targets import TargetKeypoints, load_targets

_STEPS_BETWEEN_REPORTS = 20
_FREE = (*runs.FREE_SETTINGS, "name", "always_adapt", "seconds_between_checkpoints")
_LEAST_PERSONS = 64


@dataclass(frozen=True)
class AdaptResult:
    """The result of a run: the folder of the new model, the epoch whose weights it holds (0, and
    not `adapted`, if the initial model was better), the criteria of every epoch, from 0."""

    bundle: Path
    adapted: bool
    epoch: int
    history: list[dict[str, float]]


def adapt(config: AdaptConfig) -> AdaptResult:
    """Adapts, or resumes the run in OUTPUT.adaptation, and writes the bundle to `config.output`.

    Raises:
        TrainingError: the initial model or the target is unusable, the loss diverges, the disk is
            full, the folder belongs to a run with other settings, or `config.output` exists and is
            not a bundle.
        TargetError, BagError: from the readers of the target.
    """
    if not config.target:
        raise TrainingError(
            "--target is missing: key2mesh adapt --target bag:my_bag [--output adapted_model] "
            "(`key2mesh targets bag:my_bag` shows what a recording holds)"
        )
    if config.recipe == "paper" and not config.motions:
        raise TrainingError(
            "--recipe paper adapts with motion capture as the source domain: give the motion "
            "capture of pre-training with --motions FOLDER"
        )
    refuse_occupied(config.output)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = local_device(runs.device_named(config.device))
    with process_group(device) as processes:
        folder = config.work_folder
        if processes.first:
            runs.claim_folder(folder, config, _FREE)
        data = load_body(config.body)
        source = load_trained_model(config.init, data, config.dropout)
        keypoints = source.network.sizes["keypoints"]
        body = BodyModel(data, source.detector_keypoints, keypoints).to(device)
        targets = load_targets(
            config.target,
            config.topic,
            assumed_fov_deg=config.horizontal_fov,
            layout=config.layout,
        )
        run = _start(config, source, targets, body, processes, device)
        if (folder / runs.LAST).exists():
            run.restore(runs.load_checkpoint(folder / runs.LAST, *run.state()))
            processes.say(f"resuming {folder} after {run.step} of {run.total_steps} steps")
        processes.refuse_other_steps(run.step, folder, device)
        runs.train_watched(
            run,
            folder,
            seconds_between_checkpoints=config.seconds_between_checkpoints,
            steps_between_reports=_STEPS_BETWEEN_REPORTS,
            writes=processes.first,
        )
        epoch = 0
        if processes.first:
            epoch = len(run.history) - 1 if config.always_adapt else choose(run.history)
            _export(config, source, targets, run, epoch)
    return AdaptResult(config.output, epoch > 0, epoch, run.history)


def _start(
    config: AdaptConfig,
    source: TrainedModel,
    targets: TargetKeypoints,
    body: BodyModel,
    processes: ProcessGroup,
    device: torch.device,
) -> AdaptRun:
    count = source.network.sizes["keypoints"]
    domain = target_domain(targets, source.centre_view, device, count)
    training, held_out = split_in_time(domain, config.hold_out)
    people = len(torch.unique(domain.sequence))
    left_out = ", ".join(f"{count} {cause}" for cause, count in sorted(targets.left_out.items()))
    processes.say(
        f"{len(domain)} detections in {people} sequences ({left_out or 'none'} left out); "
        f"{len(held_out)} are held out for validation; {_cameras(targets, config.horizontal_fov)}",
    )
    for name, reason in targets.warnings.items():
        if name != "no_camera_info":  # reported with the cameras
            processes.say(f"warning: {reason}")
    if len(training) < _LEAST_PERSONS:
        raise TrainingError(
            f"{targets.source}: {len(training)} detections to adapt to; at least {_LEAST_PERSONS} "
            "are needed, and thousands are better: record for some minutes"
        )
    held_out = held_out if len(held_out) else training
    bank = None
    if config.motions:
        # On the CPU, where clips are loaded and compared; the run moves the frames to its device.
        bank, _ = load_bank(config.motions, config.held_out, body.cpu(), config.balance)
        body.to(device)
    learned_from = [targets.keypoints, targets.intrinsics, targets.image_size]
    learned_from += [targets.frame, targets.sequence, targets.camera, targets.person]
    learned_from += [] if bank is None else [bank.poses, bank.betas, bank.cumulative]
    digest = runs.digest_of(*learned_from)
    if (config.batch_statistics or config.dropout) and source.with_batch_norm is None:
        processes.say(
            f"warning: {config.init} is a bundle, without BatchNorm and dropout: neither takes "
            "part in adaptation; start from a checkpoint of `key2mesh pretrain` (--init best.pt)"
        )
    selection = None
    if config.select_on:
        selection = labelled_selection(config, load_body(config.body), body, source.centre_view)
        processes.say(
            f"selection: PA-MPJPE on {config.select_on}, every {config.select_every} steps"
        )
    elif config.recipe == "paper":
        processes.say(
            "selection: without labels, after each epoch; the paper selects by labelled data "
            "(--select-on 3dpw-validation)"
        )
    run = AdaptRun(config, source, training, held_out, body, bank, processes, digest, selection)
    if run.sampler.agreed is not None:
        count = int(run.sampler.agreed.known.sum())
        processes.say(f"several cameras agree on the pose of {count} detections")
    return run


def _cameras(targets: TargetKeypoints, horizontal_fov: float) -> str:
    known = int(targets.metric.sum())
    if known == len(targets):
        return "their cameras are known"
    whose = f"{len(targets) - known} of them" if known else "them"
    return f"a field of view of {horizontal_fov:g} degrees is assumed for {whose}"


def _export(
    config: AdaptConfig, source: TrainedModel, targets: TargetKeypoints, run: AdaptRun, epoch: int
) -> None:
    """Writes the bundle of an epoch, and reports the decision and its reason."""
    before, chosen = run.history[0], run.history[epoch]
    facts = {
        "adapted": epoch > 0,
        "recipe": config.recipe,
        "from": source.origin,
        "to": targets.source,
        "detections": len(targets),
        "seed": config.seed,
        "epoch": epoch,
        "score": round(score(chosen, before), 4),
        "criteria": {name: {"before": before[name], "after": chosen[name]} for name in chosen},
    }
    card = {name: value for name, value in source.card.items() if name != "errors_mm" or not epoch}
    switches = {name: getattr(source, name) for name in ("centre_view", "detector_keypoints")}
    bundle = write_bundle(
        config.output,
        name=config.name or (f"{source.name}-adapted" if epoch else source.name),
        network=run.network_of(epoch).cpu(),
        data=load_body(config.body),
        body=run.body.cpu(),
        centre=source.centre_view,
        card=card | switches | {"adaptation": facts},
    )
    print(_adapted(run, epoch) if epoch else _not_adapted(run, bundle.path, config.init))
    print(f"{bundle.path}: {bundle.name} for the body {bundle.body_model}")
    if epoch:
        print(f"to use it, set the node's parameter model:={bundle.path.resolve()}")


def _adapted(run: AdaptRun, epoch: int) -> str:
    before, chosen = run.history[0], run.history[epoch]
    text = (
        f"adapted: epoch {epoch} of {len(run.history) - 1} with score {score(chosen, before):+.3f} "
        "(lower is better; 0: the initial model). On held-out detections the re-projection error "
        f"went from {100 * before['reprojection']:.2f} to {100 * chosen['reprojection']:.2f} % of "
        f"a person's size, and the difference between mirror images from "
        f"{before['mirror_mm']:.1f} to {chosen['mirror_mm']:.1f} mm"
    )
    if "agreement_mm" in chosen:
        text += (
            ", the distance from the poses that several cameras agree on from "
            f"{before['agreement_mm']:.1f} to {chosen['agreement_mm']:.1f} mm"
        )
    return text


def _not_adapted(run: AdaptRun, output: Path, init: str) -> str:
    scores = [score(measured, run.history[0]) for measured in run.history[1:]]
    where = run.config.select_on or "held-out detections"
    return (
        f"not adapted: on {where} no epoch was clearly better than the initial model "
        f"(best score {min(scores):+.3f}; lower is better, and only an epoch below "
        f"{threshold(run.history[0]):+.2f} is kept). {output} holds the unchanged model, the same "
        f"as {init}; --always-adapt exports the last epoch anyway"
    )
