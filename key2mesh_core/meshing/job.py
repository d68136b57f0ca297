# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: makes meshes from a recording in the format that the options name."""

from __future__ import annotations

import hashlib
import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from key2mesh_core.errors import Key2MeshError, TargetError
from key2mesh_core.interrupts import deferred_interrupts
from key2mesh_core.meshing import arrays
from key2mesh_core.meshing.amass_out import write_amass
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.maker import MeshMaker, batches
from key2mesh_core.meshing.partial import Partial, writing
from key2mesh_core.meshing.progress import Progress
from key2mesh_core.model.bundle import MANIFEST, Bundle, load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.open import Recording, open_recording
from key2mesh_core.recordings.options import Source, parse_source

_MOST_MISFITS = 0.1
"""If more than this share of the bodies misses the keypoints, something is wrong."""

_HARMLESS = ("threads", "restart", "source", "target")  # options that do not change the result


def mesh(config: MeshConfig) -> int:
    """Makes the target, resuming the work of an earlier process.

    Raises:
        Key2MeshError: the source, the model or an option cannot be used, or there is nobody in the
            recording; the target does not exist then. Or the disk is full: the same command
            resumes.
    """
    source = parse_source(config.source, config.recording_options())
    form = form_of(config, source)
    bundle = load_bundle(config.model)
    recording = open_recording(source)
    with ExitStack() as resources:
        # A library that is interrupted while loading reports that it is not installed.
        with deferred_interrupts() as check_interrupt:
            estimator = Estimator(bundle, config.backend, config.threads)
        resources.callback(estimator.close)
        check_interrupt()
        maker = MeshMaker(estimator, config.vertices, config.smooth)
        resources.enter_context(writing(config.target))
        settings = settings_of(config, form, source, bundle)
        partial = Partial(config.target, settings, config.restart, durable=form != "obj")
        resources.callback(partial.close)
        done = partial.state().get("images", 0)
        if done:
            print(f"resuming after {done} of {len(recording)} frames", file=sys.stderr)
        progress = Progress(len(recording), done)
        try:
            if form == "bag":
                from key2mesh_core.meshing.bag_out import add_meshes  # only bags need rosbags

                add_meshes(config, recording, bundle, maker, partial, progress)
            else:
                _make_arrays(config, form, recording, bundle, maker, partial, progress)
        except KeyboardInterrupt:
            kept = f"{partial.state().get('images', 0)} of {len(recording)} frames are kept"
            progress.end()
            print(f"{kept}; the same command resumes", file=sys.stderr)
            raise
        except TargetError:  # there is nobody in the recording, hence nothing to resume
            partial.clear()
            raise
        finally:
            progress.end()
        if recording.dropped.counts:
            print(f"left out: {recording.dropped}", file=sys.stderr)
        for reason in recording.warnings.values():
            print(f"warning: {reason}", file=sys.stderr)
        if maker.misfits > _MOST_MISFITS * maker.made:
            print(
                f"warning: {maker.misfits} of {maker.made} bodies miss their keypoints: the layout "
                "or the camera is wrong, or the detector does not see people",
                file=sys.stderr,
            )
        print(f"{config.target}: {progress}")
    return 0


def form_of(config: MeshConfig, source: Source) -> str:
    """The output format: "bag", "npz", "obj" or "amass"."""
    bag = source.kind == "bag"
    form = config.form
    if form == "auto":
        if config.target.suffix not in ("", ".npz"):
            raise Key2MeshError(
                f"{config.target}: the extension {config.target.suffix} is unknown: "
                "give a name that ends in .npz, a folder without an extension, or --form"
            )
        form = "npz" if config.target.suffix == ".npz" else "bag" if bag else "obj"
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
    if form == "npz" and config.target.suffix != ".npz":
        raise Key2MeshError(f"{config.target}: the name of an npz file must end in .npz")
    if form == "obj" and not config.vertices:
        raise Key2MeshError("--form obj contains only vertices: omit --no-vertices")
    return form


def settings_of(config: MeshConfig, form: str, source: Source, bundle: Bundle) -> dict[str, Any]:
    """Everything that the result depends on, which must not change when the work is resumed."""
    values = {k: v for k, v in asdict(config).items() if k not in _HARMLESS}
    path = source.path.resolve()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    inside = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    values |= {
        "form": form,
        "image_size": list(config.image_size),
        "source": str(path),
        "source_options": repr(source.options),
        "source_files": hashlib.sha256(repr(inside).encode()).hexdigest(),
        "model": hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
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
            state["images"] = seen
        progress.add(len(batch), len(bodies), [frame.stamp_ns for frame in batch])
    build = {
        "npz": lambda parts, made: arrays.write_npz(parts, made, bundle),
        "obj": arrays.collect_obj,
        "amass": lambda parts, made: write_amass(parts, made, config.body, bundle, config.fps),
    }
    partial.finish(build[form])
