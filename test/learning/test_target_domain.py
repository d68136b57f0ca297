# SPDX-License-Identifier: Apache-2.0
"""Detections as network input, and a source domain of the model's own predictions."""

import numpy as np
import pytest
import torch
from helpers_adapt import targets
from helpers_training import small_body

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.learning.adapt.pseudo_labels import PseudoLabelBank, smoothed
from key2mesh_core.learning.adapt.sampler import TargetNoise, target_noise, with_noise
from key2mesh_core.learning.detections.predictions import mean_by, predict, predict_flipped
from key2mesh_core.learning.detections.target_domain import split_in_time, target_domain
from key2mesh_core.network.graphs import PoseGraph
from key2mesh_core.network.key2mesh import Key2Mesh, Prediction, folded
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.synthesis.batches import synthesise
from key2mesh_core.synthesis.config import SynthesisConfig

CPU = torch.device("cpu")
BODY = BodyModel(small_body())


@pytest.fixture(scope="module")
def network() -> Key2Mesh:
    torch.manual_seed(0)
    return folded(Key2Mesh(0.0))


@pytest.mark.parametrize("centre", [True, False])
def test_inputs_are_what_the_deployed_graph_feeds_the_network(network, centre):
    detections = targets(2, 15)
    seen_inputs = []

    class Spy(torch.nn.Module):
        def forward(self, inputs):
            seen_inputs.append(inputs)
            return network(inputs)

    focal = 960 / np.tan(np.radians(30))
    intrinsics = torch.tensor([[focal, focal, 960, 540]]).float().expand(30, 4)
    with torch.no_grad():
        PoseGraph(Spy(), BODY, centre)(torch.from_numpy(detections.keypoints), intrinsics)
    domain = target_domain(detections, centre, CPU)
    torch.testing.assert_close(domain.batch.inputs, seen_inputs[0], atol=1e-5, rtol=0)


def test_the_end_of_every_sequence_is_held_out():
    domain = target_domain(targets(3, 20), True, CPU)
    training, held_out = split_in_time(domain, 0.25)
    assert (len(training), len(held_out)) == (45, 15)
    assert torch.unique(held_out.sequence).tolist() == [0, 1, 2]
    assert int(held_out.frame.min()) == 15
    assert int(training.frame.max()) == 14
    everything, nothing = split_in_time(domain, 0.0)
    assert (len(everything), len(nothing)) == (60, 0)


def test_smoothing_keeps_what_is_constant_and_never_mixes_people():
    sequence = torch.tensor([0] * 30 + [1] * 30)
    frame = torch.arange(30).repeat(2)
    values = torch.cat([torch.zeros(30, 4), torch.ones(30, 4)])
    torch.testing.assert_close(smoothed(values, sequence, frame, 3.0), values)
    assert smoothed(values, sequence, frame, 0.0) is values


def test_smoothing_is_the_gaussian_average_over_frames_that_are_there():
    frame = torch.tensor([0, 1, 2, 4, 9, 10])
    values = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    gaps = (frame[:, None] - frame[None]).double()
    weights = torch.exp(-0.5 * (gaps / 2) ** 2)
    expected = torch.einsum("ab,bij->aij", weights / weights.sum(1, keepdim=True), values.double())
    found = smoothed(values, torch.zeros(6).long(), frame, 2.0)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_a_person_has_one_shape():
    values = torch.tensor([[1.0], [3.0], [10.0]])
    assert mean_by(values, torch.tensor([5, 5, 9])).tolist() == [[2.0], [2.0], [10.0]]


def test_the_mirrored_answer_of_a_mirrored_network_is_its_answer(network):
    """Mirroring the input twice is doing nothing, so the two answers change places."""
    domain = target_domain(targets(1, 8), True, CPU)
    fitted = FittedNetwork(network, BODY)

    class Twice(torch.nn.Module):
        """Answers the mean of both mirror images."""

        def forward(self, *seen):
            direct = fitted(*seen)
            parts = dict(zip(("inputs", "centre", "side"), seen, strict=True))
            other = predict_flipped(fitted, domain.batch._replace(**parts))
            return Prediction(direct.betas, (direct.rotations + other) / 2)

    with torch.no_grad():
        direct = predict(Twice(), domain.batch).rotations
        flipped = predict_flipped(Twice(), domain.batch)
    torch.testing.assert_close(direct, flipped, atol=1e-5, rtol=0)


def test_pseudo_labels_are_drawn_alike_from_the_same_seed():
    bank = PseudoLabelBank(torch.eye(3).expand(5, 24, 3, 3), torch.arange(50.0).reshape(5, 10))
    draws = [bank.draw(64, torch.Generator().manual_seed(1))[1] for _ in range(2)]
    assert torch.equal(*draws)
    assert len(torch.unique(draws[0][:, 0])) == 5
    with pytest.raises(TrainingError, match="larger target"):
        PseudoLabelBank(torch.zeros(0, 24, 3, 3), torch.zeros(0, 10))


def samples(count: int = 64):
    random = torch.Generator().manual_seed(4)
    rotations = axis_angle_to_matrix(0.3 * torch.randn(9, 24, 3, generator=random))
    bank = PseudoLabelBank(rotations, torch.randn(9, 10, generator=random))
    return synthesise(bank, BODY, SynthesisConfig(), count, random)


def test_mistakes_are_the_difference_to_the_projected_answer(network):
    """Detections that lie exactly on the answers' keypoints are no mistakes."""
    from key2mesh_core.learning.adapt.losses import reprojected

    domain = target_domain(targets(1, 20), True, CPU)
    found = predict(FittedNetwork(network, BODY), domain.batch)
    with torch.no_grad():
        noise = target_noise(found, domain.batch, BODY)
        back = domain.batch.inputs[..., :2] - noise.offsets
        torch.testing.assert_close(back, reprojected(found, domain.batch, BODY))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_mistakes_are_repeated_on_source_samples(share):
    batch = samples()
    offsets = torch.zeros(3, 18, 2)
    offsets[:, 4] = 0.25  # this detector puts right wrists off by a quarter of the person
    seen = torch.ones(3, 18, dtype=torch.bool)
    seen[:, 17] = False  # and never sees the left ear
    noisy = with_noise(
        batch, TargetNoise(offsets, seen), share, 2.0, torch.Generator().manual_seed(0)
    )
    on_plane = [
        (each.inputs[..., :2] - 0.5) * each.side[:, None] + each.centre[:, None]
        for each in (batch, noisy)
    ]
    moved = (on_plane[1] - on_plane[0]) / batch.side[:, None]
    both = noisy.seen & batch.seen
    torch.testing.assert_close(
        moved[:, 4][both[:, 4]], torch.full((int(both[:, 4].sum()), 2), 0.5 * share)
    )
    others = [k for k in range(18) if k != 4]
    assert float(moved[:, others][both[:, others]].abs().max()) < 1e-5
    many = batch.seen.sum(1) > 6
    assert bool(noisy.seen[many][:, 17].any()) is (share == 0)
    assert int(noisy.seen.sum(1).min()) >= 6
    assert torch.equal(noisy.rotations, batch.rotations)
    assert float(noisy.inputs[..., :2].min()) >= -1e-5
    assert float(noisy.inputs[..., :2].max()) <= 1 + 1e-5
