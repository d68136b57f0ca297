# SPDX-License-Identifier: Apache-2.0
"""Detections that teach pre-training: labels against known poses, the batch's make-up, resuming."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers_filmed import FRAMES, filmed, moving_poses
from helpers_training import write_clip

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.evaluation.metrics import pa_mpjpe
from key2mesh_core.keypoints.table import MIRROR
from key2mesh_core.learning.detections import bundle_adjustment
from key2mesh_core.learning.distributed import ProcessGroup
from key2mesh_core.learning.pretrain.config import PretrainConfig
from key2mesh_core.learning.pretrain.job import Run
from key2mesh_core.learning.pretrain.sampler import Sampler
from key2mesh_core.learning.pretrain.taught import TaughtBank, load_taught
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.recordings.amass import find_clips, load_clips
from key2mesh_core.synthesis.batches import Batch
from key2mesh_core.synthesis.motions import MotionBank
from key2mesh_core.synthesis.poses import mirrored

CAMERAS = 3
#: Moments at which one camera's keypoints are far off: what is agreed on then does not teach.
SPOILT = 5


@pytest.fixture(scope="module")
def start():
    """The shipped model and its body."""
    data = load_body("default")
    source = load_trained_model("default", data)
    return source, BodyModel(data, source.detector_keypoints)


@pytest.fixture(scope="module")
def film(start, tmp_path_factory):
    """A file of three cameras, one frame a moment, with motion capture beside it; and the truth."""
    folder = tmp_path_factory.mktemp("film")
    poses = moving_poses()
    targets, around = filmed(start[1], poses, CAMERAS)
    keypoints = targets.keypoints.copy()
    height = np.ptp(keypoints[:SPOILT, :, 1], axis=1)
    keypoints[:SPOILT, 3:8, 0] += 0.6 * height[:, None]
    np.savez(
        folder / "film.npz",
        keypoints=keypoints,
        layout="openpose_coco_18",
        frame=targets.frame,
        camera=targets.camera,
        take=np.zeros(len(targets), int),
        width=1280,
        height=720,
        intrinsics=np.float32([1100.0, 1100.0, 640.0, 360.0]),
    )
    write_clip(folder / "clips" / "one_poses.npz")
    return SimpleNamespace(folder=folder, poses=poses, around=around)


def config(start, film, **changes) -> PretrainConfig:
    return PretrainConfig(
        motions=(str(film.folder / "clips"),),
        output=film.folder / "run",
        taught=(f"npz:{film.folder / 'film.npz'}",),
        network=start[0].network.name,
        **{"init": "default", "batch_size": 32, "fitted": 12, "taught_share": 0.25} | changes,
    )


@pytest.fixture(scope="module")
def taught(start, film):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_adjustment, "_STEPS", 100)
        source, body = start
        return load_taught(config(start, film), source, body, ProcessGroup())[0]


@pytest.fixture
def quick(monkeypatch, taught):
    """Runs get the poses that were found once."""
    job = "key2mesh_core.learning.pretrain.job.load_taught"
    monkeypatch.setattr(job, lambda *_: (taught, "digest"))


def test_what_cameras_agree_on_is_the_label(start, film, taught):
    _, body = start
    assert CAMERAS * (FRAMES - SPOILT) - 6 <= len(taught) <= CAMERAS * (FRAMES - SPOILT)
    # Rows are in the order of the file, without the first ones of each camera.
    last = len(taught) // CAMERAS - 4
    rotation, translation = film.around[-1]
    true = film.poses[-last:].clone()
    true[:, 0] = rotation @ true[:, 0]
    with torch.no_grad():
        found, _ = body.keypoints(taught.betas[-last:], taught.rotations[-last:])
        wanted, _ = body.keypoints(torch.zeros(last, 10), true)
    assert pa_mpjpe(found.numpy(), wanted.numpy()).mean() < 30
    # Not turned to fit: the labels are in the frame of the camera, and at its distance.
    assert (found - wanted).norm(dim=2).mean() < 0.06
    assert (taught.translation[-last:] - translation).norm(dim=1).max() < 0.3


def test_samples_show_their_labels_mirrored_or_not(start, taught):
    _, body = start
    batch = taught.draw(400, body, torch.Generator().manual_seed(0))
    placed = batch.keypoints_3d + batch.translation[:, None]
    shown = (placed[..., :2] / placed[..., 2:] - batch.centre[:, None]) / batch.side[:, None] + 0.5
    missed = (shown - batch.inputs[..., :2]).norm(dim=2)[batch.seen]
    assert missed.median() < 0.02
    assert missed.mean() < 0.03
    hidden = 1 - batch.seen.float().mean()
    assert 0.05 < hidden < 0.2
    assert batch.seen.sum(1).min() >= 6
    # Whoever is mirrored has the mirror image of a pose of the bank.
    bank = {tuple(row) for row in taught.rotations[:, 1:].flatten(1).tolist()}
    straight, flipped = (
        torch.tensor([tuple(row) in bank for row in rotations[:, 1:].flatten(1).tolist()])
        for rotations in (batch.rotations, mirrored(batch.rotations))
    )
    assert (straight | flipped).all()
    assert 0.4 < flipped.float().mean() < 0.6


def test_a_mirrored_sample_is_seen_as_the_mirror_image(start, taught, monkeypatch):
    _, body = start
    monkeypatch.setattr("key2mesh_core.learning.pretrain.taught.hide", lambda seen, *_: seen)
    batches = []
    for share in (0.0, 1.0):
        monkeypatch.setattr("key2mesh_core.learning.pretrain.taught._MIRRORED", share)
        batches.append(taught.draw(50, body, torch.Generator().manual_seed(0)))
    one, other = batches
    order = list(MIRROR)
    expected = one.inputs[:, order]
    expected[..., 0] = torch.where(one.seen[:, order], 1 - expected[..., 0], expected[..., 0])
    torch.testing.assert_close(other.inputs, expected, atol=1e-4, rtol=0)
    across = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(other.translation, one.translation * across, atol=1e-4, rtol=0)
    # A body is not exactly symmetric.
    mirror = one.keypoints_3d[:, order] * across
    assert (other.keypoints_3d - mirror).norm(dim=2).max() < 0.02


def sampler_of(start, film, taught, processes, **changes) -> Sampler:
    bank = MotionBank([(load_clips(find_clips(film.folder / "clips")), 1.0)])
    return Sampler(config(start, film, **changes), bank, start[1], processes, taught)


def test_the_share_holds_for_all_and_for_the_fitted_samples(start, film, taught):
    marked = TaughtBank(
        taught.points,
        taught.confidence,
        torch.full_like(taught.betas, 9.0),
        taught.rotations,
        taught.translation,
        taught.centre,
    )
    sampler = sampler_of(start, film, marked, ProcessGroup())
    for step in range(5):
        labelled = sampler.batch(step).betas[:, 0] == 9
        assert len(labelled) == 32
        assert labelled.sum() == 8
        assert labelled[:12].sum() == 3
    first = sampler_of(start, film, marked, ProcessGroup(0, 2)).batch(0).betas[:, 0] == 9
    assert (first.sum(), first[:12].sum()) == (8, 3)


def test_two_processes_take_apart_what_one_draws(start, film, taught):
    whole = sampler_of(start, film, taught, ProcessGroup(), fitted=16).batch(3)
    parts = [
        sampler_of(start, film, taught, ProcessGroup(rank, 2), batch_size=16, fitted=8).batch(3)
        for rank in range(2)
    ]
    together = Batch(*(torch.stack(each, 1).flatten(0, 1) for each in zip(*parts, strict=True)))
    assert all(map(torch.equal, together, whole))


def test_a_resumed_run_equals_an_uninterrupted_one(start, film, quick):
    settings = config(start, film)
    whole, begun, resumed = (Run(settings) for _ in range(3))
    for run, steps in ((whole, 6), (begun, 3)):
        for _ in range(steps):
            run.advance()
    resumed.restore(begun.state())
    for _ in range(3):
        resumed.advance()
    one, other = whole.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_other_detections_are_refused(start, film, quick, monkeypatch):
    state = Run(config(start, film)).state()
    job = "key2mesh_core.learning.pretrain.job.load_taught"
    monkeypatch.setattr(job, lambda *_: (None, "another"))
    with pytest.raises(TrainingError, match="other detections"):
        Run(config(start, film)).restore(state)


def test_detections_of_one_camera_teach_nothing(start, film):
    file = np.load(film.folder / "film.npz")
    np.savez(film.folder / "alone.npz", **{k: file[k] for k in file if k != "take"})
    settings = replace(config(start, film), taught=(f"npz:{film.folder / 'alone.npz'}",))
    with pytest.raises(TrainingError, match="no cameras agree"):
        load_taught(settings, *start, ProcessGroup())


def test_impossible_settings_are_refused(start, film):
    with pytest.raises(TrainingError, match="--taught needs --init"):
        config(start, film, init="")
    for share in (0.0, 0.01, 1.0):
        with pytest.raises(TrainingError, match=f"taught_share {share} of 32"):
            config(start, film, taught_share=share)
