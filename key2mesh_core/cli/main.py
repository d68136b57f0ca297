# SPDX-License-Identifier: Apache-2.0
"""The `key2mesh` command: one job per word, its options generated from the job's config dataclass.

The top of the house: it may call everything and nothing imports it. A job's modules are imported
only when that job runs, so `key2mesh view` needs no torch and `key2mesh --help` needs nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

from key2mesh_core.errors import Key2MeshError


@dataclass(frozen=True)
class Job:
    """A word of the command line: where its config dataclass and its function live."""

    config: str
    run: str
    summary: str
    recipe_option: bool = False
    """Recipes are chosen by `--recipe NAME` and not by a word of their own."""


JOBS: dict[str, Job] = {
    "pretrain": Job(
        "key2mesh_core.learning.pretrain.config:PRETRAIN_RECIPES",
        "key2mesh_core.learning.pretrain.job:pretrain",
        "train the network on motion capture",
    ),
    "targets": Job(
        "key2mesh_core.cli.targets:TargetsConfig",
        "key2mesh_core.cli.targets:inspect",
        "look at recorded detections before adapting to them",
    ),
    "adapt": Job(
        "key2mesh_core.learning.adapt.config:ADAPT_RECIPES",
        "key2mesh_core.learning.adapt.job:adapt",
        "adapt a model to a robot's own detections, without labels",
        recipe_option=True,
    ),
    "export": Job(
        "key2mesh_core.learning.pretrain.config:ExportConfig",
        "key2mesh_core.learning.export:export",
        "turn a checkpoint into a model bundle",
    ),
    "evaluate": Job(
        "key2mesh_core.evaluation.config:EvaluateConfig",
        "key2mesh_core.evaluation.evaluate:evaluate",
        "measure a model bundle in millimetres",
    ),
    "mesh": Job(
        "key2mesh_core.meshing.config:MeshConfig",
        "key2mesh_core.meshing.job:mesh",
        "make meshes of a recording: bag to bag, npz, obj or AMASS's layout",
    ),
    "build-engine": Job(
        "key2mesh_core.cli.build_engine:BuildEngineConfig",
        "key2mesh_core.cli.build_engine:build_engine",
        "build a model bundle's TensorRT engines for this GPU",
    ),
    "view": Job(
        "key2mesh_core.cli.view:ViewConfig",
        "key2mesh_core.cli.view:view",
        "watch meshes live in a browser",
    ),
    "body info": Job(
        "key2mesh_core.cli.body:BodyInfoConfig",
        "key2mesh_core.cli.body:info",
        "say what a body file holds",
    ),
    "body convert": Job(
        "key2mesh_core.cli.body:BodyConvertConfig",
        "key2mesh_core.cli.body:convert",
        "turn an SMPL download into an .npz that loads fast and safely",
    ),
    "body render": Job(
        "key2mesh_core.cli.body:BodyRenderConfig",
        "key2mesh_core.cli.body:render",
        "draw a body file",
    ),
}


def help_text() -> str:
    """The page that `key2mesh --help` prints."""
    width = max(map(len, JOBS))
    lines = [f"  key2mesh {name:<{width}}  {job.summary}" for name, job in JOBS.items()]
    return "\n".join(
        [
            "usage: key2mesh JOB [OPTIONS]        (key2mesh JOB --help tells a job's options)",
            "",
            "From 2D keypoints to SMPL body meshes in metres.",
            "",
            *lines,
        ]
    )


def split_job(arguments: list[str]) -> tuple[str, list[str]]:
    """The job's name and what is left for it; raises Key2MeshError for an unknown one."""
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in JOBS:
            return name, arguments[words:]
    group = [name for name in JOBS if name.startswith(f"{arguments[0]} ")]
    known = ", ".join(group or JOBS)
    raise Key2MeshError(f"there is no job {' '.join(arguments[:2])!r}; the jobs are: {known}")


def main(arguments: list[str] | None = None) -> int:
    """Runs one job; returns the process's exit status (2: refused input, 130: interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        return 0 if arguments else 2
    # OpenMP's threads wait by spinning: with anything else running on the same cores, training
    # took ten times as long. Sleeping costs next to nothing. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        name, rest = split_job(arguments)
        job = JOBS[name]
        import tyro  # here, so that a bare --help stays instant

        config = _find(job.config)
        program = {"args": rest, "prog": f"key2mesh {name}"}
        if job.recipe_option:
            defaults = config[_recipe_of(rest, config)][1]
            settings = tyro.cli(type(defaults), default=defaults, **program)
        elif isinstance(config, dict):  # several recipes of one job, each a word of its own
            settings = tyro.extras.overridable_config_cli(config, **program)
        else:
            settings = tyro.cli(config, **program)
        result = _find(job.run)(settings)
        return result if isinstance(result, int) else 0
    except Key2MeshError as error:
        print(f"key2mesh: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0].startswith("key2mesh"):
            raise
        print(
            f"key2mesh: this job needs the package {error.name!r}, which is not installed here; "
            "pip install 'key2mesh[train,view]' brings all that the jobs need",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("key2mesh: interrupted", file=sys.stderr)
        return 130


def _recipe_of(arguments: list[str], recipes: dict[str, Any]) -> str:
    """What `--recipe` names; the first recipe where it is not given, or names none (tyro says so
    better)."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name = word.removeprefix("--recipe=") if word.startswith("--recipe=") else following
        if word.startswith("--recipe") and name in recipes:
            return name
    return next(iter(recipes))


def _find(address: str) -> Any:
    module, name = address.split(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    sys.exit(main())
