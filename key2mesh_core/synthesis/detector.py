# SPDX-License-Identifier: Apache-2.0
"""Simulates a 2D detector: noise, outliers, swapped limbs, unseen parts.

Points (N, K, 2) are on the image plane in units of the focal length; seen (N, K) is bool. Noise,
offsets, limbs and parts come from the table of keypoints.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from key2mesh_core.keypoints.arrays import MINIMUM_KEYPOINTS, SEEN_CONFIDENCE
from key2mesh_core.keypoints.table import KEYPOINTS, number_of, numbers_of
from key2mesh_core.network.crop import bounding_box
from key2mesh_core.synthesis.config import SynthesisConfig

_NOSE, _R_EYE, _L_EYE, _R_EAR, _L_EAR = (
    number_of(name) for name in ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
)
#: Right and left limbs that a detector swaps.
_ARMS = (
    numbers_of("right_shoulder", "right_arm"),
    numbers_of("left_shoulder", "left_arm"),
)
_LEGS = (
    numbers_of("right_hip", "right_leg", "right_foot"),
    numbers_of("left_hip", "left_leg", "left_foot"),
)
#: Parts that are hidden together: by a desk, a door frame or the edge of the image.
_PARTS = (
    numbers_of("right_arm"),
    numbers_of("left_arm"),
    numbers_of("right_leg", "right_foot"),
    numbers_of("left_leg", "left_foot"),
    numbers_of("leg", "foot"),
    numbers_of("foot"),
    numbers_of("hip", "leg", "foot"),
    numbers_of("right_arm", "right_leg", "right_foot"),
    numbers_of("left_arm", "left_leg", "left_foot"),
    numbers_of("face"),
    numbers_of("face", "neck"),
)
#: Parts that are hidden of partly visible people: the legs, all but head and shoulders, all but
#: the legs, the right half, the left half.
_HALVES = (
    numbers_of("hip", "leg", "foot"),
    numbers_of("arm", "hip", "leg", "foot"),
    numbers_of("face", "neck", "shoulder", "arm"),
    (*_ARMS[0], *_LEGS[0], _R_EYE, _R_EAR),
    (*_ARMS[1], *_LEGS[1], _L_EYE, _L_EAR),
)
#: Focal length of the paper's training camera, in whose pixels `pixel_jitter` is.
PAPER_FOCAL_PX = 256.0
_NOISE = [keypoint.noise for keypoint in KEYPOINTS]
_OFFSETS_M = [keypoint.offset / 1000 for keypoint in KEYPOINTS]
#: Confidence of a keypoint whose noise is this share of the box, how much it falls where the noise
#: is e times as large, and its own spread: COCO detections of AIST++ against the triangulated truth
#: (0.005 of the box at confidences above 0.9, 0.008 at 0.8, 0.013 at 0.5, 0.025 at 0.1).
_SURE_NOISE, _SURE, _FALL, _SPREAD = 0.0042, 0.95, 0.48, 0.12


def detect(
    points: Tensor, keypoints_3d: Tensor, config: SynthesisConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Noisy points (N, K, 2) and confidences (N, K), 0 where unseen; at least 6 seen per person.

    Args:
        points: (N, K, 2) true projections.
        keypoints_3d: (N, K, 3) in the camera frame [m], to determine which way the head faces.
    """
    draw = _Draw(len(points), points.device, generator)
    everything = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    side = bounding_box(points, everything)[1][..., None]
    points = _displace(points, keypoints_3d, config, draw)
    noise = _noise_sizes(points, config, draw)
    points = _add_noise(points, noise[..., None] * side, config, draw)
    if config.pixel_jitter:
        moved = torch.round(config.pixel_jitter * draw.normal(*points.shape[1:]))
        points = points + moved / PAPER_FOCAL_PX
    points = _throw_off(points, side, config, draw)
    points = _exchange_limbs(points, config, draw)
    confidence = _confidences(noise, config, draw)
    seen = _drop_single(confidence >= SEEN_CONFIDENCE, config, draw)
    seen = _drop_parts(seen, config, draw)
    seen = _show_half(seen, points, config, draw)
    seen = _hide_face(seen, keypoints_3d, config, draw)
    too_few = seen.sum(1, keepdim=True) < MINIMUM_KEYPOINTS
    return points, confidence.clamp(min=SEEN_CONFIDENCE) * (seen | too_few)


def hide(seen: Tensor, config: SynthesisConfig, generator: torch.Generator) -> Tensor:
    """Of what is seen (N, K), hides single keypoints and whole parts, as in `detect`; people of
    whom fewer than 6 would remain stay as they are."""
    draw = _Draw(len(seen), seen.device, generator)
    left = _drop_parts(_drop_single(seen, config, draw), config, draw)
    return torch.where(left.sum(1, keepdim=True) < MINIMUM_KEYPOINTS, seen, left)


class _Draw:
    """Random numbers for one batch on one device from one generator."""

    def __init__(self, count: int, device: torch.device, generator: torch.Generator) -> None:
        self.count, self.device, self.generator = count, device, generator

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generator, device=self.device)

    def share(self, probability: float, *shape: int) -> Tensor:
        return self.uniform(*shape) < probability


