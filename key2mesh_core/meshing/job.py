# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: makes meshes from a recording in the format that the options name."""

from __future__ import annotations

import hashlib
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, TextIO

from key2mesh_core.errors import Key2MeshError, TargetError
from key2mesh_core.interrupts import deferred_interrupts
from key2mesh_core.meshing import arrays
from key2mesh_core.meshing.amass_out import write_amass
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.maker import MeshMaker, batches
from key2mesh_core.meshing.parquet_out import write_parquet
from key2mesh_core.meshing.partial import Partial, writing
from key2mesh_core.meshing.progress import Progress
from key2mesh_core.model.bundle import Bundle, load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.open import Recording, open_recording
from key2mesh_core.recordings.options import Source, parse_source

_MOST_MISFITS = 0.1
"""If more than this share of the bodies misses the keypoints, something is wrong."""

FILES = {"npz": ".npz", "parquet": ".parquet"}
"""The forms that are a single file, and how its name ends."""

HARMLESS = ("threads", "restart", "source", "target")
"""Options that do not change the result."""


@dataclass(frozen=True)
class MeshSummary:
    """What was made of a recording.

    Attributes:
        frames, bodies: their numbers, those of an interrupted process included.
        recorded_s: length of the recording [s].
        left_out: number of messages, images and people that were left out, by cause.
        warnings: what there is to doubt, in sentences.
        speed: what was done, and how fast, in words.
    """

    frames: int
    bodies: int
    recorded_s: float
    left_out: dict[str, int]
    warnings: list[str]
    speed: str


def mesh(config: MeshConfig) -> int:
    """Makes the target, resuming the work of an earlier process; `key2mesh mesh`.

    Raises:
        Key2MeshError: the source, the model or an option cannot be used, or there is nobody in the
            recording; the target does not exist then. Or the disk is full: the same command
            resumes.
    """
    recording, form = opened(config)
    bundle = load_bundle(config.model)
    with ExitStack() as resources:
        # A library that is interrupted while loading reports that it is not installed.
        with deferred_interrupts() as check_interrupt:
            estimator = Estimator(bundle, config.backend, config.threads)
        resources.callback(estimator.close)
        check_interrupt()
        summary = make_meshes(config, recording, form, estimator, sys.stderr)
    print(f"{config.target}: {summary.speed}")
    return 0


def opened(config: MeshConfig) -> tuple[Recording, str]:
    """The recording and the output format ("bag", "npz", "parquet", "obj" or "amass").

    Raises:
        Key2MeshError: the source or an option cannot be used.
    """
    source = parse_source(config.source, config.recording_options())
    form = form_of(config, source)
    return open_recording(source), form


def make_meshes(
    config: MeshConfig, recording: Recording, form: str, estimator: Estimator, console: TextIO
) -> MeshSummary:
    """Makes the target with an engine that is already loaded, resuming the work of an earlier
    process.

    Args:
        recording, form: as `opened` returns them.
        estimator: of the bundle `config.model`.
        console: shows progress, warnings and what was left out.

    Raises:
        Key2MeshError: like `mesh`.
    """
    bundle = estimator.bundle
    maker = MeshMaker(estimator, config.vertices, config.smooth)
    with ExitStack() as resources:
        resources.enter_context(writing(config.target))
        settings = settings_of(config, form, recording.source, bundle)
        partial = Partial(config.target, settings, config.restart, durable=form != "obj")
        resources.callback(partial.close)
        state = partial.state()
        if state:
            print(f"resuming after {state['images']} of {len(recording)} frames", file=console)
        progress = Progress(len(recording), state, console)
        try:
            if form == "bag":
                from key2mesh_core.meshing.bag_out import add_meshes  # only bags need rosbags

                add_meshes(config, recording, bundle, maker, partial, progress)
            else:
                _make_arrays(config, form, recording, bundle, maker, partial, progress)
        except KeyboardInterrupt:
            kept = f"{partial.state().get('images', 0)} of {len(recording)} frames are kept"
            progress.end()
            print(f"{kept}; the same command resumes", file=console)
            raise
        except TargetError:  # there is nobody in the recording, hence nothing to resume
            partial.clear()
            raise
        finally:
            progress.end()
        warnings = list(recording.warnings.values())
        if maker.misfits > _MOST_MISFITS * maker.made:
            warnings.append(
                f"{maker.misfits} of {maker.made} bodies miss their keypoints: the layout or the "
                "camera is wrong, or the detector does not see people"
            )
        if recording.dropped.counts:
            print(f"left out: {recording.dropped}", file=console)
        for reason in warnings:
            print(f"warning: {reason}", file=console)
    return MeshSummary(
        progress.frames,
        progress.bodies,
        round(progress.recorded_s, 3),
        dict(recording.dropped.counts),
        warnings,
        str(progress),
    )


