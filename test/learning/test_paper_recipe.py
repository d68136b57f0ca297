# SPDX-License-Identifier: Apache-2.0
"""The published recipe: one pass over all frames per epoch, the authors' augmentation, BatchNorm
and dropout during adaptation, and selection on labelled data."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_adapt import targets
from helpers_benchmarks import licensed, write_3dpw
from helpers_training import small_body, write_clip

from key2mesh_core.body.files import default_body, load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.adapt import job
from key2mesh_core.learning.adapt.config import ADAPT_RECIPES, AdaptConfig
from key2mesh_core.learning.adapt.job import adapt
from key2mesh_core.learning.adapt.labelled import labelled_selection
from key2mesh_core.learning.adapt.run import AdaptRun
from key2mesh_core.learning.adapt.validation import LABELLED, choose
from key2mesh_core.learning.detections.target_domain import split_in_time, target_domain
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.pretrain.config import PRETRAIN_RECIPES
from key2mesh_core.learning.pretrain.sampler import Sampler
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.network.key2mesh import Key2Mesh
from key2mesh_core.recordings.amass import load_clips
from key2mesh_core.recordings.targets import load_targets
from key2mesh_core.synthesis.config import PAPER_SYNTHESIS
from key2mesh_core.synthesis.detector import detect
from key2mesh_core.synthesis.motions import MotionBank
from key2mesh_core.synthesis.poses import turn_towards_cameras

PAPER = ADAPT_RECIPES["paper"][1]


def test_an_epoch_is_one_pass_over_all_frames(tmp_path) -> None:
    paths = [write_clip(tmp_path / f"{n}.npz", frames=n, seed=n) for n in (70, 23)]
    body, bank = BodyModel(small_body()), MotionBank([(load_clips(paths), 1.0)])
    settings = replace(PRETRAIN_RECIPES["paper"][1], batch_size=10)
    sampler = Sampler(settings, bank, body, ProcessGroup())
    assert sampler.steps_per_epoch == -(-len(bank) // 10) > 5
    groups = -(-2 * sampler.steps_per_epoch // 4)
    drawn = torch.cat([sampler.frames(group) for group in range(groups)])
    whole = 10 * sampler.steps_per_epoch
    for epoch in (drawn[:whole], drawn[whole : 2 * whole]):
        assert sorted(epoch[: len(bank)].tolist()) == list(range(len(bank)))
    assert not torch.equal(drawn[:whole], drawn[whole : 2 * whole])
    # A resumed run draws the same, and the samples are of these frames.
    assert torch.equal(Sampler(settings, bank, body, ProcessGroup()).frames(1), drawn[40:80])
    batch = sampler.batch(1)
    wanted, _ = bank.take(drawn[10:20])
    torch.testing.assert_close(batch.rotations[:, 1:], wanted[:, 1:])


def test_noise_is_whole_pixels_of_the_papers_camera_and_equal_for_all_keypoints() -> None:
    points = torch.zeros(4000, 18, 2)
    points[:, ::2] = 0.1
    exact = replace(PAPER_SYNTHESIS, drop=0.0)
    found, _ = detect(points, torch.ones(4000, 18, 3), exact, torch.Generator().manual_seed(0))
    pixels = 256 * (found - points)
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
    # Variance of a rounded standard normal: 1 + 1/12, nearly.
    spread = pixels.var(dim=(0, 2))
    assert (spread - 13 / 12).abs().max() < 0.07
    rng = np.random.default_rng(0)
    assert float(pixels.var()) == pytest.approx(np.rint(rng.normal(size=10**6)).var(), rel=0.02)


def test_the_person_is_pitched_before_the_yaw_as_in_the_authors_code() -> None:
    upright = torch.eye(3).expand(3000, 24, 3, 3)
    level = replace(PAPER_SYNTHESIS, roll_degrees=0.0)
    up = {}
    for first in (True, False):
        config = replace(level, pitch_first=first)
        turned = turn_towards_cameras(upright, config, torch.Generator().manual_seed(1))
        up[first] = turned[:, 0, :, 1]  # where the body's y axis points
    # Rz Ry Rx (authors): people lean in every direction; a pitching camera: only to and from it.
    assert up[False][:, 0].abs().max() < 1e-6
    assert up[True][:, 0].std() == pytest.approx(float(up[True][:, 2].std()), rel=0.1)
    assert up[True][:, 1].min() > np.cos(np.radians(20.1))


def config(model, output, **changes) -> AdaptConfig:
    return replace(
        PAPER,
        target=(f"aistpp:{model / 'detections'}",),
        output=output,
        init=str(model / "start.pt"),
        body=str(model / "body.npz"),
        motions=(str(model / "clips"),),
        batch_size=16,
        epochs=1,
        critic_updates=2,
        **changes,
    )


def run_of(settings: AdaptConfig) -> AdaptRun:
    data = load_body(settings.body)
    source = load_trained_model(settings.init, data, settings.dropout)
    training, held_out = split_in_time(
        target_domain(targets(2, 80), True, torch.device("cpu")), 0.1
    )
    body = BodyModel(data)
    return AdaptRun(settings, source, training, held_out, body, None, ProcessGroup())


def buffers(module: torch.nn.Module) -> list[torch.Tensor]:
    return [each.clone() for each in module.buffers()]


def test_batch_norm_and_dropout_take_part_in_the_extractor_alone(model, tmp_path) -> None:
    run = run_of(config(model, tmp_path))
    frozen = [copy.deepcopy(each.state_dict()) for each in (run.source.extractor, run.head)]
    statistics = buffers(run.extractor)
    assert len(statistics) > 0
    inputs = run.sampler.in_order(0).target.inputs
    torch.manual_seed(0)
    one, other = run.extractor(inputs), run.extractor(inputs)
    assert not torch.equal(one, other)  # dropout
    torch.manual_seed(0)
    half = run.extractor(inputs[:8])
    assert not torch.allclose(half, one[:8], atol=1e-3)  # the batch's statistics
    for _ in range(2):
        run.advance()
    assert not torch.equal(buffers(run.extractor)[0], statistics[0])
    for module, before in zip((run.source.extractor, run.head), frozen, strict=True):
        assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    # What is validated and exported has the adapted statistics, and none of the randomness.
    network = run._network(run._weights())
    assert torch.equal(next(network.extractor.buffers()), next(run.extractor.buffers()))
    assert torch.equal(network(inputs).betas, network(inputs).betas)
    # Without the two options, nothing of this happens.
    plain = run_of(replace(config(model, tmp_path), batch_statistics=False, dropout=0.0))
    assert not buffers(plain.extractor)


def test_the_recipe_requires_motion_capture(model, tmp_path) -> None:
    with pytest.raises(TrainingError, match="--motions"):
        adapt(replace(config(model, tmp_path), motions=()))


def test_a_run_says_how_it_selects_and_what_a_bundle_lacks(model, tmp_path, capsys) -> None:
    settings = config(model, tmp_path)
    data = load_body(settings.body)
    source = load_trained_model(settings.init, data, settings.dropout)
    found = load_targets(settings.target)
    for start, lacking in ((source, False), (replace(source, with_batch_norm=None), True)):
        body, device = BodyModel(data), torch.device("cpu")
        job._start(settings, start, found, body, ProcessGroup(), device)
        out = capsys.readouterr().out
        assert "selection: without labels" in out
        assert ("BatchNorm and dropout: neither" in out) == lacking


def test_labelled_selection_measures_3dpws_validation_split(tmp_path) -> None:
    mine = licensed(tmp_path / "licensed")
    write_3dpw(mine, tmp_path / "3DPW", "neutral", split="validation")
    data = default_body()
    body = BodyModel(data)
    settings = replace(
        PAPER,
        select_on="3dpw-validation",
        select_root=tmp_path / "3DPW",
        select_body_folder=mine.folder,
        select_regressor=mine.regressor,
    )
    selection = labelled_selection(settings, data, body, False)
    torch.manual_seed(0)
    untrained = Key2Mesh(features=64).eval()
    known = load_trained_model("default", data)
    measured = selection.pa_mpjpe_mm(untrained), replace_view(selection, known)
    assert measured[1] < measured[0] / 2
    assert 5 < measured[1] < 100
    few = labelled_selection(replace(settings, select_images=5), data, body, False)
    assert sum(map(len, few.people)) < sum(map(len, selection.people))


def replace_view(selection, known) -> float:
    return replace(selection, centre_view=known.centre_view).pa_mpjpe_mm(known.network)


def test_with_labels_the_best_measurement_is_kept_however_small_the_gain() -> None:
    def measured(labelled: float) -> dict[str, float]:
        return {"reprojection": 1.0, "mirror_mm": 1.0, LABELLED: labelled}

    assert choose([measured(50.0), measured(49.9), measured(49.8), measured(49.95)]) == 2
    assert choose([measured(50.0), measured(50.1)]) == 0


def test_selection_on_labels_happens_every_so_many_steps(model, tmp_path) -> None:
    class Selection:
        def __init__(self) -> None:
            self.steps, self.run = [], None

        def pa_mpjpe_mm(self, network) -> float:
            self.steps.append(self.run.step)
            return 50.0 - self.run.step

    settings = replace(config(model, tmp_path), select_every=2, least_steps=5)
    data = load_body(settings.body)
    source = load_trained_model(settings.init, data, settings.dropout)
    domain = target_domain(targets(2, 80), True, torch.device("cpu"))
    training, held_out = split_in_time(domain, 0.1)
    selection = Selection()
    run = AdaptRun(
        settings, source, training, held_out, BodyModel(data), None, ProcessGroup(),
        selection=selection,
    )  # fmt: skip
    selection.run = run
    assert run.steps_per_epoch == 2
    # The learning rate still falls by the epoch.
    assert run.learning_rate() == settings.learning_rate
