# SPDX-License-Identifier: Apache-2.0
"""One run of adaptation: its state, and a step of it.

All of a step's randomness follows from its number, and the source domain from the model before
adaptation, so a run that was killed continues to the same result, bit for bit.
"""

from __future__ import annotations

import copy
import json
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.network import Key2Mesh, Prediction, domain_critic
from key2mesh_core.synthesis.batches import Batch, synthesise
from key2mesh_core.synthesis.motions import MotionBank
from key2mesh_core.training.adapt_config import AdaptConfig, synthesis_for
from key2mesh_core.training.adaptation_losses import (
    critic_loss,
    domain_loss,
    feature_loss,
    reprojection_loss,
)
from key2mesh_core.training.config import LossWeights
from key2mesh_core.training.distributed import Crew
from key2mesh_core.training.initial_weights import Source
from key2mesh_core.training.losses import supervised_loss
from key2mesh_core.training.own_poses import OwnPoses, smooth_answers, trusted
from key2mesh_core.training.runs import moving_average, seed_of, settings_text
from key2mesh_core.training.selection import Judge, score
from key2mesh_core.training.target_domain import TargetBatch, TargetDomain
from key2mesh_core.training.target_noise import target_noise, with_noise
from key2mesh_core.training.true_errors import true_errors

HISTORY = "history.jsonl"
_SAMPLES_TO_JUDGE_ON = 2048
#: What random numbers are for.
_STEP, _DROPOUT, _ORDER = range(3)


class _Draw(NamedTuple):
    """What one update looks at: target rows, source samples, and where between them (N, 1)."""

    target: TargetBatch
    source: Batch
    mix: Tensor


