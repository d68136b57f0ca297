# SPDX-License-Identifier: Apache-2.0
"""A bundle's network, read back: the same answers as the deployed graph, and nothing executed."""

import shutil

import numpy as np
import onnx
import pytest
import torch
from helpers_adapt import save_model
from helpers_training import small_body

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BundleError, TrainingError
from key2mesh_core.learning.adapt.initial_weights import load_source, network_of_graph
from key2mesh_core.learning.export import load_network, sample_inputs, write_bundle
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.network.graphs import PoseGraph


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    checkpoint, body = save_model(folder)
    data = load_body(str(body))
    network, _ = load_network(checkpoint, data)
    for blocks in (True, False):
        write_bundle(
            folder / ("blocks" if blocks else "floats"),
            name="mine",
            network=network,
            data=data,
            body=BodyModel(data),
            centre=True,
            card={"centre_view": True, "detector_keypoints": True},
            block_weights=blocks,
        )
    return folder


@pytest.mark.parametrize("kind", ["blocks", "floats"])
def test_the_network_of_a_bundle_answers_as_its_deployed_graph(model, kind):
    data = load_body(str(model / "body.npz"))
    source = load_source(str(model / kind), data)
    keypoints, intrinsics = sample_inputs(64, seed=2)
    keypoints[:, :8, 2] = 0.9
    with torch.no_grad():
        betas, rotations, place, _, joints, _ = PoseGraph(
            source.network, BodyModel(data), source.centre_view
        )(keypoints, intrinsics)
    found = Estimator(load_bundle(model / kind)).estimate(
        keypoints.numpy(), Intrinsics(*intrinsics[0].tolist()), vertices=False
    )
    # Blocks round the inputs of layers to 16 bits.
    close = 1e-3 if kind == "blocks" else 1e-4
    np.testing.assert_allclose(found.betas, betas, atol=close)
    np.testing.assert_allclose(found.rotations, rotations, atol=close)
    shape = found.joints - found.translation[:, None]
    np.testing.assert_allclose(shape, joints - place[:, None], atol=close)


def test_bundle_and_checkpoint_start_from_the_same_network(model):
    data = load_body(str(model / "body.npz"))
    one = load_source(str(model / "floats"), data).network
    other = load_source(str(model / "start.pt"), data).network
    inputs = torch.rand(32, 18, 2)
    with torch.no_grad():
        torch.testing.assert_close(one(inputs).rotations, other(inputs).rotations)


def test_answers_do_not_depend_on_the_batch_nor_on_the_mode(model):
    """BatchNorm is absorbed: there are no statistics left to change."""
    network = load_source(str(model / "start.pt"), load_body(str(model / "body.npz"))).network
    assert not list(network.buffers())
    inputs = torch.rand(32, 18, 2)
    with torch.no_grad():
        alone = network.train()(inputs[:1]).rotations
        together = network.eval()(inputs).rotations[:1]
    torch.testing.assert_close(alone, together)


def test_the_default_bundle_can_be_started_from():
    source = load_source("default", load_body("default"))
    assert source.centre_view
    assert source.name == "key2mesh-default"


def test_another_body_is_refused(model):
    with pytest.raises(TrainingError, match="speaks of the body small@"):
        load_source(str(model / "blocks"), small_body(seed=3))
    with pytest.raises(TrainingError, match="trained on the body small@"):
        load_source(str(model / "start.pt"), small_body(seed=3))


def test_damaged_and_foreign_graphs_are_refused_by_name(model, tmp_path):
    graph = tmp_path / "pose.onnx"
    graph.write_bytes(b"\xff" * 100)
    with pytest.raises(TrainingError, match=r"pose\.onnx: no readable weights"):
        network_of_graph(graph)
    shutil.copy(model / "floats" / "mesh.onnx", graph)
    with pytest.raises(TrainingError, match="layers of the shapes"):
        network_of_graph(graph)
    whole = onnx.load(model / "blocks" / "pose.onnx")
    scales = next(t for t in whole.graph.initializer if t.name.endswith(".scales"))
    whole.graph.initializer.remove(scales)
    onnx.save(whole, graph)
    with pytest.raises(TrainingError, match=r"pose\.onnx: no readable weights"):
        network_of_graph(graph)
    with pytest.raises(BundleError):
        load_source(str(tmp_path / "nothing"), load_body(str(model / "body.npz")))


def test_a_layer_without_activation_is_refused(model, tmp_path):
    whole = onnx.load(model / "floats" / "pose.onnx")
    for node in whole.graph.node:
        if node.op_type == "LeakyRelu":
            node.op_type = "Relu"
            del node.attribute[:]
            break
    onnx.save(whole, tmp_path / "pose.onnx")
    with pytest.raises(TrainingError, match="without its activation"):
        network_of_graph(tmp_path / "pose.onnx")
