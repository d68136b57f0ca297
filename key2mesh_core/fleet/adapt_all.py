# SPDX-License-Identifier: Apache-2.0
"""`key2mesh adapt-all`: a model for each of many robots."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.fleet.adapt_config import AdaptAllConfig
from key2mesh_core.fleet.manifest import (
    changed,
    is_manifest,
    name_of,
    named,
    read_manifest,
    recordings_in,
)
from key2mesh_core.fleet.run import run
from key2mesh_core.fleet.storage import entries
from key2mesh_core.learning import runs
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.learning.adapt.job import AdaptResult, adapt
from key2mesh_core.learning.adapt.validation import score, threshold

_FIXED = ("target", "output", "recipe")


@dataclass(frozen=True)
class AdaptJob:
    """The model of one robot (a `work.Job`)."""

    name: str
    sources: tuple[str, ...]
    options: AdaptConfig

    @property
    def target(self) -> str:
        return self.name

    def settings(self) -> dict[str, Any]:
        values = json.loads(runs.settings_text(self.options))
        for name in (*runs.FREE_SETTINGS, "seconds_between_checkpoints", "target"):
            values.pop(name, None)
        files = [Path(self.options.init) / "model.json", Path(self.options.init)]
        init = next((path for path in files if path.is_file()), None)
        if init is not None:  # a model that has changed is another one
            values["init"] = hashlib.sha256(init.read_bytes()).hexdigest()
        return values

    def make(self, sources: Sequence[str], target: Path) -> dict[str, Any]:
        options = replace(self.options, target=tuple(sources), output=target)
        result = adapt(options)
        return {
            "adapted": result.adapted,
            "epoch": result.epoch,
            "why": _why(options, result),
        }


def adapt_all(config: AdaptAllConfig) -> int:
    """Adapts a model to every robot; returns the exit status, 1 if one failed.

    Raises:
        Key2MeshError: the robots cannot be listed, or an option is wrong.
    """
    return run(adapt_jobs(config), config, config.output, config.threads or 1, "robots")


def adapt_jobs(config: AdaptAllConfig) -> list[AdaptJob]:
    """A job for each robot, in order.

    Raises:
        Key2MeshError: they cannot be listed, two have the same name, or an entry of the manifest is
            wrong.
    """
    if not config.robots:
        raise Key2MeshError("--robots is missing: a manifest, or a folder with one per robot")
    common = config.of_all()
    jobs = []
    if is_manifest(config.robots):
        for number, entry in enumerate(read_manifest(config.robots)):
            where = f"{config.robots}, entry {number + 1}"
            entry = dict(entry) if isinstance(entry, dict) else {}
            name, target = entry.pop("name", None), entry.pop("target", None)
            target = [target] if isinstance(target, str) else target
            if not isinstance(name, str) or not isinstance(target, list) or not target:
                raise Key2MeshError(
                    f'{where} must have a "name" and a "target" (a recording, or a list of them)'
                )
            options = changed(common, entry, where, _FIXED)
            jobs.append(AdaptJob(name, tuple(map(str, target)), options))
    else:
        for robot in entries(config.robots):
            if robot.is_folder:
                found, _ = recordings_in(robot.address)
                jobs.append(AdaptJob(name_of(robot.address), tuple(found), common))
        if not jobs:
            raise Key2MeshError(f"{config.robots} contains no folder of a robot")
    named([job.name for job in jobs], [job.sources[0] for job in jobs])
    return jobs


def _why(options: AdaptConfig, result: AdaptResult) -> str:
    """Why the new model was kept, or not."""
    before, *after = result.history
    scores = [score(measured, before) for measured in after]
    where = options.select_on or "held-out detections"
    if options.always_adapt:
        return (
            f"the last epoch is kept because of always_adapt (score {scores[-1]:+.3f} on {where}; "
            "below 0 is better than the initial model)"
        )
    limit = f"below {threshold(before):+.2f} is kept"
    if result.adapted:
        return (
            f"epoch {result.epoch} of {len(scores)} is better on {where} (score "
            f"{scores[result.epoch - 1]:+.3f}; {limit})"
        )
    return (
        f"no epoch is clearly better on {where} (best score {min(scores):+.3f}; only {limit}): the "
        "model is the initial one"
    )