class AdaptRun:
    """The state of one run; `train_watched` advances it.

    Args:
        domain, held_out: detections to learn from, and to judge by.
        bank: motion capture for the source domain; None: the model's own answers.
        workers: the processes that share the run.
    """

    def __init__(
        self,
        config: AdaptConfig,
        source: Source,
        domain: TargetDomain,
        held_out: TargetDomain,
        body: BodyModel,
        bank: MotionBank | None,
        workers: Crew,
    ) -> None:
        self.config, self.body, self.workers, self.domain = config, body, workers, domain
        self.origin = source.origin
        self.device = domain.batch.inputs.device
        self.source = source.network.eval().requires_grad_(False).to(self.device)
        # BatchNorm is absorbed and there is no dropout: modes make no difference to these.
        self.extractor = copy.deepcopy(self.source.extractor).requires_grad_(True)
        self.averaged = copy.deepcopy(self.source.extractor)
        self.head = self.source.head
        self.synthesis = synthesis_for(config, source.centre_view, source.detector_keypoints)
        found = smooth_answers(self.source, domain, config.smoothing)
        rows = trusted(found, domain.batch, body, config.keep)
        found = Prediction(found.betas[rows], found.rotations[rows])
        self.noise = target_noise(found, domain.batch.rows(rows), body)
        self.bank = (bank or OwnPoses(found.rotations, found.betas)).to(self.device)
        torch.manual_seed(config.seed)
        self.critic = domain_critic(config.critic_dropout).to(self.device)
        rate = config.learning_rate
        fused = {"lr": rate, "fused": True}
        self.optimiser = torch.optim.Adam(self.extractor.parameters(), **fused)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), **fused)
        self._update_average = moving_average(config.average)
        self.generator = torch.Generator(self.device)
        whole = config.batch_size * workers.size
        least = math.ceil(config.least_steps / config.epochs)
        self.steps_per_epoch = max(least, len(domain) // whole)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.step, self.seconds = 0, 0.0
        self._order: tuple[int, Tensor] | None = None
        self.history: list[dict[str, float]] = []
        self.best, self.best_extractor = 0, self._weights(self.averaged)
        if workers.first:
            self.generator.manual_seed(_SAMPLES_TO_JUDGE_ON)  # the same for every seed
            samples = self._synthesise(_SAMPLES_TO_JUDGE_ON)
            self.judge = Judge(self.source, held_out, samples, body)

    def advance(self) -> dict[str, Tensor]:
        """Critic updates, if the critic counts, then one update of the extractor."""
        config, weights = self.config, self.config.weights
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.generator.manual_seed(seed_of(config.seed, _STEP, self.step))
        torch.manual_seed(seed_of(config.seed, _DROPOUT, self.step, self.workers.rank))
        terms: dict[str, Tensor] = {}
        if weights.domain:
            for _ in range(config.critic_updates):
                terms["distance"] = self._update_critic(self._draw(self._random_rows()))
        losses = self._losses(self._draw(self._rows()))
        total = torch.zeros((), device=self.device)
        for name, term in losses.items():
            total = total + getattr(weights, name) * term
        if losses:
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()
            self.workers.average_gradients(self.extractor.parameters())
            self.optimiser.step()
            self._update_average(
                list(self.averaged.parameters()), list(self.extractor.parameters()), self.step
            )
        self.step += 1
        terms |= {"total": total.detach(), **{k: term.detach() for k, term in losses.items()}}
        return self.workers.average(terms)

    def learning_rate(self) -> float:
        """The extractor's step size at this step."""
        config = self.config
        if config.schedule == "exponential":
            return config.learning_rate * config.decay ** (self.step // self.steps_per_epoch)
        warm_up = min(1.0, (self.step + 1) / min(20, self.total_steps))
        turn = math.pi * self.step / self.total_steps
        return config.learning_rate * warm_up * 0.5 * (1 + math.cos(turn))

    def finish_epoch(self, log: Any, progress: tqdm) -> None:
        """Judges the model, and keeps it if it is the best so far."""
        if not self.workers.first:
            return
        if not self.history:
            self._judge(self.source, log, progress)
        self._judge(self._network(self._weights(self.averaged)), log, progress)
        if score(self.history[-1], self.history[0]) < score(
            self.history[self.best], self.history[0]
        ):
            self.best, self.best_extractor = len(self.history) - 1, self._weights(self.averaged)
        write_history(self.config.work_folder, self.history)

    def network_of(self, epoch: int) -> Key2Mesh:
        """The network at the end of an epoch: 0, the best, or the last one."""
        if epoch == 0:
            return copy.deepcopy(self.source)
        return self._network(
            self.best_extractor if epoch == self.best else self._weights(self.averaged)
        )

    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds."""
        return {
            "extractor": self.extractor.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "critic": self.critic.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "best": self.best,
            "best_extractor": self.best_extractor,
            "body": self.body.identifier,
            "origin": self.origin,
            "detections": len(self.domain),
            "settings": settings_text(self.config),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from what `state()` gave."""
        mine = self.body.identifier, self.origin, len(self.domain)
        theirs = state["body"], state["origin"], state["detections"]
        if mine != theirs:
            raise TrainingError(
                f"{self.config.work_folder} is a run with other files behind the same names: body, "
                f"start and detections were {theirs} and are {mine}; give another --output"
            )
        for name in ("extractor", "averaged", "optimiser", "critic", "critic_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("step", "seconds", "history", "best"):
            setattr(self, name, state[name])
        self.best_extractor = {k: v.to(self.device) for k, v in state["best_extractor"].items()}

    def _losses(self, draw: _Draw) -> dict[str, Tensor]:
        """The terms of Eq. 8 whose weight is not zero."""
        config, weights, terms = self.config, self.config.weights, {}
        on_target = weights.features and config.features_on != "source"
        on_source = weights.features and config.features_on != "target"
        features = source_features = torch.empty(0)
        with self._autocast():
            if weights.reprojection or weights.domain or on_target:
                features = self.extractor(draw.target.inputs)
            if weights.rehearsal or on_source:
                source_features = self.extractor(draw.source.keypoints)
            answer = self.head(features) if weights.reprojection else None
            rehearsed = self.head(source_features) if weights.rehearsal else None
            if weights.domain:
                self.critic.requires_grad_(False)
                terms["domain"] = domain_loss(self.critic, features)
                self.critic.requires_grad_(True)
            kept = []
            if on_target:
                kept.append(feature_loss(features, self.source.extractor(draw.target.inputs)))
            if on_source:
                kept.append(
                    feature_loss(source_features, self.source.extractor(draw.source.keypoints))
                )
        if kept:
            terms["features"] = torch.stack(kept).mean()
        if answer is not None:
            terms["reprojection"] = reprojection_loss(
                answer, draw.target, self.body, config.reprojection_camera, config.trust_confidence
            )
        if rehearsed is not None:
            terms["rehearsal"], _ = supervised_loss(
                rehearsed, draw.source, self.body, LossWeights()
            )
        return terms

    def _update_critic(self, draw: _Draw) -> Tensor:
        with self._autocast():
            with torch.no_grad():
                source = self.source.extractor(draw.source.keypoints).float()
                target = self.extractor(draw.target.inputs).float()
            penalty = self.config.gradient_penalty
            loss, distance = critic_loss(self.critic, source, target, draw.mix, penalty)
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.workers.average_gradients(self.critic.parameters())
        self.critic_optimiser.step()
        return distance

    def _draw(self, rows: Tensor) -> _Draw:
        """Drawn for all processes alike, then cut: N of them compute what one would."""
        source = self._synthesise(len(rows))
        mix = torch.rand(len(rows), 1, generator=self.generator, device=self.device)
        mine = self.workers.part(len(rows))
        return _Draw(
            self.domain.batch.rows(rows[mine]), Batch(*(part[mine] for part in source)), mix[mine]
        )

    def _synthesise(self, count: int) -> Batch:
        config = self.config
        batch = synthesise(self.bank, self.body, self.synthesis, count, self.generator)
        if not config.detector_noise:
            return batch
        scale = config.detector_noise_scale
        return with_noise(batch, self.noise, config.detector_noise, scale, self.generator)

    def _rows(self) -> Tensor:
        """The step's rows of the epoch's random order, which follows from the epoch's number."""
        epoch, place = divmod(self.step, self.steps_per_epoch)
        whole = self.config.batch_size * self.workers.size
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(seed_of(self.config.seed, _ORDER, epoch))
            passes = math.ceil(self.steps_per_epoch * whole / len(self.domain))
            orders = [torch.randperm(len(self.domain), generator=generator) for _ in range(passes)]
            self._order = epoch, torch.cat(orders).to(self.device)
        return self._order[1][place * whole : (place + 1) * whole]

    def _random_rows(self) -> Tensor:
        return torch.randint(
            len(self.domain),
            (self.config.batch_size * self.workers.size,),
            generator=self.generator,
            device=self.device,
        )

    def _judge(self, network: Key2Mesh, log: Any, progress: tqdm) -> None:
        measured = self.judge.measure(network)
        scored = score(measured, self.history[0]) if self.history else 0.0
        text = f"epoch {len(self.history)}: score {scored:+.3f}, re-projection "
        text += f"{100 * measured['reprojection']:.2f} %, mirror {measured['mirror_mm']:.1f} mm"
        for channel, error in true_errors(
            network, self.body, self.config, self.synthesis.centre_view
        ).items():
            measured[f"true_{channel}_mm"] = error
            text += f", {channel} {error:.1f} mm"
        for name, value in measured.items():
            log.add_scalar(f"judged/{name}", value, self.step)
        self.history.append(measured)
        progress.write(text)

    def _network(self, extractor: dict[str, Tensor]) -> Key2Mesh:
        network = copy.deepcopy(self.source)
        network.extractor.load_state_dict(extractor)
        return network

    @staticmethod
    def _weights(extractor: nn.Module) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in extractor.state_dict().items()}

    def _autocast(self) -> AbstractContextManager[Any]:
        half = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """One line of JSON an epoch; written whole, so that a resumed run repeats no line."""
    lines = [json.dumps({"epoch": epoch, **values}) for epoch, values in enumerate(history)]
    partial = folder / f"{HISTORY}.partial"
    try:
        partial.write_text("\n".join(lines) + "\n")
        partial.replace(folder / HISTORY)
    except OSError as error:
        raise TrainingError(f"{folder / HISTORY}: cannot be written ({error})") from error
