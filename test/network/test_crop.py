# SPDX-License-Identifier: Apache-2.0
"""The network's input does not depend on a person's position and size in the image."""

import numpy as np
import torch

from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.keypoints.arrays import bounding_boxes
from key2mesh_core.network.crop import bounding_box, centre_view, normalise, view_rotation

SEEN = torch.ones(50, 18, dtype=torch.bool)


def people(seed: int = 0) -> torch.Tensor:
    """Points (50, 18, 3) of people 2 to 6 m in front of the camera, near its axis."""
    random = torch.Generator().manual_seed(seed)
    body = torch.randn(50, 18, 3, generator=random) * torch.tensor([0.3, 0.5, 0.2])
    body[..., 2] += 2 + 4 * torch.rand(50, 1, generator=random)
    return body


def seen_as(points: torch.Tensor, seen: torch.Tensor = SEEN) -> torch.Tensor:
    view, _ = centre_view(points[..., :2] / points[..., 2:], seen)
    return normalise(view, seen, *bounding_box(view, seen))


def test_the_input_lies_in_the_unit_box_and_touches_its_longest_sides():
    points = people()
    image = points[..., :2] / points[..., 2:]
    inputs = normalise(image, SEEN, *bounding_box(image, SEEN))
    extent = inputs.amax(1) - inputs.amin(1)
    torch.testing.assert_close(extent.amax(1), torch.ones(50))
    torch.testing.assert_close((inputs.amax(1) + inputs.amin(1)) / 2, torch.full((50, 2), 0.5))


def test_unseen_points_are_put_in_the_middle_and_move_nothing():
    points, seen = people(), SEEN.clone()
    seen[:, [3, 9]] = False
    wild = points.clone()
    wild[:, [3, 9], :2] = 1e4
    inputs = seen_as(wild, seen)
    torch.testing.assert_close(inputs[:, [3, 9]], torch.full((50, 2, 2), 0.5))
    torch.testing.assert_close(inputs, seen_as(points, seen))


def test_nobody_seen_and_all_points_on_one_spot_stay_finite():
    points = torch.full((2, 18, 2), 0.3)
    for seen in (torch.zeros(2, 18, dtype=torch.bool), torch.ones(2, 18, dtype=torch.bool)):
        view, rotation = centre_view(points, seen)
        assert torch.isfinite(normalise(view, seen, *bounding_box(view, seen))).all()
        assert torch.isfinite(rotation).all()


def test_view_rotation_is_the_smallest_rotation_onto_the_ray():
    centres = 2 * torch.randn(50, 2, dtype=torch.float64)
    rotation = view_rotation(torch.cat([centres, torch.zeros(1, 2)]))
    rays = torch.cat([centres, torch.ones(50, 1)], 1)
    rays = rays / rays.norm(dim=1, keepdim=True)
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotation @ rotation.mT, identity.expand(51, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(51, dtype=torch.float64))
    torch.testing.assert_close(rotation[:50, :, 2], rays)  # image of the optical axis
    # Smallest: it turns by the angle between axis and ray, and not about the axis.
    cosine = (rotation.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    torch.testing.assert_close(cosine, rotation[:, 2, 2])
    torch.testing.assert_close(rotation[:, 1, 0], rotation[:, 0, 1])
    torch.testing.assert_close(rotation[50], identity)


def test_turning_the_camera_does_not_change_the_input():
    """A camera panned and tilted about its own centre sees the same of a person, shifted."""
    points = people()
    pan = axis_angle_to_matrix(torch.tensor([-0.2, 0.3, 0.0]))
    # The box's middle is found in the image, so turning is undone to second order, not exactly.
    torch.testing.assert_close(seen_as(points), seen_as(points @ pan.T), atol=0.05, rtol=0)
    image = points[..., :2] / points[..., 2:]
    shifted = (points @ pan.T)[..., :2] / (points @ pan.T)[..., 2:]
    plain = [normalise(p, SEEN, *bounding_box(p, SEEN)) for p in (image, shifted)]
    centred = (seen_as(points) - seen_as(points @ pan.T)).abs().mean()
    assert centred < 0.3 * (plain[0] - plain[1]).abs().mean()


def test_the_turned_view_is_centred():
    points = people() + torch.tensor([1.5, -0.5, 0.0])
    view, rotation = centre_view(points[..., :2] / points[..., 2:], SEEN)
    turned = points @ rotation
    torch.testing.assert_close(view, turned[..., :2] / turned[..., 2:], atol=1e-4, rtol=1e-4)
    assert (bounding_box(view, SEEN)[0].norm(dim=1) < 0.1).all()


def test_the_box_around_the_seen_is_the_same():
    rng = np.random.default_rng(2)
    keypoints = rng.uniform(0, 640, (20, 18, 3)).astype(np.float32)
    keypoints[..., 2] = rng.uniform(0, 0.3, (20, 18))
    centre, side = bounding_box(
        torch.as_tensor(keypoints[..., :2]), torch.as_tensor(keypoints[..., 2] >= 0.1)
    )
    boxes = bounding_boxes(keypoints)
    np.testing.assert_allclose(centre, (boxes[:, :2] + boxes[:, 2:]) / 2, rtol=1e-5)
    np.testing.assert_allclose(side[:, 0], (boxes[:, 2:] - boxes[:, :2]).max(axis=1), rtol=1e-5)
