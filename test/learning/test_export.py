# SPDX-License-Identifier: Apache-2.0
"""Checkpoint to bundle: the graphs say what PyTorch says, whatever the batch, in millimetres."""

import shutil

import numpy as np
import onnx
import pytest
import torch
from helpers_training import small_body

from key2mesh_core.body.files import save_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BundleError, TrainingError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.learning import export as export_module
from key2mesh_core.learning.export import (
    export,
    sample_inputs,
    write_bundle,
)
from key2mesh_core.learning.export_config import ExportConfig
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.network.graphs import MeshGraph, PoseGraph
from key2mesh_core.network.key2mesh import Key2Mesh
from key2mesh_core.network.weights import round_weights

BODY = small_body(correctives=True)


@pytest.mark.parametrize("count", [1, 2, 8, 64, 512])
def test_the_estimator_says_what_pytorch_says(exported, checkpoint, count):
    network = load_trained_model(checkpoint, BODY).network
    round_weights(network)
    body = BodyModel(BODY)
    keypoints, intrinsics = sample_inputs(count, seed=count)
    keypoints[:, :8, 2] = 0.9
    with torch.no_grad():
        betas, rotations, place, _, joints, error = PoseGraph(network, body, True)(
            keypoints, intrinsics
        )
        vertices = MeshGraph(body)(betas, rotations, place)
    camera = Intrinsics(*intrinsics[0].tolist())
    found = Estimator(exported).estimate(keypoints.numpy(), camera)
    np.testing.assert_allclose(found.betas, betas, atol=1e-4)
    np.testing.assert_allclose(found.rotations, rotations, atol=1e-4)
    turned = axis_angle_to_matrix(found.poses.reshape(count, 24, 3))
    np.testing.assert_allclose(turned, found.rotations, atol=1e-5)
    np.testing.assert_allclose(found.reprojection_error, error, rtol=1e-3)
    shape_mm = 1000 * np.abs(
        (found.vertices - found.translation[:, None]) - (vertices - place[:, None]).numpy()
    )
    assert shape_mm.max() < 0.1
    np.testing.assert_allclose(found.translation, place, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.joints, joints, rtol=1e-3, atol=1e-3)


def test_weights_are_stored_in_blocks_and_nothing_of_this_machine(exported):
    model = onnx.load(exported.pose_path)
    kinds = [t.data_type for t in model.graph.initializer if np.prod(t.dims) > 6e4]
    assert kinds
    assert set(kinds) == {onnx.TensorProto.INT8}
    content = exported.pose_path.read_bytes() + exported.mesh_path.read_bytes()
    for trace in (b"site-packages", b"graphs.py", b"network.py"):
        assert trace not in content


def test_the_card_says_what_it_was_told_and_what_it_knows(exported):
    assert exported.card["trained_on"] == "made-up motion"
    assert exported.card["steps"] == 7
    assert exported.card["centre_view"] is True
    assert exported.name == "mine"
    assert exported.body_model == BODY.identifier


def test_a_body_that_the_network_was_not_trained_on_is_refused(checkpoint, tmp_path):
    save_body(tmp_path / "other.npz", small_body(seed=5))
    with pytest.raises(TrainingError, match=" small@"):
        export(ExportConfig(checkpoint, tmp_path / "out", body=str(tmp_path / "other.npz")))
    assert not (tmp_path / "out").exists()


def test_a_failed_export_leaves_the_old_bundle(exported, checkpoint, monkeypatch, tmp_path):
    """Graphs of one network beside the weights of another: the comparison must notice."""
    monkeypatch.setattr(
        export_module,
        "_write_graph",
        lambda path, *_: shutil.copy(exported.path / path.name, path),
    )
    manifest = (exported.path / "model.json").read_bytes()
    with pytest.raises(TrainingError, match=r"differ by .* not exported"):
        write_bundle(
            exported.path,
            name="other",
            network=Key2Mesh(features=256).eval(),
            data=BODY,
            body=BodyModel(BODY),
            centre=True,
            card={},
        )
    assert (exported.path / "model.json").read_bytes() == manifest
    load_bundle(exported.path)
    assert [path.name for path in exported.path.parent.iterdir()] == ["mine"]


def test_a_full_disk_leaves_the_old_bundle(exported, checkpoint, monkeypatch):
    def full(path, *_args):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(export_module, "_write_graph", full)
    body = str(checkpoint.parent / "body.npz")
    with pytest.raises(TrainingError, match="No space left"):
        export(ExportConfig(checkpoint, exported.path, body=body))
    load_bundle(exported.path)
    assert [path.name for path in exported.path.parent.iterdir()] == ["mine"]


def test_a_truncated_graph_is_refused_by_name(exported, tmp_path):
    shutil.copytree(exported.path, tmp_path / "cut")
    content = exported.pose_path.read_bytes()
    (tmp_path / "cut" / "pose.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match=r"pose\.onnx.*truncated"):
        load_bundle(tmp_path / "cut")
