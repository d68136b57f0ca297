# SPDX-License-Identifier: Apache-2.0
"""The network as published: sizes, order of layers, and what eval mode leaves out."""

import pytest
import torch
from torch import nn

from key2mesh_core.keypoints.table import KEYPOINTS, REQUIRED
from key2mesh_core.network.key2mesh import (
    FeatureExtractor,
    Key2Mesh,
    SmplHead,
    domain_critic,
    folded,
)


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def used_network(seed: int = 0) -> Key2Mesh:
    """A network whose BatchNorm has seen something."""
    torch.manual_seed(seed)
    network = Key2Mesh()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_sizes_are_those_of_the_paper():
    linear, norm, prelu = 1024 * 1024 + 1024, 2 * 1024, 1
    block = 2 * (linear + norm + prelu)
    first = 36 * 1024 + 1024 + norm + prelu
    assert parameter_count(FeatureExtractor(keypoints=REQUIRED)) == first + 2 * block
    assert parameter_count(SmplHead()) == block + 1024 * 154 + 154
    assert parameter_count(domain_critic()) == 2 * (linear + prelu) + 1025


def test_the_head_gives_shape_and_rotations():
    prediction = used_network()(torch.rand(7, len(KEYPOINTS), 2))
    assert prediction.betas.shape == (7, 10)
    identity = torch.eye(3).expand(7, 24, 3, 3)
    torch.testing.assert_close(
        prediction.rotations @ prediction.rotations.mT, identity, atol=1e-5, rtol=0
    )


def test_the_critic_has_no_normalisation_and_scores_each_sample_alone():
    critic = domain_critic().eval()
    features = torch.randn(5, 1024)
    assert critic(features).shape == (5, 1)
    torch.testing.assert_close(critic(features)[:2], critic(features[:2]))
    assert not any(isinstance(m, nn.BatchNorm1d) for m in critic.modules())


def test_rotations_stay_orthonormal_under_half_precision():
    with torch.autocast("cpu", torch.bfloat16):
        rotations = used_network()(torch.rand(5, len(KEYPOINTS), 2)).rotations
    assert rotations.dtype == torch.float32
    identity = torch.eye(3).expand(5, 24, 3, 3)
    torch.testing.assert_close(rotations @ rotations.mT, identity, atol=1e-5, rtol=0)


def test_folding_batch_norm_changes_nothing_but_the_layers():
    network = used_network()
    inference = folded(network)
    inputs = torch.rand(20, len(KEYPOINTS), 2)
    for expected, found in zip(network(inputs), inference(inputs), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    kinds = {type(m) for m in inference.modules()}
    assert nn.BatchNorm1d not in kinds
    assert nn.Dropout not in kinds
    assert nn.BatchNorm1d in {type(m) for m in network.modules()}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_dropout_acts_in_training_only(dropout):
    torch.manual_seed(0)
    network = Key2Mesh(dropout)
    inputs = torch.rand(8, len(KEYPOINTS), 2)
    same = torch.equal(network(inputs).betas, network(inputs).betas)
    assert same is (dropout == 0.0)
