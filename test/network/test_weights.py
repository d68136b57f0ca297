# SPDX-License-Identifier: Apache-2.0
"""weights.safetensors: what was saved is loaded, bit for bit; what does not fit is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_bundle import make_bundle
from safetensors.numpy import load, save
from torch import nn

from key2mesh_core.errors import BundleError, TrainingError
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.model.bundle import WEIGHTS, Bundle, load_bundle
from key2mesh_core.network.key2mesh import Key2Mesh, folded
from key2mesh_core.network.weights import build, load_network, round_weights, save_weights


def small_network() -> Key2Mesh:
    torch.manual_seed(3)
    network = Key2Mesh(0.0, features=128)
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0.1, 0.4)
    return folded(network)


def bundle_of(folder: Path, network: Key2Mesh, blocks: bool) -> Bundle:
    make_bundle(folder)
    save_weights(folder / WEIGHTS, network, blocks)
    return dataclasses.replace(load_bundle(folder), architecture=network.architecture())


@pytest.mark.parametrize("blocks", [True, False])
def test_what_was_saved_is_loaded(tmp_path, blocks):
    network = small_network()
    if blocks:
        round_weights(network)
    found = load_network(bundle_of(tmp_path, network, blocks))
    stored = load((tmp_path / WEIGHTS).read_bytes())
    assert any(each.dtype == np.int8 for each in stored.values()) is blocks
    for name, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    inputs = torch.rand(5, len(KEYPOINTS), 2)
    assert torch.equal(found(inputs).rotations, network(inputs).rotations)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("head.output.bias"), "missing"),
        (lambda tensors: tensors.update(extra=np.zeros(3, np.float32)), "belongs to no layer"),
        (lambda tensors: tensors.update({"head.output.bias": np.zeros(3, np.float32)}), "shape"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, words):
    bundle = bundle_of(tmp_path, small_network(), False)
    tensors = load((tmp_path / WEIGHTS).read_bytes())
    change(tensors)
    (tmp_path / WEIGHTS).write_bytes(save(tensors))
    with pytest.raises(BundleError, match=words):
        load_network(bundle)


def test_a_damaged_file_is_named(tmp_path):
    bundle = bundle_of(tmp_path, small_network(), False)
    (tmp_path / WEIGHTS).write_bytes(b"\xff" * 100)
    with pytest.raises(BundleError, match=WEIGHTS):
        load_network(bundle)


def test_a_bundle_without_weights_says_what_to_do(tmp_path):
    with pytest.raises(TrainingError, match="Export its checkpoint again"):
        load_network(make_bundle(tmp_path))


@pytest.mark.parametrize(
    "architecture",
    [{}, {"name": "transformer"}, {"name": "key2mesh", "heads": 8}, {"name": ["key2mesh"]},
     {"name": "key2mesh", "features": "wide"}, {"name": "key2mesh", "features": -1}],
)  # fmt: skip
def test_an_unknown_architecture_is_refused(architecture):
    with pytest.raises(TrainingError):
        build(architecture)
