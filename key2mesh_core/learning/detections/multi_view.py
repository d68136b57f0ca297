# SPDX-License-Identifier: Apache-2.0
"""Finds poses that several cameras agree on: what one view leaves open, another one shows.

A target only needs to state that cameras saw a person at the same moment. The joints' rotations do
not depend on the view, so the model's predictions for all views give the rotations between the
cameras, and show which of them are out of sync; the initial guess of a pose is the mean of the
predictions. Bundle adjustment then fits poses and cameras to the detections of all views
(`bundle_adjustment`). It needs no labels and no calibration.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from tqdm import tqdm

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.placement import place_roughly
from key2mesh_core.geometry.rotations import matrix_to_rotation_6d, rotation_6d_to_matrix
from key2mesh_core.learning.detections.bundle_adjustment import Scene, Views, adjust
from key2mesh_core.learning.detections.predictions import predict_with_flip
from key2mesh_core.learning.detections.target_domain import TargetDomain
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.network.refinement import FittedNetwork

_LONGEST = 1000
"""Number of moments fitted together; bounds memory, and lets cameras move between stretches."""

_LEAST = 30
"""Number of moments that two cameras must share to be compared."""

_MOST = 16
"""Number of cameras compared, those that saw the most; more add nothing."""

_OUT_OF_STEP = math.radians(30)
"""The cameras of one take differ by a constant rotation, up to the errors of single predictions: 7
to 17 degrees (median) if AIST++'s cameras are in sync, 90 if one shows another moment."""

_MISFIT = 0.05
"""Median error [box sizes] of a person's keypoints beyond which a fit is rejected."""


class Agreement(NamedTuple):
    """The poses that several cameras agree on, for each of N detections: `poses`, with roots in the
    network's view, and `known (N,)`, False if only one camera saw the person or no pose explains
    the views; those poses are the model's own predictions."""

    poses: Prediction
    known: Tensor

    def rows(self, rows: Tensor) -> Agreement:
        """Some of the detections."""
        return Agreement(Prediction(*(part[rows] for part in self.poses)), self.known[rows])


class CameraTurns(NamedTuple):
    """The orientation of C cameras: `rotations (C, 3, 3)` from the frame of the camera `reference`
    to each; valid for those that are `in_step (C,)` with it."""

    rotations: Tensor
    in_step: Tensor
    reference: int


def agreement(
    network: FittedNetwork, domain: TargetDomain, body: BodyModel, quiet: bool = False
) -> Agreement | None:
    """Fits every take of a target, starting from the network's guess for single views; None if no
    cameras agree on anything."""
    grids = list(shared_moments(domain))
    if not grids:
        return None
    betas, poses = predict_with_flip(network, domain.batch)
    found = Prediction(betas, rotation_6d_to_matrix(poses))
    known = torch.zeros(len(domain), dtype=torch.bool, device=betas.device)
    agreed = Agreement(Prediction(betas.clone(), found.rotations.clone()), known)
    for grid in tqdm(grids, "multi-view poses", unit="stretch", disable=quiet or None):
        _fit_stretch(grid, found, domain, body, agreed)
    return agreed if known.any() else None


def shared_moments(domain: TargetDomain) -> Iterator[Tensor]:
    """For each person and stretch of time: (C, F) rows of the domain by camera and moment, -1 where
    a camera saw nothing; only moments seen by at least two cameras."""
    for person in torch.unique(domain.person[domain.person >= 0]):
        mine = torch.nonzero(domain.person == person)[:, 0]
        cameras, camera = torch.unique(domain.camera[mine], return_inverse=True)
        moments, moment = torch.unique(domain.frame[mine], return_inverse=True)
        grid = torch.full((len(cameras), len(moments)), -1)
        grid[camera, moment] = mine
        most = (grid >= 0).sum(1).argsort(descending=True, stable=True)[:_MOST]
        grid = grid[most.sort().values]
        grid = grid[:, (grid >= 0).sum(0) >= 2]
        yield from (part for part in grid.split(_LONGEST, dim=1) if part.shape[1] >= _LEAST)


