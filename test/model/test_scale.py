# SPDX-License-Identifier: Apache-2.0
"""The sources of scale, on scenes with known ground truth."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_scenes import (
    CAMERA,
    cloud,
    depth_image,
    estimator,
    keypoints_of,
    scaled,
    standing,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from key2mesh_core.camera.depth import cloud_lookup, image_lookup
from key2mesh_core.camera.pinhole import project
from key2mesh_core.model.scale import (
    ShapeSpace,
    depth_scale,
    down_in_camera,
    ground_scale,
    height_scale,
    rescale,
    rest_bodies,
)


@pytest.fixture(scope="module")
def shapes():
    return ShapeSpace.of(estimator())


def height(betas):
    mesh = estimator().add_vertices(rest_bodies(betas)).vertices[..., 1]
    return np.ptp(mesh, axis=1)


def random_betas(count):
    return np.random.default_rng(3).uniform(-2.5, 2.5, (count, 10)).astype(np.float32)


def test_heights_are_those_of_the_meshes(shapes):
    betas = random_betas(40)
    np.testing.assert_allclose(shapes.heights(betas), height(betas), atol=2e-3)


def test_scaled_betas_are_of_the_height_asked_for_and_nearly_of_the_shape(shapes):
    betas, scale = random_betas(40), np.linspace(0.85, 1.15, 40)
    result = shapes.scaled_betas(betas, scale)
    np.testing.assert_allclose(height(result), scale * height(betas), rtol=2e-3)
    before = estimator().add_vertices(rest_bodies(betas)).vertices * scale[:, None, None]
    after = estimator().add_vertices(rest_bodies(result)).vertices
    assert np.linalg.norm(after - before, axis=-1).mean() < 0.010
    np.testing.assert_allclose(shapes.scaled_betas(betas, np.ones(40)), betas, atol=1e-5)


@settings(max_examples=10)
@given(factor=st.floats(0.6, 1.9), beta=st.floats(-2.0, 2.0))
def test_a_scaled_body_stays_on_its_pixels(factor, beta):
    body = standing(beta, (0.4, -0.1, 3.0), 0.5)
    space = ShapeSpace.of(estimator())
    result = rescale(body, np.array([factor]), space)
    for place in ("joints", "translation"):
        before, after = getattr(body, place), getattr(result, place)
        np.testing.assert_allclose(after, factor * before, rtol=1e-5)
        np.testing.assert_allclose(project(after, CAMERA), project(before, CAMERA), atol=0.01)
    np.testing.assert_array_equal(result.rotations, body.rotations)


def test_a_body_that_nothing_is_known_of_stays_as_it_is(shapes):
    body = standing(0.3, (0.0, 0.0, 3.0))
    result = rescale(body, np.array([np.nan]), shapes)
    np.testing.assert_array_equal(result.joints, body.joints)
    np.testing.assert_allclose(result.betas, body.betas, atol=1e-5)


def test_nobody_is_no_trouble(shapes):
    nobody = standing(0.0, (0.0, 0.0, 3.0)).select(np.zeros(0, int))
    for scale in (
        height_scale(nobody, 1.7, shapes),
        ground_scale(nobody, np.zeros((0, 18, 3), np.float32), 1.0, down_in_camera(0, 0)),
        depth_scale(nobody, CAMERA, lambda pixels: np.full(len(pixels), 1.0)),
    ):
        assert scale.shape == (0,)
        assert len(rescale(nobody, scale, shapes)) == 0


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.2])
def test_a_known_height_finds_the_factor(shapes, factor):
    body = standing(0.7, (0.3, 0.1, 4.0))
    # Somebody who is really taller than the network's body for the same picture.
    tall = factor * float(height(body.betas)[0])
    (scale,) = height_scale(body, tall, shapes)
    assert scale == pytest.approx(factor, abs=1e-3)
    assert height(rescale(body, np.array([scale]), shapes).betas)[0] == pytest.approx(tall, 2e-3)


@pytest.mark.parametrize("pitch", [0.0, 25.0])
@pytest.mark.parametrize("roll", [0.0, -10.0])
@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_the_floor_finds_the_factor_from_a_tilted_camera(pitch, roll, factor):
    level = standing(0.0, (0.4, 0.0, 3.5))
    lowest = factor * level.vertices[0, :, 1].max()
    down = down_in_camera(*np.radians([pitch, roll]))
    # Turn the scene as the camera is turned: what was straight down is now along `down`.
    x = np.cross(down, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    turn = np.stack([x, down, np.cross(x, down)], axis=1)
    tilted = replace(level, joints=(level.joints @ turn.T).astype(np.float32))
    keypoints = keypoints_of(level)
    (scale,) = ground_scale(tilted, keypoints, float(lowest), down)
    assert scale == pytest.approx(factor, rel=0.02)


def test_which_way_is_down():
    np.testing.assert_allclose(down_in_camera(0.0, 0.0), [0, 1, 0], atol=1e-12)
    # A camera that looks straight down sees the floor ahead.
    np.testing.assert_allclose(down_in_camera(np.pi / 2, 0.3), [0, 0, 1], atol=1e-12)
    # Turned clockwise by a quarter, its right side is below.
    np.testing.assert_allclose(down_in_camera(0.0, np.pi / 2), [1, 0, 0], atol=1e-12)


def test_feet_that_were_not_seen_and_feet_in_the_air_say_nothing():
    body = standing(0.0, (0.0, 0.0, 3.0))
    down, keypoints = down_in_camera(0.0, 0.0), keypoints_of(body)
    assert np.isfinite(ground_scale(body, keypoints, 0.95, down))
    assert np.isnan(ground_scale(body, keypoints, 0.95 * 3, down))
    keypoints[0, [10, 13]] = 0.0
    assert np.isnan(ground_scale(body, keypoints, 0.95, down))


@pytest.mark.parametrize("yaw", np.radians([0, 45, 90, 135, 180]))
@pytest.mark.parametrize("beta", [-1.5, 0.0, 1.5])
def test_a_depth_camera_finds_the_factor_from_every_side(yaw, beta):
    seen = standing(beta, (0.5, 0.05, 2.8), yaw)
    depth = depth_image(scaled(seen, 1.1), wall=5.0)
    (by_image,) = depth_scale(seen, CAMERA, image_lookup(depth, lambda pixels: pixels))
    assert by_image == pytest.approx(1.1, abs=0.03)
    (by_cloud,) = depth_scale(seen, CAMERA, cloud_lookup(cloud(depth)[::7], CAMERA, 4.0))
    assert by_cloud == pytest.approx(by_image, abs=0.01)


def test_depth_with_holes_and_an_arm_before_the_trunk_is_borne_with():
    body = standing(0.0, (0.0, 0.0, 3.0))
    depth, random = depth_image(body, wall=6.0), np.random.default_rng(0)
    depth[random.random(depth.shape) < 0.4] = 0.0
    depth[:, 300:312] = 2.0
    (scale,) = depth_scale(scaled(body, 0.9), CAMERA, image_lookup(depth, lambda p: p))
    assert scale * 0.9 == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0, 0.4, 30.0])
def test_depth_that_cannot_be_this_persons_is_not_taken(value):
    body = standing(0.0, (0.0, 0.0, 3.0))
    depth = np.full((480, 640), value)
    assert np.isnan(depth_scale(body, CAMERA, image_lookup(depth, lambda p: p)))
    empty = cloud_lookup(np.full((5, 3), value, np.float32), CAMERA, 4.0)
    assert np.isnan(depth_scale(body, CAMERA, empty))


def test_a_person_out_of_the_depth_image_is_not_measured():
    body = standing(0.0, (9.0, 0.0, 3.0))
    depth = np.full((480, 640), 3.0)
    assert np.isnan(depth_scale(body, CAMERA, image_lookup(depth, lambda p: p)))


def errors(bodies, truth):
    """Distance of the pelvis from where it is, as a share of how far away it is."""
    return np.linalg.norm(bodies.translation - truth.translation) / np.linalg.norm(
        truth.translation
    )


def test_with_the_shipped_network_each_anchor_puts_people_of_all_sizes_in_their_place(shapes):
    """From perfect keypoints; what is left is the network's error in pose and shape."""
    found = {"nothing": [], "height": [], "ground": [], "depth": []}
    for beta in (-2.0, -1.0, 1.0, 2.0):
        for place in ((0.0, 0.1, 2.6), (1.0, 0.1, 3.6), (-0.8, 0.1, 5.0)):
            truth = standing(beta, place, yaw=0.4)
            keypoints = keypoints_of(truth)
            seen = estimator().estimate(keypoints, CAMERA)
            camera_height = float(truth.vertices[0, :, 1].max())
            depth = image_lookup(depth_image(truth, wall=8.0), lambda pixels: pixels)
            scales = {
                "nothing": np.array([np.nan]),
                "height": height_scale(seen, float(height(truth.betas)[0]), shapes),
                "ground": ground_scale(seen, keypoints, camera_height, down_in_camera(0, 0)),
                "depth": depth_scale(seen, CAMERA, depth),
            }
            for name, scale in scales.items():
                found[name].append(errors(rescale(seen, scale, shapes), truth))
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    print({name: f"{100 * value:.1f} %" for name, value in mean.items()})
    for name in ("height", "ground", "depth"):
        assert mean[name] < 0.04
        assert mean[name] < 0.5 * mean["nothing"]
