# SPDX-License-Identifier: Apache-2.0
"""Other graphs than the shipped ones that compute the same, or nearly: what `engine_options` tries.

The pose graph with weights as 32-bit floats, with BatchNorm not folded away, and with integer
weights whose inputs are rounded to 8 bits as ONNX Runtime does it by itself. The mesh graph with
transforms mixed by a dense product or gathered for the joints that move a vertex.
"""

from __future__ import annotations

import io
import logging
import warnings

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.learning.export import sample_inputs
from key2mesh_core.model.block_linear import BLOCK, DOMAIN, NAME, OPSET, with_float_weights
from key2mesh_core.model.bundle import POSE_SIGNATURE, Bundle, mesh_signature
from key2mesh_core.model.engines.protocol import Signature
from key2mesh_core.network.graphs import MeshGraph, PoseGraph


def pose(bundle: Bundle, module: PoseGraph) -> dict[str, bytes]:
    """Pose graphs by what is different about them; `module`: the bundle's, BatchNorm and all."""
    shipped = onnx.load(bundle.pose_path)
    found = {
        "weights as 32-bit floats": with_float_weights(shipped).SerializeToString(),
        "the same, BatchNorm not folded": _export(module, sample_inputs(5), POSE_SIGNATURE),
    }
    if any(each.name == NAME for each in shipped.functions):
        found["inputs of products rounded to 8 bits"] = _rounding(shipped).SerializeToString()
    return found


def mesh(data: BodyData, bundle: Bundle) -> dict[str, bytes]:
    """Mesh graphs by how they mix the joints' transforms."""
    samples = (torch.zeros(5, 10), torch.eye(3).expand(5, 24, 3, 3).clone(), torch.zeros(5, 3))
    signature = mesh_signature(bundle.vertex_count)
    body = BodyModel(data, bundle.card["detector_keypoints"])
    return {
        "skinning by a dense product": _export(MeshGraph(body), samples, signature),
        "skinning by gathered joints": _export(GatheredMesh(body), samples, signature),
    }


class GatheredMesh(nn.Module):
    """`MeshGraph` that fetches, for each vertex, the transforms of the few joints that move it."""

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        self.body = body
        weights = body.skinning_weights.T
        most = int((weights > 0).sum(1).max())
        share, joints = weights.topk(most, dim=1)
        self.register_buffer("share", share.T.contiguous())
        self.register_buffer("joints", joints.T.contiguous())

    def forward(self, betas: Tensor, rotations: Tensor, translation: Tensor) -> Tensor:
        body = self.body
        joints, world = body.forward_kinematics(betas, rotations)
        count = body.vertex_template.shape[1]
        shift = nn.functional.linear(betas, body.vertex_shape).reshape(-1, 3, count)
        shaped = body.vertex_template + shift
        if body.vertex_pose is not None:
            feature = (rotations[:, 1:] - torch.eye(3)).flatten(1)
            shaped = shaped + nn.functional.linear(feature, body.vertex_pose).reshape(-1, 3, count)
        rest = nn.functional.linear(betas, body.joint_shape, body.joint_template).reshape(-1, 24, 3)
        moved = joints - (world @ rest[..., None])[..., 0]
        transforms = torch.cat([world.flatten(2), moved], dim=2).transpose(1, 2)
        skinned = sum(
            transforms.index_select(2, tied) * share
            for tied, share in zip(self.joints, self.share, strict=True)
        )
        turned = (skinned[:, :9].reshape(-1, 3, 3, count) * shaped[:, None]).sum(2)
        return (turned + skinned[:, 9:]).transpose(1, 2) + translation[:, None]


def _rounding(shipped: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with products of blocks left to ONNX Runtime, which rounds their inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(shipped)
    nodes = [
        helper.make_node(
            "DequantizeLinear", ["blocks", "scales"], ["weight"], axis=0, block_size=BLOCK
        ),
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    function = helper.make_function(
        DOMAIN,
        NAME,
        ["x", "blocks", "scales", "bias"],
        ["y"],
        nodes,
        [helper.make_opsetid("", OPSET)],
    )
    del model.functions[:]
    model.functions.append(function)
    return model


def _export(module: nn.Module, samples: tuple[Tensor, ...], signature: Signature) -> bytes:
    persons = torch.export.Dim("persons", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            samples,
            dynamo=True,
            verbose=False,
            opset_version=20,
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_shapes=tuple({0: persons} for _ in samples),
        )
    written = io.BytesIO()
    onnx.save(program.model_proto, written)
    return written.getvalue()