def camera_turns(roots: Tensor, present: Tensor) -> CameraTurns:
    """The cameras' relative orientation, from one person's orientation in each.

    Args:
        roots: (C, F, 3, 3) orientation in each camera's frame at each moment.
        present: (C, F) mask of the known ones.
    """
    cameras, matrices, seen = len(roots), roots.cpu().double().numpy(), present.cpu().numpy()
    turns = np.tile(np.eye(3), (cameras, cameras, 1, 1))
    spread = np.full((cameras, cameras), math.inf)
    np.fill_diagonal(spread, 0)
    for one, other in itertools.combinations(range(cameras), 2):
        both = seen[one] & seen[other]
        if both.sum() < _LEAST:
            continue
        each = Rotation.from_matrix(matrices[other, both] @ np.swapaxes(matrices[one, both], 1, 2))
        angles = (each * each.mean().inv()).magnitude()
        # Single predictions may face the wrong way, so only those near the median count.
        turn = each[angles <= 2 * np.median(angles)].mean()
        turns[one, other], turns[other, one] = turn.as_matrix(), turn.inv().as_matrix()
        spread[one, other] = spread[other, one] = np.median((each * turn.inv()).magnitude())
    in_step = spread < _OUT_OF_STEP
    # The camera that is in sync with the most others, and fits those best.
    merit = in_step.sum(1) - np.minimum(spread, math.pi).mean(1) / math.pi
    reference = int(merit.argmax())
    return CameraTurns(
        torch.from_numpy(turns[reference]).to(roots),
        torch.from_numpy(in_step[reference]).to(roots.device),
        reference,
    )


def _fit_stretch(
    grid: Tensor, found: Prediction, domain: TargetDomain, body: BodyModel, agreed: Agreement
) -> None:
    """Writes the poses that the cameras of one stretch agree on into `agreed`."""
    grid = grid.to(found.betas.device)
    rows = grid.clamp(min=0)
    turn = domain.turn[rows]
    roots = turn @ found.rotations[rows][:, :, 0]
    turns = camera_turns(roots, grid >= 0)
    grid = torch.where(turns.in_step[:, None], grid, -1)
    shared = (grid >= 0).sum(0) >= 2
    if shared.sum() < _LEAST:
        return
    grid, rows, turn, roots = grid[:, shared], rows[:, shared], turn[:, shared], roots[:, shared]
    weights = domain.batch.confidence[rows] * (grid >= 0)[..., None]
    views = Views(domain.rays[rows], weights, domain.batch.side[rows][..., 0])
    moments = domain.frame[rows.max(0).values.cpu()].to(grid.device)
    start = _first_guess(found, rows, roots, turns, views, body)
    scene, errors = adjust(start, views, moments, body)
    there = (grid >= 0) & (errors < _MISFIT)
    into = grid[there]
    poses = scene.rotations.expand(len(grid), *scene.rotations.shape).clone()
    seen_roots = scene.cameras[:, None] @ scene.rotations[None, :, 0]
    poses[:, :, 0] = turn.transpose(2, 3) @ seen_roots
    agreed.poses.betas[into] = scene.betas
    agreed.poses.rotations[into] = poses[there]
    agreed.known[into] = True


def _first_guess(
    found: Prediction,
    rows: Tensor,
    roots: Tensor,
    turns: CameraTurns,
    views: Views,
    body: BodyModel,
) -> Scene:
    """The mean of the predictions for all views, and positions from each view's placement of the
    body."""
    share = views.weights.mean(2)
    share = share / share.sum(0).clamp(min=1e-6)
    local = found.rotations[rows].clone()
    local[:, :, 0] = turns.rotations.transpose(1, 2)[:, None] @ roots
    mean = (matrix_to_rotation_6d(local) * share[..., None, None]).sum(0)
    betas = found.betas[rows[share > 0]].mean(0)
    flat = found.rotations[rows].flatten(0, 1).clone()
    flat[:, 0] = roots.flatten(0, 1)
    _, keypoints = body.keypoints(found.betas[rows].flatten(0, 1), flat)
    places = place_roughly(keypoints, views.points.flatten(0, 1), views.weights.flatten(0, 1))
    places = places.reshape(*rows.shape, 3)
    # The reference is the world's origin; the median places the others.
    origin = (turns.rotations.transpose(1, 2)[:, None] @ places[..., None])[..., 0]
    offsets = torch.zeros(len(rows), 3, device=rows.device)
    for camera in range(len(rows)):
        both = (share[camera] > 0) & (share[turns.reference] > 0)
        if both.any():
            offsets[camera] = (origin[camera] - origin[turns.reference])[both].median(0).values
    pelvis = ((origin - offsets[:, None]) * share[..., None]).sum(0)
    translations = (turns.rotations @ offsets[..., None])[..., 0]
    return Scene(betas, rotation_6d_to_matrix(mean), pelvis, turns.rotations, translations)
