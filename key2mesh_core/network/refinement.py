# SPDX-License-Identifier: Apache-2.0
"""Fits predicted bodies to their keypoints: Gauss-Newton steps, held by what the network believes.

The network says how sure it is of every rotation and beta, and how far it trusts every keypoint.
The most probable body then minimises

    sum_k w_k |keypoint_k - projection_k|^2 + sum_j lambda_j turn_j^2 + sum_b lambda_b change_b^2

over small turns of the joints, betas and the translation. The fit trades depth for pixels only as
far as lambda allows. Every step solves the linearised problem with the exact derivatives of
`LinearisedKeypoints`. Training runs through the steps, so the network learns weights that make the
fit good, not only its own prediction.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from key2mesh_core.body.data import BETA_COUNT
from key2mesh_core.body.linearised import MOVING, Linearisation, LinearisedKeypoints
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.placement import NEAREST_M, place_roughly
from key2mesh_core.network.crop import from_box
from key2mesh_core.network.key2mesh import Key2Mesh, Prediction
from key2mesh_core.network.refined import Certainty, RefinedKey2Mesh

STEPS = 2
#: Of `Refinement`, in exported graphs.
ITERATIONS = 14
#: Largest miss [sides of the box] and turn [rad] that count in one step.
_LARGEST_MISS, _LARGEST_TURN = 0.5, 1.0
#: Precision of the body's position [1/side^2, 1/depth^2]: almost free.
_FREE = 25.0
_NEAREST = 1.5 * NEAREST_M
_TURNS = 3 * len(MOVING)


class Fit(NamedTuple):
    """Bodies on their keypoints: `betas (N, 10)`, `rotations (N, 24, 3, 3)`, `translation (N, 3)`
    [m], `joints (N, 24, 3)` and `keypoints (N, K, 3)` relative to the pelvis [m], and `points
    (N, K, 2)`, the keypoints on the image plane in units of the focal length."""

    betas: Tensor
    rotations: Tensor
    translation: Tensor
    joints: Tensor
    keypoints: Tensor
    points: Tensor


class Refinement(nn.Module):
    """Predictions to fits.

    Args:
        body: what the network was trained with.
        steps: Gauss-Newton steps.
        iterations: of Newton and Schulz for a matrix's inverse, for exported graphs, which have no
            factorisation; 0: Cholesky factorisation.
    """

    def __init__(self, body: BodyModel, steps: int = STEPS, iterations: int = 0) -> None:
        super().__init__()
        self.body, self.steps, self.iterations = body, steps, iterations
        self.linearised = LinearisedKeypoints(body)
        count = len(body.part_sum)
        for name, values in {
            "free": torch.full((1, 3), _FREE),
            "across": torch.eye(2).expand(1, count, 2, 2),
            "identity": torch.eye(2 * count)[None],
            # (K, 2 K): a number of every keypoint, for both of its coordinates.
            "twice": torch.eye(count).repeat_interleave(2, 1),
        }.items():
            self.register_buffer(name, values.contiguous(), persistent=False)

    def forward(
        self,
        prediction: Prediction,
        certainty: Certainty,
        points: Tensor,
        seen: Tensor,
        side: Tensor,
    ) -> list[Fit]:
        """The prediction where it fits best, then the fit after every step.

        Args:
            points: (N, K, 2) keypoints on the image plane in units of the focal length, in the view
                that the network saw.
            seen: (N, K).
            side: (N, 1) of the person's box, in the same units.
        """
        betas, rotations = prediction
        linear = self.linearised(betas, rotations)
        # The root before the mask: its slope at 0 is infinite.
        root = torch.where(seen, torch.sqrt(certainty.keypoints), 0.0)
        translation = place_roughly(linear.keypoints, points, root * root)
        free = self.free.expand(betas.shape[0], 3)
        variance = 1 / torch.cat([certainty.rotations, certainty.betas, free], 1)[:, None]
        root = (root @ self.twice)[..., None]  # of the weights (N, 2 K, 1)
        gone = torch.zeros_like(certainty.rotations[:, :1])  # changes (N, unknowns) so far: none
        fits = []
        for step in range(self.steps):
            if step:
                linear = self.linearised(betas, rotations)
            fit = _fit(betas, rotations, translation, linear.joints, linear.keypoints)
            fits.append(fit)
            # Moves are in sides of the box across and in depths along, so all are of order 1.
            units = translation[:, 2:] * torch.cat([side, side, torch.ones_like(side)], 1)
            slope = root * self._slope(linear, fit, units, side)
            missed = ((points - fit.points) / side[:, None]).clamp(-_LARGEST_MISS, _LARGEST_MISS)
            missed = root * missed.reshape(*root.shape)
            change = self._solve(slope, missed, variance, gone)
            turn, change, move = change.split([_TURNS, BETA_COUNT, 3], 1)
            turn, move = turn.clamp(-_LARGEST_TURN, _LARGEST_TURN), move.clamp(-0.5, 0.5)
            gone = gone + torch.cat([turn, change, torch.zeros_like(move)], 1)
            rotations = self.linearised.turned(rotations, turn)
            betas, translation = betas + change, translation + units * move
        return [*fits, _fit(betas, rotations, translation, *self.body.keypoints(betas, rotations))]

    def _slope(self, linear: Linearisation, fit: Fit, units: Tensor, side: Tensor) -> Tensor:
        """(N, 2 K, unknowns) derivatives of projected keypoints [sides of the box]."""
        depth = (fit.keypoints[..., 2:] + fit.translation[:, None, 2:]).clamp(min=_NEAREST)
        across = self.across.expand(depth.shape[0], -1, -1, -1)
        camera = torch.cat([across, -fit.points[..., None]], 3) / (depth * side[:, None])[..., None]
        moves = camera @ torch.cat([linear.by_rotation, linear.by_betas], 3)
        return torch.cat([moves, camera * units[:, None, None]], 3).flatten(1, 2)

    def _solve(self, slope: Tensor, missed: Tensor, variance: Tensor, gone: Tensor) -> Tensor:
        """(N, unknowns) the change that minimises |missed - slope change|^2 plus the squares of
        `gone` and change together, over `variance (N, 1, unknowns)`."""
        # Kalman's form has one equation per measurement, and there are fewer of them than unknowns.
        if not self.iterations:  # bodies close to the camera exceed single precision
            slope, missed, variance, gone = (
                each.double() for each in (slope, missed, variance, gone)
            )
        gain = slope * variance
        missed = missed + (slope * gone[:, None]).sum(2, keepdim=True)
        matrix = gain @ slope.mT + self.identity
        if not self.iterations:
            whole = torch.cholesky_solve(missed, torch.linalg.cholesky_ex(matrix).L)
        else:
            # On a diagonal of ones the largest eigenvalue is at most the number of measurements.
            scale = torch.rsqrt((matrix * self.identity).sum(2, keepdim=True))
            matrix = scale * matrix * scale.mT
            largest = torch.sqrt((matrix * matrix).sum((1, 2), keepdim=True))
            inverse = (2 * self.identity - matrix / largest) / largest
            for _ in range(self.iterations):
                inverse = inverse @ (2 * self.identity - matrix @ inverse)
            whole = scale * (inverse @ (scale * missed))
        return ((gain.mT @ whole)[..., 0] - gone).float()


class FittedNetwork(nn.Module):
    """A network with its fit, as in a bundle: the published network's predictions are not fitted.

    Attributes:
        network: its predictions are the result, or where the fit begins.
        refinement: the fit; None for a network without one.
    """

    def __init__(self, network: Key2Mesh, body: BodyModel) -> None:
        super().__init__()
        self.network, self.refinement = network, None
        if isinstance(network, RefinedKey2Mesh):
            self.refinement = Refinement(body).to(next(network.parameters()).device)

    def forward(self, inputs: Tensor, centre: Tensor, side: Tensor) -> Prediction:
        """Args: inputs (N, K, 5) of `network_inputs`; centre, side (N, 2), (N, 1) of their
        boxes."""
        return self.answers(self.network.extractor(inputs), inputs, centre, side)[-1]

    def answers(
        self, features: Tensor, inputs: Tensor, centre: Tensor, side: Tensor
    ) -> list[Prediction]:
        """The network's prediction for the extractor's features of `inputs`, then, if it is made
        for that, the fit after every step."""
        if self.refinement is None:
            return [self.network.head(features)]
        prediction, certainty = self.network.head.with_certainty(features)
        points = from_box(inputs, centre, side)
        with torch.autocast(inputs.device.type, enabled=False):
            fits = self.refinement(prediction, certainty, points, inputs[..., 2] > 0, side)
        return [prediction, *(Prediction(fit.betas, fit.rotations) for fit in fits[1:])]


def _fit(
    betas: Tensor, rotations: Tensor, translation: Tensor, joints: Tensor, keypoints: Tensor
) -> Fit:
    placed = keypoints + translation[:, None]
    points = placed[..., :2] / placed[..., 2:].clamp(min=_NEAREST)
    return Fit(betas, rotations, translation, joints, keypoints, points)
