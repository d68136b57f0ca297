# SPDX-License-Identifier: Apache-2.0
"""Exports a trained network as a model bundle: weights in blocks and two ONNX graphs, compared with
PyTorch."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from key2mesh_core.body.data import JOINT_NAMES, BodyData
from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.io import replace_folder, restore
from key2mesh_core.keypoints.table import STANDING
from key2mesh_core.learning.export_config import ExportConfig
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.model.block_linear import with_block_weights
from key2mesh_core.model.bundle import (
    MANIFEST,
    MESH_GRAPH,
    POSE_GRAPH,
    WEIGHTS,
    Bundle,
    load_bundle,
    mesh_signature,
    pose_signature,
    write_manifest,
    write_topology,
)
from key2mesh_core.model.engines.onnx import OnnxEngine
from key2mesh_core.network.graphs import MeshGraph, PoseGraph
from key2mesh_core.network.key2mesh import Key2Mesh, folded
from key2mesh_core.network.weights import round_weights, save_weights

OPSET = 20
#: Largest difference of vertices and joints between engines and PyTorch [m]; the second for inputs
#: rounded to 16 bits (see block_linear.py).
PARITY_M, BLOCKS_PARITY_M = 1e-4, 1e-3


def export(config: ExportConfig) -> None:
    """Writes the bundle of `config.checkpoint` to `config.output` and prints the next commands.

    Raises:
        TrainingError: the checkpoint does not match the body, the output cannot be written, or an
            engine's result differs from PyTorch's; an old bundle then remains.
        BundleError: the bundle that `config.checkpoint` names is damaged.
    """
    data = load_body(config.body)
    model = load_trained_model(config.checkpoint, data)
    bundle = write_bundle(
        config.output,
        name=config.name or model.name,
        network=model.network,
        data=data,
        body=BodyModel(data, model.detector_keypoints, model.network.sizes["keypoints"]),
        centre=model.centre_view,
        card=model.card | _facts(config.card),
        block_weights=config.block_weights,
    )
    size = sum(path.stat().st_size for path in bundle.path.iterdir())
    print(
        f"wrote {bundle.path}: {bundle.name} for the body {bundle.body_model}, "
        f"{size / 1e6:.1f} MB\n"
        f"to measure it: key2mesh evaluate --model {bundle.path}\n"
        f"to use it, set the node's parameter model:={bundle.path.resolve()}"
    )


def refuse_occupied(output: Path) -> None:
    """Raises TrainingError if something other than a bundle exists there, which would be
    deleted."""
    free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if not free and not (output / MANIFEST).is_file():
        raise TrainingError(f"{output} exists and is not a model bundle: give another --output")


def _facts(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrainingError(f"--card {path}: cannot be read as JSON ({error})") from error
    if not isinstance(facts, dict):
        raise TrainingError(
            f"--card {path}: must contain an object, contains a {type(facts).__name__}"
        )
    return facts


def write_bundle(
    output: Path,
    *,
    name: str,
    network: Key2Mesh,
    data: BodyData,
    body: BodyModel,
    centre: bool,
    card: Mapping[str, Any],
    block_weights: bool = True,
) -> Bundle:
    """Exports both graphs, compares each with PyTorch and puts the bundle in place atomically.

    Raises TrainingError if the disk is full, ONNX Runtime and PyTorch differ, or something other
    than a bundle exists there.
    """
    output = Path(output)
    refuse_occupied(output)
    network = folded(network)
    if block_weights:
        # Rounded before the comparison, so that the graph is exact and the cost of rounding shows
        # in the bundle's measured errors.
        round_weights(network)
    pose, mesh = PoseGraph(network, body, centre).eval(), MeshGraph(body).eval()
    folder = output.with_name(f".{output.name}.new")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        restore(output)
        shutil.rmtree(folder, ignore_errors=True)  # left by a killed export
        folder.mkdir()
        keypoints = network.sizes["keypoints"]
        samples = sample_inputs(5, keypoints)
        _write_graph(folder / POSE_GRAPH, pose, samples, pose_signature(keypoints), block_weights)
        with torch.no_grad():
            posed = pose(*samples)[:3]
        signature = mesh_signature(len(data.template))
        _write_graph(folder / MESH_GRAPH, mesh, posed, signature, False)
        write_topology(folder, data.triangles, data.parents)
        save_weights(folder / WEIGHTS, network, block_weights)
        write_manifest(
            folder,
            name=name,
            body_model=data.identifier,
            vertex_count=len(data.template),
            joint_names=JOINT_NAMES,
            card=card,
            architecture=network.architecture(),
        )
        difference = parity(folder, pose, mesh, signature)
        if not max(difference.values()) < (BLOCKS_PARITY_M if block_weights else PARITY_M):
            raise TrainingError(f"ONNX Runtime and PyTorch differ by {difference} m: not exported")
        replace_folder(output, folder)
    except OSError as error:
        raise TrainingError(
            f"{output}: cannot be written ({error}); free some space or make it writable, then "
            "give the same command again"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return load_bundle(output)


def parity(folder: Path, pose: PoseGraph, mesh: MeshGraph, signature: Any) -> dict[str, float]:
    """Largest difference [m] of joints and vertices between ONNX Runtime and PyTorch."""
    count = pose.network.sizes["keypoints"]
    keypoints, intrinsics = sample_inputs(64, count, seed=1)
    with torch.no_grad():
        betas, rotations, translation, _, joints, _ = pose(keypoints, intrinsics)
        vertices = mesh(betas, rotations, translation)
    found = OnnxEngine(folder / POSE_GRAPH, signature=pose_signature(count)).run(
        {"keypoints": keypoints.numpy(), "intrinsics": intrinsics.numpy()}
    )
    inputs = {key: found[key] for key in ("betas", "rotations", "translation")}
    found |= OnnxEngine(folder / MESH_GRAPH, signature=signature).run(inputs)
    # Relative to the pelvis, because a far person's depth is a ratio of small numbers.
    place, true_place = found["translation"][:, None], translation[:, None].numpy()
    return {
        "joints": float(np.abs((found["joints"] - place) - (joints.numpy() - true_place)).max()),
        "vertices": float(
            np.abs((found["vertices"] - place) - (vertices.numpy() - true_place)).max()
        ),
    }


def sample_inputs(
    count: int, keypoints: int = len(STANDING), seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Plausible keypoints (N, K, 3) of a person, with some unseen, and intrinsics (N, 4)."""
    random = torch.Generator().manual_seed(seed)
    standing = torch.tensor(STANDING[:keypoints])
    middle = torch.tensor([320.0, 240.0]) + 100 * torch.randn(count, 1, 2, generator=random)
    noise = 15 * torch.randn(count, keypoints, 2, generator=random)
    confidence = torch.rand(count, keypoints, 1, generator=random)
    people = torch.cat([middle + 320 * standing + noise, confidence], 2)
    return people, torch.tensor([[500.0, 510.0, 320.0, 240.0]]).repeat(count, 1)


def _write_graph(
    path: Path, module: nn.Module, samples: tuple[Tensor, ...], signature: Any, blocks: bool
) -> None:
    persons = torch.export.Dim("persons", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            samples,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_shapes=tuple({0: persons} for _ in samples),
        )
    model = program.model_proto
    for node in model.graph.node:
        # The exporter stores the source files and lines of this machine in every node.
        del node.metadata_props[:]
    del model.graph.metadata_props[:]
    if blocks:
        model = with_block_weights(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
