# SPDX-License-Identifier: Apache-2.0
"""`key2mesh evaluate 3dpw`, `h36m` and `emdb`: benchmarks on the user's copy of the data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.folder import load_smpl
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.benchmarks import protocols
from key2mesh_core.evaluation.benchmarks.config import (
    BenchmarkConfig,
    EmdbConfig,
    Human36mConfig,
    ThreeDPWConfig,
)
from key2mesh_core.evaluation.benchmarks.joint_regressor import load_regressor
from key2mesh_core.evaluation.benchmarks.predictors import SmplPredictor, smpl_predictor
from key2mesh_core.evaluation.benchmarks.protocols import Protocol
from key2mesh_core.evaluation.benchmarks.report import BenchmarkReport, SequenceScores
from key2mesh_core.evaluation.benchmarks.scores import Judge
from key2mesh_core.io import read_json, write_text
from key2mesh_core.recordings import emdb, human36m, threedpw
from key2mesh_core.recordings.labelled import Sequences

_MAX_FILE_BYTES = 64 << 20


def evaluate_3dpw(config: ThreeDPWConfig) -> BenchmarkReport:
    """Measures on 3DPW, prints the tables and writes the reports; see `evaluate_benchmark`."""
    protocol = protocols.threedpw(
        config.split, config.truth, config.centre, threedpw.SPLITS[config.split]
    )
    sequences = threedpw.sequences(config.root, config.split)
    return evaluate_benchmark(config, protocol, sequences, config.regressor)


def evaluate_h36m(config: Human36mConfig) -> BenchmarkReport:
    """Measures on Human3.6M, prints the tables and writes the reports."""
    sequences = human36m.sequences(config.root, config.detections)
    return evaluate_benchmark(
        config, protocols.human36m(config.centre), sequences, config.regressor
    )


def evaluate_emdb(config: EmdbConfig) -> BenchmarkReport:
    """Measures on EMDB 1, prints the tables and writes the reports."""
    protocol = protocols.emdb(config.detections is None, emdb.SEQUENCES)
    return evaluate_benchmark(config, protocol, emdb.sequences(config.root, config.detections))


def evaluate_benchmark(
    config: BenchmarkConfig,
    protocol: Protocol,
    sequences: Sequences,
    regressor: Path | None = None,
    predictor: SmplPredictor | None = None,
) -> BenchmarkReport:
    """Measures sequence by sequence and writes report.json and report.md.

    Args:
        config: paths; `config.model` is measured unless there is a `predictor`.
        protocol: what is measured.
        sequences: of the data set.
        regressor: Human3.6M's regressor; None if the protocol compares SMPL's joints.
        predictor: measures any method instead of a bundle.

    A sequence whose file in OUTPUT/sequences was written with the same data, model, bodies,
    regressor and protocol is not measured again.

    Raises:
        BodyFileError: a body is missing or wrong.
        EvaluationError: a file of the data set or the regressor is damaged or wrong, no such
            sequence, or no image counts.
    """
    if unknown := sorted(set(config.sequences) - set(sequences)):
        raise EvaluationError(f"{config.root} has no sequence {unknown}; it has {list(sequences)}")
    chosen = {name: sequences[name] for name in config.sequences or sequences}
    neutral = load_smpl(config.body_folder, "neutral")
    bodies = {"neutral": neutral}
    if protocol.truth == "gendered":
        bodies |= {gender: load_smpl(config.body_folder, gender) for gender in ("female", "male")}
    matrix = None if regressor is None else load_regressor(regressor, neutral.template)
    judge = Judge(protocol, bodies, matrix)
    predictor = predictor or smpl_predictor(config, neutral)
    identity = _identity(config, protocol, bodies, matrix, predictor)
    print(f"{protocol}\nmodel: {predictor.description}")
    measured = []
    for number, (name, read) in enumerate(chosen.items(), 1):
        file = config.output / "sequences" / f"{name.replace('/', '_')}.json"
        scores = _resume(file, identity)
        done = "resumed" if scores else "measured"
        if scores is None:
            people = read()
            found = [judge.measure(person, predictor.predict) for person in people]
            scores = SequenceScores.of(name, found)
            write_text(file, json.dumps({"identity": identity, **asdict(scores)}))
        measured.append(scores)
        print(f"[{number}/{len(chosen)}] {scores.summary()}, {done}", flush=True)
    report = BenchmarkReport(protocol, predictor.name, predictor.description, tuple(measured))
    if not report.images:
        raise EvaluationError(
            f"no image of {len(chosen)} sequences counts: {report.left_out()}; check that the data "
            "set has detections"
        )
    write_text(config.output / "report.json", report.to_json())
    write_text(config.output / "report.md", report.to_markdown())
    print(f"\n{report.to_markdown()}\nwritten to {config.output}")
    return report


def _resume(file: Path, identity: str) -> SequenceScores | None:
    """The scores in a sequence's file, if it was measured in the same way."""
    if not file.exists():
        return None
    content: dict[str, Any] = read_json(file, _MAX_FILE_BYTES, EvaluationError, "delete it")
    if content.pop("identity", None) != identity:
        return None
    return SequenceScores(**content)


def _identity(
    config: BenchmarkConfig,
    protocol: Protocol,
    bodies: dict[str, BodyData],
    regressor: np.ndarray | None,
    predictor: SmplPredictor,
) -> str:
    """A digest of everything that determines the result; of the data, their paths and ages."""
    digest = hashlib.sha256(str(protocol).encode())
    for path, kind in ((config.root, "*.pkl"), (getattr(config, "detections", None), "*.json")):
        digest.update(f"{None if path is None else path.resolve()} {_age(path, kind)}".encode())
    for name, body in sorted(bodies.items()):
        digest.update(f"{name} {body.identifier}".encode())
    digest.update(b"" if regressor is None else regressor.tobytes())
    digest.update(predictor.identity.encode())
    return digest.hexdigest()


def _age(path: Path | None, kind: str) -> tuple[int, int]:
    """Number of files of a path (of a `kind`, if it is a folder), and when the newest was written
    [ns]."""
    if path is None:
        return 0, 0
    files = [path] if path.is_file() else path.rglob(kind)
    times = [file.stat().st_mtime_ns for file in files]
    return len(times), max(times, default=0)
