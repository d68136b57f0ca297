# SPDX-License-Identifier: Apache-2.0
"""A model read from a bundle or a checkpoint answers as the deployed graph does."""

import numpy as np
import onnx
import pytest
import torch
from helpers_training import small_body
from onnx import numpy_helper

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BundleError, TrainingError
from key2mesh_core.learning.export import sample_inputs
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.model.bundle import WEIGHTS, load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.network.graphs import PoseGraph
from key2mesh_core.network.weights import round_weights, save_weights

BODY = small_body(correctives=True)


def test_the_network_of_a_bundle_answers_as_its_deployed_graph(exported):
    trained = load_trained_model(exported.path, BODY)
    keypoints, intrinsics = sample_inputs(64, seed=2)
    keypoints[:, :8, 2] = 0.9
    with torch.no_grad():
        betas, rotations, place, _, joints, _ = PoseGraph(
            trained.network, BodyModel(BODY), trained.centre_view
        )(keypoints, intrinsics)
    found = Estimator(exported).estimate(
        keypoints.numpy(), Intrinsics(*intrinsics[0].tolist()), vertices=False
    )
    # Blocks round the inputs of layers to 16 bits.
    np.testing.assert_allclose(found.betas, betas, atol=1e-3)
    np.testing.assert_allclose(found.rotations, rotations, atol=1e-3)
    shape = found.joints - found.translation[:, None]
    np.testing.assert_allclose(shape, joints - place[:, None], atol=1e-3)


def test_a_bundles_weights_are_written_again_without_a_change(exported, tmp_path):
    network = load_trained_model(exported.path, BODY).network
    round_weights(network)  # as every export does
    save_weights(tmp_path / WEIGHTS, network, blocks=True)
    assert (tmp_path / WEIGHTS).read_bytes() == (exported.path / WEIGHTS).read_bytes()


def test_bundle_and_checkpoint_start_from_the_same_network(exported, checkpoint):
    """But for the rounding to what the bundle's blocks hold."""
    one = load_trained_model(exported.path, BODY).network
    other = load_trained_model(checkpoint, BODY).network
    round_weights(other)
    inputs = torch.rand(32, 18, 2)
    with torch.no_grad():
        torch.testing.assert_close(one(inputs).rotations, other(inputs).rotations)


def test_predictions_do_not_depend_on_the_batch_nor_on_the_mode(checkpoint):
    """BatchNorm is absorbed: there are no statistics left to change."""
    network = load_trained_model(checkpoint, BODY).network
    assert not list(network.buffers())
    inputs = torch.rand(32, 18, 2)
    with torch.no_grad():
        alone = network.train()(inputs[:1]).rotations
        together = network.eval()(inputs).rotations[:1]
    torch.testing.assert_close(alone, together)


def test_the_default_bundle_holds_the_weights_that_its_graph_runs():
    """Down to the integers: adaptation starts from what robots run."""
    trained = load_trained_model("default", load_body("default"))
    assert (trained.name, trained.centre_view) == ("key2mesh-default", True)
    graph = onnx.load(load_bundle().pose_path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    compared = 0
    for name, value in trained.network.state_dict().items():
        tensor = stored.get(f"network.{name}")
        blocks = stored.get(f"network.{name}.blocks")
        if blocks is not None:
            scales = np.repeat(stored[f"network.{name}.scales"], 64, axis=0)
            tensor = (blocks.astype(np.float32) * scales).T
        np.testing.assert_array_equal(value.numpy(), tensor)
        compared += 1
    assert compared == 18


def test_another_body_is_refused(exported, checkpoint):
    for path in (exported.path, checkpoint):
        with pytest.raises(TrainingError, match="the body small@"):
            load_trained_model(path, small_body(seed=3))


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BundleError, match="nothing"):
        load_trained_model(tmp_path / "nothing", BODY)