def form_of(config: MeshConfig, source: Source) -> str:
    """The output format: "bag", "npz", "parquet", "obj" or "amass"."""
    bag = source.kind == "bag"
    form = config.form
    if form == "auto":
        if config.target.suffix not in ("", *FILES.values()):
            raise Key2MeshError(
                f"{config.target}: the extension {config.target.suffix} is unknown: give a name "
                "that ends in .npz or .parquet, a folder without an extension, or --form"
            )
        file = next((f for f, suffix in FILES.items() if suffix == config.target.suffix), None)
        form = file or ("bag" if bag else "obj")
    if form == "bag" and not bag:
        raise Key2MeshError(
            f"{config.source} is not a bag, and only a bag can become one: choose another --form"
        )
    if form == "bag" and "," in source.options.topic:
        raise Key2MeshError(
            f"{source.options.topic} are topics of several cameras, but a bag gets meshes on "
            "one topic: name one topic, or choose another --form"
        )
    if source.path.resolve() in config.target.resolve().parents:
        raise Key2MeshError(f"{config.target} is inside {source.path}: choose a place outside")
    if form in FILES and config.target.suffix != FILES[form]:
        raise Key2MeshError(f"{config.target}: the name of this file must end in {FILES[form]}")
    if form == "parquet":
        import_module("pyarrow.parquet")  # a missing package is reported before the work begins
    if form == "obj" and not config.vertices:
        raise Key2MeshError("--form obj contains only vertices: omit --no-vertices")
    return form


def settings_of(config: MeshConfig, form: str, source: Source, bundle: Bundle) -> dict[str, Any]:
    """Everything that the result depends on, which must not change when the work is resumed."""
    values = {k: v for k, v in asdict(config).items() if k not in HARMLESS}
    path = source.path.resolve()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    inside = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    values |= {
        "form": form,
        "image_size": list(config.image_size),
        "source": str(path),
        "source_options": repr(source.options),
        "source_files": hashlib.sha256(repr(inside).encode()).hexdigest(),
        "model": bundle.digest,
    }
    return values


def _make_arrays(
    config: MeshConfig,
    form: str,
    recording: Recording,
    bundle: Bundle,
    maker: MeshMaker,
    partial: Partial,
    progress: Progress,
) -> None:
    """Makes all formats except bags; a segment is one batch of the engine."""
    done, seen = partial.state().get("images", 0), 0
    for batch in batches(recording, lambda frame: (len(frame), 1, 0)):
        seen += len(batch)
        if seen <= done:
            maker.recall(batch)
            continue
        named, bodies = maker.make(batch)
        with partial.segment() as (folder, state):
            if form == "obj":
                arrays.write_obj(folder, named, bodies, bundle, recording.streams > 1)
            else:
                arrays.write_part(folder, named, bodies)
            progress.add(len(batch), len(bodies), [frame.stamp_ns for frame in batch])
            state |= progress.state()
    build = {
        "npz": lambda parts, made: arrays.write_npz(parts, made, bundle),
        "parquet": lambda parts, made: write_parquet(parts, made, bundle),
        "obj": arrays.collect_obj,
        "amass": lambda parts, made: write_amass(parts, made, config.body, bundle, config.fps),
    }
    partial.finish(build[form])
