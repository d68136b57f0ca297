# SPDX-License-Identifier: Apache-2.0
"""Makes new poses from recorded ones: seen from anywhere, mirrored, recombined, perturbed.

All functions take and return rotations (N, 24, 3, 3) relative to the parent, with the root in a
y-down frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from key2mesh_core.geometry.rotations import (
    axis_angle_to_matrix,
    rotation_6d_to_matrix,
    with_turned_root,
)
from key2mesh_core.synthesis.config import SynthesisConfig

_LEFT = (1, 4, 7, 10, 13, 16, 18, 20, 22)
_RIGHT = (2, 5, 8, 11, 14, 17, 19, 21, 23)
_LEGS = [1, 2, 4, 5, 7, 8, 10, 11]
_BODY = slice(1, 22)


def vary_poses(rotations: Tensor, config: SynthesisConfig, generator: torch.Generator) -> Tensor:
    """Applies other samples' legs, random joint rotations and mirroring, each to its share of
    samples."""
    count, device = len(rotations), rotations.device

    def share(probability: float) -> Tensor:
        return torch.rand(count, generator=generator, device=device) < probability

    rotations = rotations.clone()
    if config.exchange_halves:
        # The batch is random, so its reversed order serves as a set of other frames.
        others = rotations.flip(0)
        taken = share(config.exchange_halves)[:, None, None, None]
        rotations[:, _LEGS] = torch.where(taken, others[:, _LEGS], rotations[:, _LEGS])
    if config.joint_noise or config.large_joint_noise_share:
        large = share(config.large_joint_noise_share)
        size = torch.where(large, config.large_joint_noise, config.joint_noise)
        noise = torch.randn(count, 21, 3, generator=generator, device=device)
        rotations[:, _BODY] = rotations[:, _BODY] @ axis_angle_to_matrix(
            noise * size[:, None, None]
        )
    if config.mirror:
        rotations = torch.where(
            share(config.mirror)[:, None, None, None], mirrored(rotations), rotations
        )
    return rotations


def mirrored(rotations: Tensor) -> Tensor:
    """The mirror image of poses in the plane x = 0: left and right limbs swap."""
    order = list(range(24))
    for left, right in zip(_LEFT, _RIGHT, strict=True):
        order[left], order[right] = right, left
    sign = torch.tensor([-1.0, 1.0, 1.0], device=rotations.device, dtype=rotations.dtype)
    return rotations[:, order] * (sign[:, None] * sign)


def turn_towards_cameras(
    rotations: Tensor, config: SynthesisConfig, generator: torch.Generator
) -> Tensor:
    """Turns roots by any yaw, then by the camera's pitch and roll; some by an arbitrary
    rotation."""
    count, device = len(rotations), rotations.device
    angles = torch.rand(count, 3, generator=generator, device=device)
    yaw = angles[:, 0] * 2 * math.pi
    pitch = (angles[:, 1] * 2 - 1) * math.radians(config.tilt_degrees)
    roll = (angles[:, 2] * 2 - 1) * math.radians(config.roll_degrees)
    if config.pitch_first:  # the order of the authors' code
        turn = _about(2, roll) @ _about(1, yaw) @ _about(0, pitch)
    else:
        turn = _about(2, roll) @ _about(0, pitch) @ _about(1, yaw)
    if config.tumble:
        chosen = torch.rand(count, generator=generator, device=device) < config.tumble
        turn = torch.where(chosen[:, None, None], uniform_rotations(count, generator, device), turn)
    return with_turned_root(turn, rotations)


def uniform_rotations(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(N, 3, 3) rotations, uniform over SO(3): Gram-Schmidt of Gaussian columns."""
    return rotation_6d_to_matrix(torch.randn(count, 6, generator=generator, device=device))


def _about(axis: int, angle: Tensor) -> Tensor:
    vector = torch.zeros(len(angle), 3, device=angle.device)
    vector[:, axis] = angle
    return axis_angle_to_matrix(vector)
