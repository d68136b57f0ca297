# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: from what was recorded to what was asked for."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.interrupts import deferred_interrupts
from key2mesh_core.meshing import arrays
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.partial import Partial, writing
from key2mesh_core.meshing.people import Image, MeshMaker, batches
from key2mesh_core.meshing.progress import Progress
from key2mesh_core.model.bundle import MANIFEST, Bundle, load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.dropped import DroppedRecords

ASSUMED_QUALITY = 0.5
"""Most that `quality` may say while the camera is a guess, as from the node."""

_HARMLESS = ("threads", "restart", "source", "target")  # options that change nothing in the result


def mesh(config: MeshConfig) -> int:
    """Makes the target, going on with what an earlier process began.

    Raises:
        Key2MeshError: the source, the model or an option cannot be used; nothing was written
            then. Or the disk is full: the same command goes on where it was.
    """
    form = form_of(config)
    bundle = load_bundle(config.model)
    with ExitStack() as resources:
        # A library that is interrupted while it loads says that it is not installed.
        with deferred_interrupts() as check_interrupt:
            estimator = Estimator(bundle, config.backend, config.threads)
        resources.callback(estimator.close)
        check_interrupt()
        maker = MeshMaker(estimator, config.vertices, config.smooth)
        work, count, losses, assumed = _prepare(config, form, bundle, maker)
        if assumed:
            print(
                "nothing is known of the camera: 60 degrees are assumed, and positions are to "
                "scale only (--fov, --camera-fx, --camera-topic)",
                file=sys.stderr,
            )
        resources.enter_context(writing(config.target))
        settings = settings_of(config, form, bundle)
        partial = Partial(config.target, settings, config.restart, durable=form != "obj")
        resources.callback(partial.close)
        done = partial.state().get("images", 0)
        if done:
            print(f"going on behind {done} of {count} frames", file=sys.stderr)
        progress = Progress(count, done)
        try:
            work(partial, progress)
        except KeyboardInterrupt:
            progress.end()
            kept = partial.state().get("images", 0)
            print(f"{kept} of {count} frames are kept; the same command goes on", file=sys.stderr)
            raise
        progress.end()
        if losses.counts:
            print(f"messages refused: {losses}", file=sys.stderr)
        print(_summary(config, progress))
    return 0


def form_of(config: MeshConfig) -> str:
    """What to make: "bag", "npz", "obj" or "amass".

    Raises:
        Key2MeshError: the source is not there, or cannot become that.
    """
    if not config.source.exists():
        raise Key2MeshError(f"there is no {config.source}")
    of_bag = _is_bag(config.source)
    form = config.form
    if form == "auto":
        form = "npz" if config.target.suffix == ".npz" else "bag" if of_bag else "obj"
    if form == "bag" and not of_bag:
        raise Key2MeshError(
            f"{config.source} is no bag, and only a bag becomes one: choose another --form"
        )
    if config.source.resolve() in config.target.resolve().parents:
        raise Key2MeshError(f"{config.target} lies in {config.source}: choose a place outside")
    if form == "npz" and config.target.suffix != ".npz":
        raise Key2MeshError(f"{config.target}: an npz file's name ends in .npz")
    if form == "obj" and not config.vertices:
        raise Key2MeshError("--form obj is nothing but vertices: leave --no-vertices out")
    return form


def settings_of(config: MeshConfig, form: str, bundle: Bundle) -> dict[str, Any]:
    """All that the result depends on: what goes on must go on with the same."""
    values = {k: v for k, v in asdict(config).items() if k not in _HARMLESS}
    source = config.source.resolve()
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    inside = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    values |= {
        "form": form,
        "image_size": list(config.image_size),
        "source": str(source),
        "source_files": hashlib.sha256(repr(inside).encode()).hexdigest(),
        "model": hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
    }
    return values


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".mcap", ".db3")
    return any(p.name == "metadata.yaml" or p.suffix in (".mcap", ".db3") for p in path.iterdir())


Work = Callable[[Partial, Progress], None]


def _prepare(
    config: MeshConfig, form: str, bundle: Bundle, maker: MeshMaker
) -> tuple[Work, int, DroppedRecords, bool]:
    """What to do, how many frames there are, what gets lost, whether the camera is a guess.

    Whatever is wrong with the source is found here, before anything is written.
    """
    if not _is_bag(config.source):
        from key2mesh_core.meshing.openpose_in import OpenPoseImages

        images = OpenPoseImages(config)
        return (
            _arrays(form, images, config, bundle, maker),
            len(images),
            images.losses,
            images.assumed,
        )
    # Bags need the package rosbags, which nothing else here does.
    from key2mesh_core.meshing.bag_in import BagKeypoints, bag_images
    from key2mesh_core.meshing.bag_out import add_meshes

    keypoints = BagKeypoints(config)
    if form == "bag":

        def work(partial: Partial, progress: Progress) -> None:
            most = ASSUMED_QUALITY if keypoints.assumed else 1.0
            add_meshes(config, keypoints, bundle, maker, partial, progress, most)

    else:
        images = bag_images(keypoints, config.source)
        work = _arrays(form, images, config, bundle, maker)
    return work, keypoints.count, keypoints.losses, keypoints.assumed


def _arrays(
    form: str, images: Iterable[Image], config: MeshConfig, bundle: Bundle, maker: MeshMaker
) -> Work:
    """The work on everything but bags: a segment is what the engine gets at once."""

    def work(partial: Partial, progress: Progress) -> None:
        done = partial.state().get("images", 0)
        for batch in batches(images):
            if batch[-1].number < done:
                maker.recall(batch)
                continue
            named, bodies = maker.make(batch)
            with partial.segment() as (folder, state):
                if form == "obj":
                    arrays.write_obj(folder, named, bodies, bundle)
                else:
                    arrays.write_part(folder, named, bodies)
                state["images"] = batch[-1].number + 1
            progress.add(len(batch), len(bodies), [image.stamp_ns for image in batch])
        partial.finish(finish)

    def finish(segments: list[Path], made: Path) -> None:
        match form:
            case "npz":
                arrays.write_npz(segments, made, bundle)
            case "obj":
                arrays.collect_obj(segments, made)
            case _:
                arrays.write_amass(segments, made, config.body, bundle, config.fps)

    return work


def _summary(config: MeshConfig, progress: Progress) -> str:
    return (
        f"{config.target}: {progress.frames} frames; {progress.bodies} bodies in "
        f"{progress.seconds:.1f} s, {progress.times_real_time:.1f} times as fast as recorded"
    )