def _displace(points: Tensor, keypoints: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    if not config.offsets:
        return points
    reach = torch.tensor(_OFFSETS_M[: points.shape[1]], device=draw.device)[:, None]
    size = config.offsets * torch.exp(0.5 * draw.normal(1, 1))
    moved = draw.normal(points.shape[1], 3) * size * reach
    depth = (keypoints[..., 2:] + moved[..., 2:]).clamp(min=0.15)
    return points + (moved[..., :2] - points * moved[..., 2:]) / depth


def _noise_sizes(points: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    """(N, K) standard deviations, in sides of the box."""
    low, high = config.jitter
    if not high:
        return torch.zeros(points.shape[:2], device=draw.device)
    least, most = math.log(max(low, 1e-6)), math.log(high)
    size = least + draw.uniform(1) * (most - least)
    if config.jitter_varies:
        own = draw.normal(points.shape[1])
        for limb in (*_ARMS, *_LEGS):
            shared = [k for k in limb if k < points.shape[1]]
            own[:, shared] = (own[:, shared] + draw.normal(1)) / math.sqrt(2)
        size = size + config.jitter_varies * own
    return torch.exp(size) * torch.tensor(_NOISE[: points.shape[1]], device=draw.device)


def _add_noise(points: Tensor, size: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    if not config.jitter[1]:
        return points
    noise = draw.normal(*points.shape[1:])
    if config.jitter_varies:  # Student's t with four degrees of freedom
        square = -0.5 * torch.log((draw.uniform(points.shape[1], 2) + 1e-6).prod(2, keepdim=True))
        noise = noise / torch.sqrt(square.clamp(min=0.05))
    return points + noise * size


def _throw_off(points: Tensor, side: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    if not config.outliers:
        return points
    thrown = draw.share(config.outliers, points.shape[1], 1)
    return torch.where(thrown, points + draw.normal(*points.shape[1:]) * 0.15 * side, points)


def _confidences(noise: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    """What detectors say: some know their noise well, some distort it, some always say the same."""
    if not config.confidences:
        return torch.ones_like(noise)
    worse = torch.log(noise.clamp(min=1e-4) / _SURE_NOISE)
    said = _SURE - _FALL * worse + _SPREAD * draw.normal(noise.shape[1])
    said = said.clamp(0.02, 1)
    kind = draw.uniform(1)
    said = torch.where(kind < 0.5, said ** (0.3 + 1.5 * draw.uniform(1)), said)
    said = torch.where(kind < 0.25, said.mean(1, keepdim=True).expand_as(said), said)
    return torch.where(kind < 0.15, torch.ones_like(said), said)


def _exchange_limbs(points: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    if not config.swaps:
        return points
    points = points.clone()
    for right, left in (_ARMS, _LEGS):
        taken = draw.share(config.swaps)[:, None, None]
        right, left = ([k for k in limb if k < points.shape[1]] for limb in (right, left))
        both, exchanged = [*right, *left], [*left, *right]
        points[:, both] = torch.where(taken, points[:, exchanged], points[:, both])
    return points


def _drop_single(seen: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    if not config.drop:
        return seen
    rate = config.drop * (draw.uniform(1) if config.drop_varies else 1.0)
    return seen & (draw.uniform(seen.shape[1]) >= rate)


def _drop_parts(seen: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    if not config.drop_limbs:
        return seen
    return seen & ~(_one_of(_PARTS, draw, seen) & draw.share(config.drop_limbs)[:, None])


def _show_half(seen: Tensor, points: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    """Hides half of the body, or what is beyond an edge of the image."""
    if not config.drop_halves:
        return seen
    low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
    share = (points - low) / (high - low).clamp(min=1e-6)
    share = torch.cat([share, 1 - share], 2)  # from the left, the top, the right, the bottom
    edge = (draw.uniform(1, 1) * 4).long().clamp(max=3).expand(-1, points.shape[1], 1)
    beyond = share.gather(2, edge)[..., 0] < 0.1 + 0.5 * draw.uniform(1)
    hidden = torch.where(draw.share(0.5)[:, None], beyond, _one_of(_HALVES, draw, seen))
    hidden &= draw.share(config.drop_halves)[:, None]
    left = seen & ~hidden
    # Half a person has few keypoints: if single drops leave too few, none are dropped singly.
    few = left.sum(1, keepdim=True) < MINIMUM_KEYPOINTS
    return torch.where(few & hidden.any(1, keepdim=True), ~hidden, left)


def _one_of(parts: tuple[tuple[int, ...], ...], draw: _Draw, seen: Tensor) -> Tensor:
    """(N, K) mask of the keypoints of a random part per sample."""
    table = torch.zeros(len(parts), len(KEYPOINTS), dtype=torch.bool, device=draw.device)
    for row, part in enumerate(parts):
        table[row, list(part)] = True
    return table[:, : seen.shape[1]][(draw.uniform() * len(parts)).long().clamp(max=len(parts) - 1)]


def _hide_face(seen: Tensor, keypoints: Tensor, config: SynthesisConfig, draw: _Draw) -> Tensor:
    """Drops the keypoints that the head itself hides, which some detectors report and some do
    not."""
    if not config.hide_face:
        return seen
    ears = keypoints[:, _R_EAR] - keypoints[:, _L_EAR]
    forward = keypoints[:, _NOSE] - (keypoints[:, _R_EAR] + keypoints[:, _L_EAR]) / 2
    to_head = torch.nn.functional.normalize(keypoints[:, _NOSE], dim=1)

    def away(direction: Tensor) -> Tensor:
        return (torch.nn.functional.normalize(direction, dim=1) * to_head).sum(1)

    hidden = torch.zeros_like(seen)
    back = away(forward) > 0.4
    for keypoint in (_NOSE, _R_EYE, _L_EYE):
        hidden[:, keypoint] = back
    hidden[:, _R_EAR] = away(ears) > 0.3
    hidden[:, _L_EAR] = away(-ears) > 0.3
    return seen & ~(hidden & draw.share(config.hide_face)[:, None])
