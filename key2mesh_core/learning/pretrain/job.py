# SPDX-License-Identifier: Apache-2.0
"""Pre-training on motion capture: resumable, logged, with the best checkpoint kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.evaluation.heldout import held_out_errors
from key2mesh_core.keypoints.table import REQUIRED
from key2mesh_core.learning.distributed import (
    ProcessGroup,
    local_device,
    process_group,
    share_batch_norms,
)
from key2mesh_core.learning.pretrain.config import PretrainConfig
from key2mesh_core.learning.pretrain.losses import fitted_loss, supervised_loss
from key2mesh_core.learning.pretrain.sampler import Sampler
from key2mesh_core.learning.pretrain.sources import load_motions
from key2mesh_core.learning.pretrain.taught import load_taught
from key2mesh_core.learning.runs import (
    LAST,
    claim_folder,
    device_named,
    digest_of,
    load_checkpoint,
    moving_average,
    save_checkpoint,
    scheduled,
    seed_of,
    settings_text,
    train_watched,
)
from key2mesh_core.learning.trained_model import TrainedModel, load_trained_model
from key2mesh_core.network.crop import from_box
from key2mesh_core.network.key2mesh import Prediction, unfolded
from key2mesh_core.network.refined import Certainty
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.network.weights import build
from key2mesh_core.synthesis.batches import Batch
from key2mesh_core.synthesis.config import without_augmentation

BEST = "best.pt"
_SECONDS_BETWEEN_CHECKPOINTS = 120.0
_STEPS_BETWEEN_REPORTS = 100
#: Weights of Eq. 1 of the fits next to that of the predictions.
_SHARE_OF_FIRST_STEPS, _SHARE_OF_LAST_STEP = 0.3, 0.7


def pretrain(config: PretrainConfig) -> None:
    """Trains, or resumes the run in `config.output`; writes best.pt and last.pt there.

    Raises TrainingError if the data are unusable, the loss diverges, or the output folder belongs
    to a run with other settings.
    """
    if not config.motions:
        raise TrainingError(
            "--motions is missing: key2mesh pretrain robot --motions FOLDER [--output RUN], where "
            "FOLDER has motion capture in AMASS layout; `key2mesh pretrain robot --help` shows "
            "all options"
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    device = local_device(device_named(config.device))
    with process_group(device) as processes:
        if processes.first:
            claim_folder(config.output, config)
        run = Run(config, processes, device)
        if (config.output / LAST).exists():
            run.restore(load_checkpoint(config.output / LAST, *run.state()))
            processes.say(f"resuming {config.output} after {run.step} of {run.total_steps} steps")
        processes.refuse_other_steps(run.step, config.output, device)
        train_watched(
            run,
            config.output,
            seconds_between_checkpoints=_SECONDS_BETWEEN_CHECKPOINTS,
            steps_between_reports=_STEPS_BETWEEN_REPORTS,
            writes=processes.first,
        )
        best = config.output / BEST
        body = "" if config.body == "default" else f" --body {config.body}"
        processes.say(
            f"trained {run.total_steps} steps; the best network is in {best}\n"
            f"to make a model bundle: key2mesh export --checkpoint {best}{body} --output my_model"
        )


class Run:
    """The state of one training run and the loop that advances it."""

    def __init__(
        self,
        config: PretrainConfig,
        processes: ProcessGroup = ProcessGroup(),  # noqa: B008
        device: torch.device | None = None,
    ) -> None:
        self.config, self.processes = config, processes
        self.device = device or device_named(config.device)
        data = load_body(config.body)
        self.body = BodyModel(data, config.synthesis.detector_keypoints)
        bank, self.held_out = load_motions(config, self.body, processes)
        self.data = digest_of(bank.poses, bank.betas, bank.cumulative)
        for part in (self.body, bank, self.held_out):
            if part is not None:
                part.to(self.device)
        torch.manual_seed(config.seed)
        architecture = {"name": config.network, "keypoints": REQUIRED, "features": config.features}
        taught = None
        if config.init:
            source = self._start(data, architecture)
            self.network = unfolded(source.network, config.dropout)
            if config.taught:
                taught, digest = load_taught(config, source, self.body, processes)
                self.data += digest
        else:
            self.network = build(architecture, config.dropout)
        self.network.to(self.device)
        self.refinement = FittedNetwork(self.network, self.body).refinement
        share_batch_norms(self.network, processes)
        self.average = None
        if config.average:
            self.average = AveragedModel(
                self.network, multi_avg_fn=moving_average(config.average), use_buffers=True
            )
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, fused=True
        )
        self.sampler = Sampler(config, bank, self.body, processes, taught)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self.total_steps = config.epochs * self.steps_per_epoch
        self.step = 0
        self.seconds = 0.0
        self.best = math.inf

    def advance(self) -> dict[str, Tensor]:
        """One optimiser step; returns the loss and its terms."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        terms = self.backward()
        self.processes.average_gradients(self.network.parameters())
        if self.config.max_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_norm)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        return self.processes.average(terms)

    def backward(self) -> dict[str, Tensor]:
        """Gradients of the step's samples, whose random numbers depend only on its number."""
        # Of dropout, which each process draws on its own.
        torch.manual_seed(seed_of(self.config.seed, self.step, self.processes.rank))
        self.network.train()
        batch = self.sampler.batch(self.step)
        loss, terms = self._loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return {"total": loss.detach(), **terms}

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 1 of the predictions, and of the fits after every step of some of them."""
        config = self.config
        half = config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            if self.refinement is None:
                return supervised_loss(self.network(batch.inputs), batch, self.body, config.loss)
            prediction, certainty = self.network.with_certainty(batch.inputs)
        loss, _ = supervised_loss(prediction, batch, self.body, config.loss)
        rows = slice(config.fitted)
        some = Batch(*(part[rows] for part in batch))
        points = from_box(some.inputs, some.centre, some.side)
        _, *fits, last = self.refinement(
            Prediction(*(part[rows] for part in prediction)),
            Certainty(*(part[rows] for part in certainty)),
            points,
            some.seen,
            some.side,
        )
        for fit in fits:
            loss = loss + _SHARE_OF_FIRST_STEPS * fitted_loss(fit, some, config.loss)[0]
        fitted, terms = fitted_loss(last, some, config.loss)
        return loss + _SHARE_OF_LAST_STEP * fitted, terms

    def evaluated(self) -> nn.Module:
        """The network to evaluate: the moving average, if there is one."""
        return self.network if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint."""
        return {
            "network": self.evaluated().state_dict(),
            "trained": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "architecture": self.network.architecture(),
            "body": self.body.identifier,
            "data": self.data,
            "processes": self.processes.size,
            "batch_norm": not self.config.init,
            "centre_view": self.config.synthesis.centre_view,
            "detector_keypoints": self.config.synthesis.detector_keypoints,
            "settings": settings_text(self.config),
        }

    def _start(self, data: BodyData, architecture: dict[str, Any]) -> TrainedModel:
        """The model to train further; raises TrainingError if it is not of the settings' kind."""
        source, synthesis = load_trained_model(self.config.init, data), self.config.synthesis
        for what, has, wanted in (
            ("architecture", source.network.architecture(), architecture),
            ("centre_view", source.centre_view, synthesis.centre_view),
            ("detector_keypoints", source.detector_keypoints, synthesis.detector_keypoints),
        ):
            if has != wanted:
                raise TrainingError(
                    f"--init {self.config.init} has {what} {has}, not {wanted}; give the settings "
                    "that it was trained with (--network, --features, --synthesis...), or another"
                )
        return source

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the result of `state()`."""
        self._refuse_another_kind(self.config.output, state)
        if state["data"] != self.data:
            raise TrainingError(
                f"{self.config.output} was trained on other motion capture than --motions now "
                "contains, or on other detections; give another --output, or restore the old files"
            )
        if state["processes"] != self.processes.size:
            raise TrainingError(
                f"{self.config.output} is a run of {state['processes']} processes, this is one of "
                f"{self.processes.size}, whose batches differ in size; start as many "
                "(torchrun --nproc-per-node), or give another --output"
            )
        self.network.load_state_dict(state["trained"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]

    def _refuse_another_kind(self, path: Path, state: dict[str, Any]) -> None:
        mine = {"body": self.body.identifier, "architecture": self.network.architecture()}
        for what, wanted in mine.items():
            if state.get(what, wanted) != wanted:
                raise TrainingError(
                    f"{path} was trained with {what} {state[what]}, not {wanted}; give the body "
                    "(--body) and the version of key2mesh that it was trained with, or another path"
                )

    def learning_rate(self) -> float:
        """The next step's learning rate."""
        return self.config.learning_rate * scheduled(
            self.config.schedule, self.step, self.total_steps, self.steps_per_epoch, warm_up=500
        )

    def finish_epoch(self, log: Any, progress: tqdm) -> None:
        """Keeps the best checkpoint: the one with the lowest mean of clean and augmented PA-MPJPE,
        or the latest if no clip is held out."""
        if not self.processes.first:
            return
        epoch = self.step // self.steps_per_epoch
        score = -float(self.step)
        if self.held_out is not None:
            synthesis, frames = self.config.synthesis, self.config.evaluation_frames
            pa_mpjpe, text = [], [f"epoch {epoch}"]
            for name, seen_as in (("clean", without_augmentation(synthesis)), ("noisy", synthesis)):
                errors = held_out_errors(
                    self.evaluated(), self.body, self.held_out, seen_as, frames
                )
                pa_mpjpe.append(errors["pa_mpjpe_mm"])
                text.append(f"{name} PA-MPJPE {pa_mpjpe[-1]:.1f} MPJPE {errors['mpjpe_mm']:.1f} mm")
                for key, value in errors.items():
                    log.add_scalar(f"held_out_{name}/{key}", value, self.step)
            progress.write(", ".join(text))
            score = sum(pa_mpjpe) / 2
        if score < self.best:
            self.best = score
            save_checkpoint(self.config.output / BEST, self.state())
