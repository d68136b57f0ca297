# SPDX-License-Identifier: Apache-2.0
"""All frames of the motion capture, and how often each is sampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.recordings.amass import WORLD_TO_UPRIGHT, Clip

_CELLS = 1024


class MotionBank(nn.Module):
    """Frames of several sources, sampled by the source's share and the pose's rarity.

    Buffers (they follow `.to(device)`): `poses (F, 22, 3)` axis-angle [rad], `betas (F, 10)`,
    `cumulative (F,)` distribution over frames.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Sequence[Clip], float]],
        body: BodyModel | None = None,
        balance: float = 0.0,
    ) -> None:
        """Args: sources: clips and share of samples of each source. body: needed if `balance` is
        not 0, to compare poses. balance: frames of a pose that occurs n times are sampled in
        proportion to n ** -balance.
        """
        super().__init__()
        if any(not clips for clips, _ in sources) or not sources:
            raise TrainingError("a source of motion capture has no clip to train on")
        poses, betas, weights = [], [], []
        for clips, share in sources:
            frames = torch.cat([torch.as_tensor(clip.poses) for clip in clips])
            poses.append(frames)
            betas += [torch.as_tensor(c.betas).expand(len(c.poses), -1) for c in clips]
            weight = torch.ones(len(frames), dtype=torch.float64)
            if balance:
                weight = _rarity(frames, body).double() ** balance
            weights.append(share * weight / weight.sum())
        cumulative = torch.cat(weights).cumsum(0)
        self.register_buffer("poses", torch.cat(poses), persistent=False)
        self.register_buffer("betas", torch.cat(betas), persistent=False)
        self.register_buffer("cumulative", cumulative / cumulative[-1], persistent=False)

    def __len__(self) -> int:
        return len(self.poses)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rotations (N, 24, 3, 3), root upright in a y-down frame, and betas (N, 10)."""
        place = torch.rand(count, generator=generator, device=self.poses.device)
        frames = torch.searchsorted(self.cumulative, place.double()).clamp(max=len(self) - 1)
        return self.take(frames)

    def take(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The same of frames (N,)."""
        frames = frames.to(self.poses.device)
        return rotations_of(self.poses[frames]), self.betas[frames]


def rotations_of(poses: Tensor) -> Tensor:
    """Rotations (N, 24, 3, 3) of AMASS poses (N, 22, 3): y-down root, hands at rest."""
    body = axis_angle_to_matrix(poses)
    upright = torch.as_tensor(WORLD_TO_UPRIGHT, device=poses.device) @ body[:, :1]
    hands = torch.eye(3, device=poses.device).expand(len(poses), 2, 3, 3)
    return torch.cat([upright, body[:, 1:], hands], 1)


@torch.no_grad()
def _rarity(poses: Tensor, body: BodyModel) -> Tensor:
    """(F,) inverse of the number of frames in the frame's cell of pose space.

    Cells surround up to 1,024 frames that are chosen farthest apart in joint positions, so they
    cover pose space evenly however unevenly it was recorded.
    """
    positions = []
    for part in poses.split(16384):
        rotations = rotations_of(part)
        rotations[:, 0] = torch.eye(3)
        betas = torch.zeros(len(part), 10)
        positions.append(body.forward_kinematics(betas, rotations)[0][:, 1:].flatten(1))
    points = torch.cat(positions)
    nearest = torch.full((len(points),), torch.inf)
    cell = torch.zeros(len(points), dtype=torch.int64)
    chosen = 0
    for index in range(min(_CELLS, len(points))):
        distance = (points - points[chosen]).square().sum(1)
        closer = distance < nearest
        cell[closer], nearest[closer] = index, distance[closer]
        chosen = int(nearest.argmax())
        if nearest[chosen] == 0:
            break
    return 1 / torch.bincount(cell)[cell].float()
