# SPDX-License-Identifier: Apache-2.0
"""The table of commands: the addresses of each command's options and function, and an example.

A command is one row here and one dataclass of options. Addresses are strings, so that a command's
modules are imported only when it runs: `key2mesh view` needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command: addresses of its options (a dataclass, or a dictionary of recipes by name, with
    summary and options) and of the function that is called with them, whose result, if an integer,
    is the exit status; a summary; a working command line; `required`, options of recipes without a
    default. Recipes are chosen with `--recipe NAME` (`recipe_option`) or by a subcommand; options
    without a default may be `positional`."""

    config: str
    run: str
    summary: str
    example: str
    required: tuple[str, ...] = ()
    recipe_option: bool = False
    positional: bool = False


COMMANDS: dict[str, Command] = {
    "mesh": Command(
        "key2mesh_core.meshing.config:MeshConfig",
        "key2mesh_core.meshing.job:mesh",
        "make body meshes from a recording: bag to bag, .npz, .obj or AMASS layout",
        "key2mesh mesh my_bag people.npz",
        positional=True,
    ),
    "mesh-all": Command(
        "key2mesh_core.fleet.config:MeshAllConfig",
        "key2mesh_core.fleet.mesh_all:mesh_all",
        "make body meshes from many recordings, in shards or on Ray",
        "key2mesh mesh-all 'bags/*' meshes --shard 0/4",
        positional=True,
    ),
    "view": Command(
        "key2mesh_core.cli.view:ViewConfig",
        "key2mesh_core.cli.view:view",
        "show body meshes in a browser: the node's, or those of a recording",
        "key2mesh view my_bag",
    ),
    "targets": Command(
        "key2mesh_core.cli.targets:TargetsConfig",
        "key2mesh_core.cli.targets:inspect",
        "inspect recorded keypoints before adapting to them",
        "key2mesh targets bag:my_bag --picture people.png",
    ),
    "adapt": Command(
        "key2mesh_core.learning.adapt.config:ADAPT_RECIPES",
        "key2mesh_core.learning.adapt.job:adapt",
        "adapt a model to a robot's own detections, without labels",
        "key2mesh adapt --target bag:my_bag --output my_model",
        required=("target",),
        recipe_option=True,
    ),
    "adapt-all": Command(
        "key2mesh_core.fleet.adapt_config:ADAPT_ALL_RECIPES",
        "key2mesh_core.fleet.adapt_all:adapt_all",
        "adapt a model to each of many robots, in shards or on Ray",
        "key2mesh adapt-all --robots robots.jsonl --output models",
        required=("robots",),
        recipe_option=True,
    ),
    "evaluate": Command(
        "key2mesh_core.evaluation.config:EvaluateConfig",
        "key2mesh_core.evaluation.evaluate:evaluate",
        "measure a model bundle in millimetres",
        "key2mesh evaluate --model my_model --clips path/to/amass/test",
    ),
    "evaluate 3dpw": Command(
        "key2mesh_core.evaluation.benchmarks.config:ThreeDPWConfig",
        "key2mesh_core.evaluation.benchmarks.run:evaluate_3dpw",
        "measure a model on your copy of 3DPW, beside the published rows",
        "key2mesh evaluate 3dpw --root 3DPW --body-folder smpl --regressor J_regressor_h36m.npy",
    ),
    "evaluate h36m": Command(
        "key2mesh_core.evaluation.benchmarks.config:Human36mConfig",
        "key2mesh_core.evaluation.benchmarks.run:evaluate_h36m",
        "measure a model on Human3.6M, Protocol 2",
        "key2mesh evaluate h36m --root h36m_valid_protocol2.npz --detections openpose "
        "--body-folder smpl --regressor J_regressor_h36m.npy",
    ),
    "evaluate emdb": Command(
        "key2mesh_core.evaluation.benchmarks.config:EmdbConfig",
        "key2mesh_core.evaluation.benchmarks.run:evaluate_emdb",
        "measure a model on EMDB 1",
        "key2mesh evaluate emdb --root EMDB --body-folder smpl --detections openpose",
    ),
    "pretrain": Command(
        "key2mesh_core.learning.pretrain.config:PRETRAIN_RECIPES",
        "key2mesh_core.learning.pretrain.job:pretrain",
        "train the network on motion capture",
        "key2mesh pretrain robot --motions path/to/amass --output runs/mine",
        required=("motions",),
    ),
    "motions": Command(
        "key2mesh_core.cli.motions:MotionsConfig",
        "key2mesh_core.cli.motions:motions",
        "list what a folder of motion capture holds",
        "key2mesh motions path/to/amass",
    ),
    "export": Command(
        "key2mesh_core.learning.export_config:ExportConfig",
        "key2mesh_core.learning.export:export",
        "export a training checkpoint, or a bundle's own weights, as a model bundle",
        "key2mesh export --checkpoint runs/mine/best.pt --output my_model",
    ),
    "build-engine": Command(
        "key2mesh_core.cli.build_engine:BuildEngineConfig",
        "key2mesh_core.cli.build_engine:build_engine",
        "build a model bundle's TensorRT engines for this GPU",
        "key2mesh build-engine --model my_model",
    ),
    "body info": Command(
        "key2mesh_core.cli.body:BodyInfoConfig",
        "key2mesh_core.cli.body:info",
        "print the contents of a body file",
        "key2mesh body info SMPL_NEUTRAL.pkl",
    ),
    "body convert": Command(
        "key2mesh_core.cli.body:BodyConvertConfig",
        "key2mesh_core.cli.body:convert",
        "convert an SMPL download to an .npz that loads fast and safely",
        "key2mesh body convert SMPL_NEUTRAL.pkl smpl.npz",
        positional=True,
    ),
    "body transfer": Command(
        "key2mesh_core.cli.body_transfer:BodyTransferConfig",
        "key2mesh_core.cli.body_transfer:transfer_bodies",
        "convert bodies to parameters of your SMPL",
        "key2mesh body transfer people.npz smpl_people.npz SMPL_NEUTRAL.pkl",
        positional=True,
    ),
    "body render": Command(
        "key2mesh_core.cli.body:BodyRenderConfig",
        "key2mesh_core.cli.body:render",
        "draw a body file",
        "key2mesh body render smpl.npz smpl.png --betas 2 0 -1",
        positional=True,
    ),
}
