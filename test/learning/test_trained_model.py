# SPDX-License-Identifier: Apache-2.0
"""A model read from a bundle or a checkpoint answers as the deployed graph does."""

import numpy as np
import onnx
import pytest
import torch
from helpers_adapt import save_model
from helpers_training import small_body
from onnx import numpy_helper

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BundleError, TrainingError
from key2mesh_core.learning.export import sample_inputs, write_bundle
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.network.graphs import PoseGraph


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    checkpoint, body = save_model(folder)
    data = load_body(str(body))
    trained = load_trained_model(checkpoint, data)
    for blocks in (True, False):
        write_bundle(
            folder / ("blocks" if blocks else "floats"),
            name="mine",
            network=trained.network,
            data=data,
            body=BodyModel(data),
            centre=True,
            card=trained.card,
            block_weights=blocks,
        )
    return folder


@pytest.mark.parametrize("kind", ["blocks", "floats"])
def test_the_network_of_a_bundle_answers_as_its_deployed_graph(model, kind):
    data = load_body(str(model / "body.npz"))
    trained = load_trained_model(model / kind, data)
    keypoints, intrinsics = sample_inputs(64, seed=2)
    keypoints[:, :8, 2] = 0.9
    with torch.no_grad():
        betas, rotations, place, _, joints, _ = PoseGraph(
            trained.network, BodyModel(data), trained.centre_view
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


@pytest.mark.parametrize("kind", ["blocks", "floats"])
def test_a_bundles_weights_are_exported_again_without_a_change(model, kind, tmp_path):
    data = load_body(str(model / "body.npz"))
    trained = load_trained_model(model / kind, data)
    again = write_bundle(
        tmp_path / "again",
        name=trained.name,
        network=trained.network,
        data=data,
        body=BodyModel(data),
        centre=True,
        card=trained.card,
        block_weights=kind == "blocks",
    )
    weights = "weights.safetensors"
    assert (again.path / weights).read_bytes() == (model / kind / weights).read_bytes()


def test_bundle_and_checkpoint_start_from_the_same_network(model):
    data = load_body(str(model / "body.npz"))
    one = load_trained_model(model / "floats", data).network
    other = load_trained_model(model / "start.pt", data).network
    inputs = torch.rand(32, 18, 2)
    with torch.no_grad():
        torch.testing.assert_close(one(inputs).rotations, other(inputs).rotations)


def test_answers_do_not_depend_on_the_batch_nor_on_the_mode(model):
    """BatchNorm is absorbed: there are no statistics left to change."""
    network = load_trained_model(model / "start.pt", load_body(str(model / "body.npz"))).network
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
    assert compared == 16


def test_another_body_is_refused(model):
    for name in ("blocks", "start.pt"):
        with pytest.raises(TrainingError, match="made with the body small@"):
            load_trained_model(model / name, small_body(seed=3))


def test_a_model_that_is_not_there_is_refused(model, tmp_path):
    with pytest.raises(BundleError, match="nothing"):
        load_trained_model(tmp_path / "nothing", load_body(str(model / "body.npz")))
