# SPDX-License-Identifier: Apache-2.0
"""Validation without labels: each criterion measures what it claims, and the choice follows it."""

import math
from dataclasses import replace

import pytest
import torch
from helpers_adapt import targets
from helpers_training import small_body

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.learning.adapt.pseudo_labels import PseudoLabelBank
from key2mesh_core.learning.adapt.validation import (
    WORTH_IT,
    Validator,
    choose,
    score,
)
from key2mesh_core.learning.detections.multi_view import Agreement
from key2mesh_core.learning.detections.predictions import predict
from key2mesh_core.learning.detections.target_domain import target_domain
from key2mesh_core.network.key2mesh import Key2Mesh, folded
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.synthesis.batches import synthesise
from key2mesh_core.synthesis.config import SynthesisConfig


@pytest.fixture(scope="module")
def validator() -> Validator:
    body = BodyModel(small_body())
    random = torch.Generator().manual_seed(1)
    rotations = axis_angle_to_matrix(0.2 * torch.randn(9, 24, 3, generator=random))
    samples = synthesise(
        PseudoLabelBank(rotations, torch.zeros(9, 10)), body, SynthesisConfig(), 64, random
    )
    domain = target_domain(targets(2, 30), True, torch.device("cpu"))
    return Validator(domain, None, samples, body)


@pytest.fixture(scope="module")
def network() -> Key2Mesh:
    torch.manual_seed(0)
    return folded(Key2Mesh(0.0))


def shifted(network: Key2Mesh, size: float) -> Key2Mesh:
    """The same network with other biases of its last feature layer."""
    other = folded(Key2Mesh(0.0))
    other.load_state_dict(network.state_dict())
    random = torch.Generator().manual_seed(2)
    bias = other.extractor.layers[-1].layers[-1][0].bias
    bias.data = bias.data + size * torch.randn(bias.shape, generator=random)
    return other


def test_the_model_before_scores_zero(validator, network):
    measured = validator.measure(network)
    assert score(measured, measured) == 0
    assert all(math.isfinite(value) for value in measured.values())


def test_measuring_twice_gives_the_same(validator, network):
    assert validator.measure(network) == validator.measure(network)


def test_where_cameras_agree_the_distance_from_that_decides(validator, network):
    """A validator whose cameras agree on what a network says finds no fault with that network."""
    other = shifted(network, 0.3)
    poses = predict(FittedNetwork(other, validator.body), validator.held_out.batch)
    known = torch.arange(len(validator.held_out)) % 3 == 0
    poses.rotations[~known] = torch.eye(3)  # anything
    agreeing = replace(validator, agreed=Agreement(poses, known))
    before, after = agreeing.measure(network), agreeing.measure(other)
    assert after["agreement_mm"] < 1e-3 < 1 < before["agreement_mm"]
    assert score(after, before) < -1
    unknown = replace(validator, agreed=Agreement(poses, torch.zeros_like(known)))
    assert unknown.measure(other) == validator.measure(other)
    assert choose([measured(0.04, 30) | {"agreement_mm": mm} for mm in (80, 70, 75)]) == 1
    assert choose([measured(r, 30) | {"agreement_mm": 80} for r in (0.04, 0.02)]) == 0


def measured(reprojection: float, mirror_mm: float) -> dict[str, float]:
    return {"reprojection": reprojection, "mirror_mm": mirror_mm}


def test_the_epoch_that_gains_most_is_kept():
    history = [measured(0.04, 30), measured(0.034, 27), measured(0.03, 24), measured(0.029, 27)]
    assert choose(history) == 2


def test_reprojection_bought_with_mirror_consistency_is_no_gain():
    """A network that only follows its input: half the error, answers that a mirror changes."""
    assert choose([measured(0.04, 30), measured(0.02, 60)]) == 0


def test_a_gain_that_anything_would_bring_is_not_worth_it():
    factor = math.exp(WORTH_IT + 0.01)
    assert choose([measured(0.04, 30), measured(0.04 * factor, 30 * factor)]) == 0
    factor = math.exp(WORTH_IT - 0.01)
    assert choose([measured(0.04, 30), measured(0.04 * factor, 30 * factor)]) == 1
