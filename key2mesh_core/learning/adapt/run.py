# SPDX-License-Identifier: Apache-2.0
"""One run of adaptation: its state, and a step of it.

A step's random numbers depend only on its number, and the source domain on the initial model, so a
killed run resumes to the same result, bit for bit.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.io import write_text
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.learning.adapt.labelled import LabelledSelection
from key2mesh_core.learning.adapt.losses import (
    agreement_loss,
    critic_loss,
    domain_loss,
    feature_loss,
    reprojection_errors,
)
from key2mesh_core.learning.adapt.sampler import Sampler, StepBatch
from key2mesh_core.learning.adapt.validation import LABELLED, Validator, score
from key2mesh_core.learning.detections.multi_view import agreement
from key2mesh_core.learning.detections.target_domain import TargetBatch, TargetDomain
from key2mesh_core.learning.distributed import ProcessGroup, share_batch_norms
from key2mesh_core.learning.pretrain.config import LossWeights
from key2mesh_core.learning.pretrain.losses import supervised_loss
from key2mesh_core.learning.runs import moving_average, scheduled, settings_text
from key2mesh_core.learning.trained_model import TrainedModel
from key2mesh_core.network.key2mesh import Key2Mesh, Prediction, domain_critic
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.synthesis.batches import Batch
from key2mesh_core.synthesis.motions import MotionBank

HISTORY = "history.jsonl"
_VALIDATION_SAMPLES = 2048
# What a checkpoint holds of a run, by the names of its attributes.
_WITH_STATE = ("extractor", "averaged", "optimiser", "critic", "critic_optimiser")
_VALUES, _WEIGHTS = ("step", "seconds", "history", "best"), ("mean", "best_extractor")


class AdaptRun:
    """The state of one run; `train_watched` advances it. It learns from `domain`, is validated on
    `held_out`, and takes the source domain from `bank` or else from pseudo-labels. `data_digest`,
    of detections and motion capture, must be the same to resume."""

    def __init__(
        self,
        config: AdaptConfig,
        source: TrainedModel,
        domain: TargetDomain,
        held_out: TargetDomain,
        body: BodyModel,
        bank: MotionBank | None,
        processes: ProcessGroup,
        data_digest: str = "",
        selection: LabelledSelection | None = None,
    ) -> None:
        self.config, self.body, self.processes = config, body, processes
        self.identity = {"body": body.identifier, "origin": source.origin, "data": data_digest}
        self.device = domain.batch.inputs.device
        self.selection = selection
        # BatchNorm is folded and there is no dropout, so the mode does not matter, unless the
        # published recipe asks for both.
        published = source.with_batch_norm if config.batch_statistics or config.dropout else None
        network = source.network if published is None else published
        self.source = network.eval().requires_grad_(False).to(self.device)
        self.extractor = copy.deepcopy(self.source.extractor).requires_grad_(True)
        if config.batch_statistics:
            share_batch_norms(self.extractor, processes)
        for module in self.extractor.modules():
            batch_norm = isinstance(module, nn.BatchNorm1d)
            module.training = config.batch_statistics if batch_norm else bool(config.dropout)
        self.averaged = copy.deepcopy(self.source.extractor)
        self.mean = self.source.extractor.state_dict()  # of the finished members
        self.head = self.source.head
        # Their answers, for the features of any extractor.
        self.fitted = FittedNetwork(self.source, body)
        synthesis = replace(
            config.synthesis,
            centre_view=source.centre_view,
            detector_keypoints=source.detector_keypoints,
        )
        self.sampler = Sampler(config, synthesis, self.fitted, domain, body, bank, processes)
        self._begin_member()
        self._update_average = moving_average(config.average)
        self.steps_per_member = config.epochs * self.sampler.steps_per_epoch
        #: Steps from one validation to the next.
        self.steps_per_epoch = config.select_every if selection else self.sampler.steps_per_epoch
        self.total_steps = config.members * self.steps_per_member
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        self.best, self.best_extractor = 0, self._weights()
        if processes.first:
            # The same for every seed.
            samples = self.sampler.samples(_VALIDATION_SAMPLES, seed=_VALIDATION_SAMPLES)
            wanted = config.weights.agreement
            agreed = agreement(self.fitted, held_out, body, quiet=True) if wanted else None
            self.validator = Validator(held_out, agreed, samples, body)

    def advance(self) -> dict[str, Tensor]:
        """Critic updates, if the critic is used, then one update of the extractor."""
        config, weights = self.config, self.config.weights
        place = self.step % self.steps_per_member
        if place == 0 and self.step:
            self.mean = self._weights()
            self._begin_member()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.sampler.begin(self.step)
        terms: dict[str, Tensor] = {}
        if weights.domain:
            for _ in range(config.critic_updates):
                terms["distance"] = self._update_critic(self.sampler.at_random())
        losses = self._losses(self.sampler.in_order(self.step))
        total = torch.zeros((), device=self.device)
        for name, term in losses.items():
            total = total + getattr(weights, name) * term
        if losses:
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()
            self.processes.average_gradients(self.extractor.parameters())
            self.optimiser.step()
            self._update_average(
                list(self.averaged.parameters()), list(self.extractor.parameters()), place
            )
            for old, new in zip(self.averaged.buffers(), self.extractor.buffers(), strict=True):
                old.copy_(new)  # BatchNorm's statistics
        self.step += 1
        terms |= {"total": total.detach(), **{k: term.detach() for k, term in losses.items()}}
        return self.processes.average(terms)

    def learning_rate(self) -> float:
        """The extractor's learning rate at this step."""
        place, steps = self.step % self.steps_per_member, self.steps_per_member
        epoch = self.sampler.steps_per_epoch
        share = scheduled(self.config.schedule, place, steps, epoch, warm_up=20)
        return self.config.learning_rate * share

    def finish_epoch(self, log: Any, progress: tqdm) -> None:
        """Validates the model, and keeps it if it is the best so far."""
        if not self.processes.first:
            return
        if not self.history:
            self._validate(self.source, log, progress)
        weights = self._weights()
        self._validate(self._network(weights), log, progress)
        scores = [score(self.history[epoch], self.history[0]) for epoch in (-1, self.best)]
        if scores[0] < scores[1]:
            self.best, self.best_extractor = len(self.history) - 1, weights
        lines = [json.dumps({"epoch": epoch, **each}) for epoch, each in enumerate(self.history)]
        path = self.config.work_folder / HISTORY
        try:
            write_text(
                path, "\n".join(lines) + "\n"
            )  # rewritten completely, so a resumed run repeats no line
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written ({error})") from error

    def network_of(self, epoch: int) -> Key2Mesh:
        """The network at the end of an epoch: 0, the best, or the last one."""
        if epoch == 0:
            return copy.deepcopy(self.source)
        return self._network(self.best_extractor if epoch == self.best else self._weights())

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint."""
        return {
            **{name: getattr(self, name).state_dict() for name in _WITH_STATE},
            **{name: getattr(self, name) for name in (*_VALUES, *_WEIGHTS)},
            **self.identity,
            "settings": settings_text(self.config),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the result of `state()`."""
        names = {"body": "body", "origin": "model to start from", "data": "target"}
        changed = [names[key] for key, mine in self.identity.items() if state.get(key) != mine]
        if changed:
            raise TrainingError(
                f"{self.config.work_folder} is a run with another {' and another '.join(changed)} "
                "of the same name; give another --output, or restore the old files"
            )
        for name in _WITH_STATE:
            getattr(self, name).load_state_dict(state[name])
        for name in _VALUES:
            setattr(self, name, state[name])
        for name in _WEIGHTS:
            setattr(self, name, {k: v.to(self.device) for k, v in state[name].items()})

    def _begin_member(self) -> None:
        """Starts a member from the initial model, with a new optimiser and critic."""
        for each in (self.extractor, self.averaged):
            each.load_state_dict(self.source.extractor.state_dict())
        torch.manual_seed(self.config.seed)
        critic = domain_critic(self.config.critic_dropout, self.source.sizes["features"])
        self.critic = critic.to(self.device)
        fused = {"lr": self.config.learning_rate, "fused": True}
        self.optimiser = torch.optim.Adam(self.extractor.parameters(), **fused)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), **fused)

    def _losses(self, batch: StepBatch) -> dict[str, Tensor]:
        """The terms of the extractor's loss whose weight is not zero."""
        config, weights, terms = self.config, self.config.weights, {}
        agreed, answers, rehearsed = batch.agreed, [], []
        predicted = weights.reprojection or agreed is not None
        with self._autocast():
            if predicted or weights.domain or weights.features:
                features = self.extractor(batch.target.inputs)
            if predicted:
                answers = self._answers(features, batch.target)
            if weights.rehearsal:
                rehearsed = self._answers(self.extractor(batch.source.inputs), batch.source)
            if weights.domain:
                self.critic.requires_grad_(False)
                terms["domain"] = domain_loss(self.critic, features)
                self.critic.requires_grad_(True)
            if weights.features:
                kept = self.source.extractor(batch.target.inputs)
                terms["features"] = feature_loss(features, kept)
        if agreed is not None:
            terms["agreement"] = _mean(
                agreement_loss(each, agreed.poses, agreed.known, self.body) for each in answers
            )
        if weights.reprojection:
            target, camera = batch.target, config.reprojection_camera
            if not config.trust_confidence:
                target = target._replace(confidence=target.seen.float())
            terms["reprojection"] = _mean(
                reprojection_errors(each, target, self.body, camera).mean() for each in answers
            )
        if weights.rehearsal:
            terms["rehearsal"] = _mean(
                supervised_loss(each, batch.source, self.body, LossWeights())[0]
                for each in rehearsed
            )
        return terms

    def _answers(self, features: Tensor, batch: TargetBatch | Batch) -> list[Prediction]:
        """The network's own predictions and, if it is made to be fitted, their fits: both learn."""
        answers = self.fitted.answers(features, batch.inputs, batch.centre, batch.side)
        return answers if len(answers) == 1 else [answers[0], answers[-1]]

    def _update_critic(self, batch: StepBatch) -> Tensor:
        with self._autocast():
            with torch.no_grad():
                source = self.source.extractor(batch.source.inputs).float()
                target = self.extractor(batch.target.inputs).float()
            penalty = self.config.gradient_penalty
            loss, distance = critic_loss(self.critic, source, target, batch.mix, penalty)
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.processes.average_gradients(self.critic.parameters())
        self.critic_optimiser.step()
        return distance

    def _validate(self, network: Key2Mesh, log: Any, progress: tqdm) -> None:
        measured = self.validator.measure(network)
        if self.selection is not None:
            measured[LABELLED] = self.selection.pa_mpjpe_mm(network)
        scored = score(measured, self.history[0]) if self.history else 0.0
        text = f"epoch {len(self.history)}: score {scored:+.3f} (lower is better), re-projection "
        text += f"{100 * measured['reprojection']:.2f} %, mirror {measured['mirror_mm']:.1f} mm"
        if "agreement_mm" in measured:
            text += f", {measured['agreement_mm']:.1f} mm from the poses that cameras agree on"
        if LABELLED in measured:
            text += f", PA-MPJPE {measured[LABELLED]:.1f} mm on {self.config.select_on}"
        for name, value in measured.items():
            log.add_scalar(f"validation/{name}", value, self.step)
        self.history.append(measured)
        progress.write(text)

    def _network(self, extractor: dict[str, Tensor]) -> Key2Mesh:
        network = copy.deepcopy(self.source)
        network.extractor.load_state_dict(extractor)
        return network

    def _weights(self) -> dict[str, Tensor]:
        """The mean of the members so far, which is validated and exported."""
        members = 1 + max(0, self.step - 1) // self.steps_per_member
        return {
            name: torch.lerp(self.mean[name], value, 1 / members)
            if value.is_floating_point()
            else value.clone()
            for name, value in self.averaged.state_dict().items()
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        half = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)


def _mean(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
