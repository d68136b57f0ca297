# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh-all`: meshes of many recordings."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.fleet.config import MeshAllConfig
from key2mesh_core.fleet.manifest import (
    changed,
    is_manifest,
    name_of,
    named,
    read_manifest,
    recordings_in,
)
from key2mesh_core.fleet.run import run
from key2mesh_core.fleet.storage import fixed_part
from key2mesh_core.fleet.work import place_of
from key2mesh_core.meshing.config import MeshConfig, MeshOptions
from key2mesh_core.meshing.job import FILES, HARMLESS, make_meshes, opened
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator


@dataclass(frozen=True)
class MeshJob:
    """The meshes of one recording (a `work.Job`)."""

    name: str
    source: str
    options: MeshOptions

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def target(self) -> str:
        form = self.options.form
        if form == "parquet":  # a data set that is partitioned by recording
            return f"recording={self.name}/bodies.parquet"
        return self.name + FILES.get(form, "")

    def settings(self) -> dict[str, Any]:
        values = {k: v for k, v in asdict(self.options).items() if k not in HARMLESS}
        return values | {"model": _engine.bundle(self.options.model).digest}

    def make(self, sources: Sequence[str], target: Path) -> dict[str, Any]:
        config = MeshConfig(sources[0], target, **vars(self.options))
        recording, form = opened(config)
        estimator = _engine.estimator(config)
        summary = asdict(make_meshes(config, recording, form, estimator, io.StringIO()))
        del summary["speed"]
        return summary


class _Engine:
    """The worker's engine, kept from one recording to the next with the same model."""

    def __init__(self) -> None:
        self._bundle: Any = None
        self._estimator: Any = None

    def bundle(self, model: str) -> Any:
        if self._bundle is None or self._bundle[0] != model:
            self._bundle = model, load_bundle(model)
        return self._bundle[1]

    def estimator(self, options: MeshOptions) -> Estimator:
        key = options.model, options.backend, options.threads
        if self._estimator is None or self._estimator[0] != key:
            if self._estimator is not None:
                self._estimator[1].close()
            self._estimator = None
            made = Estimator(self.bundle(options.model), options.backend, options.threads)
            self._estimator = key, made
        return self._estimator[1]


_engine = _Engine()


def mesh_all(config: MeshAllConfig) -> int:
    """Makes the meshes of all recordings; returns the exit status, 1 if one failed.

    Raises:
        Key2MeshError: the recordings cannot be listed, or an option is wrong.
    """
    return run(mesh_jobs(config), config, config.output, config.threads, "recordings")


def mesh_jobs(config: MeshAllConfig) -> list[MeshJob]:
    """A job for each recording, in order.

    Raises:
        Key2MeshError: they cannot be listed, two have the same name, or an entry of the manifest is
            wrong.
    """
    common = MeshOptions(**{e.name: getattr(config, e.name) for e in fields(MeshOptions)})
    jobs = []
    if is_manifest(config.recordings):
        for number, entry in enumerate(read_manifest(config.recordings)):
            entry = {"source": entry} if isinstance(entry, str) else dict(entry)
            where = f"{config.recordings}, entry {number + 1}"
            source, name = entry.pop("source", None), entry.pop("name", None)
            if not isinstance(source, str) or not source:
                raise Key2MeshError(f'{where} has no "source": the name of its recording')
            name = name_of(place_of(source).address) if name is None else str(name)
            jobs.append(MeshJob(name, source, changed(common, entry, where, ())))
    else:
        found, others = recordings_in(config.recordings)
        # The output folder may lie among the recordings.
        found = [each for each in found if each.rstrip("/") != config.output.rstrip("/")]
        root = fixed_part(config.recordings)
        jobs = [MeshJob(name_of(each, root), each, common) for each in found]
        if others:
            listed = ", ".join(others[:3]) + ", ..." * (len(others) > 3)
            print(f"not recordings: {len(others)} ({listed})", file=sys.stderr)
    named([job.name for job in jobs], [job.source for job in jobs])
    return jobs
