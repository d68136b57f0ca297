# SPDX-License-Identifier: Apache-2.0
"""Pictures match the camera: positions, occlusion, and the visible side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.geometry.meshes import vertex_normals
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.view.render import draw_keypoints, render_mesh

CAMERA = Intrinsics(200, 210, 80, 61)
SIZE = (160, 120)
RED, GREEN = (255, 0, 0), (0, 255, 0)
ONE = np.array([[0, 1, 2]])


def facing(corners):
    """One triangle, its corners ordered so that the camera sees its front."""
    corners = np.asarray(corners, dtype=float)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    return corners if normal @ corners[0] < 0 else corners[::-1]


def alpha(image):
    return np.asarray(image.getchannel("A"))


def ball(centre, radius, steps=24):
    """A sphere: vertices (V, 3) and triangles facing outward."""
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps), indexing="ij"
    )
    unit = np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1
    )
    index = np.arange(polar.size).reshape(polar.shape)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return unit.reshape(-1, 3) * radius + centre, triangles


numbers = st.floats(-1, 1)


@given(
    corners=st.lists(st.tuples(numbers, numbers, st.floats(1, 5)), min_size=3, max_size=3),
)
def test_a_triangle_covers_exactly_the_pixels_inside_its_projection(corners):
    corners = facing(corners)
    covered = alpha(render_mesh(corners, ONE, CAMERA, SIZE))
    pixels = project(corners, CAMERA)
    grid = np.stack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1])), axis=-1).astype(float)
    edges = []
    for k in range(3):
        along = pixels[(k + 1) % 3] - pixels[k]
        length = max(np.hypot(*along), 1e-9)
        offset = grid - pixels[k]
        edges.append((along[0] * offset[..., 1] - along[1] * offset[..., 0]) / length)
    depth = np.maximum(np.min(edges, axis=0), np.min(-np.array(edges), axis=0))
    # A pixel is a square of 1 px: farther than its half diagonal from every edge there is no doubt.
    assert (covered[depth > 0.75] == 255).all()
    # And a pixel is covered, too, where the edge touches one of its ninths.
    assert (covered[depth < -1.25] == 0).all()


def test_a_point_lands_on_the_pixel_that_the_camera_says():
    for point in ([0.0, 0, 2], [0.3, -0.2, 1.5], [-0.5, 0.4, 3]):
        corners = facing(np.array(point) + 0.012 * np.array([[1, 0, 0], [-1, 1, 0], [-1, -1, 0]]))
        covered = alpha(render_mesh(corners, ONE, CAMERA, SIZE)).astype(float)
        rows, columns = np.indices(covered.shape)
        centre = [(covered * columns).sum(), (covered * rows).sum()] / covered.sum()
        np.testing.assert_allclose(centre, project(corners.mean(0), CAMERA), atol=0.2)


@pytest.mark.parametrize("near_first", [False, True])
def test_the_nearer_triangle_hides_the_farther(near_first):
    shape = np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1.5, 0]])
    near, far = facing(0.2 * shape + [0, 0, 1.0]), facing(shape + np.array([0, 0, 3.0]))
    order = (near, far) if near_first else (far, near)
    vertices = np.concatenate(order)
    both = render_mesh(vertices, np.arange(6).reshape(2, 3), CAMERA, SIZE)
    alone = render_mesh(near, ONE, CAMERA, SIZE)
    hidden = alpha(alone) == 255
    assert hidden.sum() > 100
    np.testing.assert_array_equal(np.asarray(both)[hidden], np.asarray(alone)[hidden])


def test_backs_are_not_drawn():
    corners = facing([[-0.5, -0.5, 2], [0.5, -0.5, 2], [0, 0.5, 2]])
    assert alpha(render_mesh(corners, ONE, CAMERA, SIZE)).any()
    assert not alpha(render_mesh(corners, ONE[:, ::-1], CAMERA, SIZE)).any()


def test_a_ball_is_a_filled_disc_without_holes_or_seams():
    vertices, triangles = ball([0.2, -0.1, 3], 0.5)
    covered = alpha(render_mesh(vertices, triangles, CAMERA, SIZE))
    centre = project(np.array([0.2, -0.1, 3]), CAMERA)
    rows, columns = np.indices(covered.shape)
    distance = np.hypot((columns - centre[0]) / 200, (rows - centre[1]) / 210) * 3
    assert (covered[distance < 0.47] == 255).all()
    assert not covered[distance > 0.54].any()


def test_light_comes_from_above():
    vertices, triangles = ball([0, 0, 3], 0.8)
    grey = np.asarray(render_mesh(vertices, triangles, CAMERA, SIZE).convert("L")).astype(int)
    middle = round(CAMERA.cx)
    top, bottom = grey[61 - 45, middle], grey[61 + 45, middle]
    assert top > bottom + 20


def test_edges_are_smooth():
    corners = facing([[-0.5, -0.41, 2], [0.5, -0.37, 2], [0.03, 0.5, 2]])
    levels = np.unique(alpha(render_mesh(corners, ONE, CAMERA, SIZE)))
    assert len(levels) > 4


@pytest.mark.parametrize(
    "vertices",
    [
        np.zeros((0, 3)),
        np.array([[-1.0, -1, -2], [1, -1, -2], [0, 1, -2]]),  # behind
        np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]]),  # in the camera
        np.array([[50.0, 0, 2], [51, 0, 2], [50, 1, 2]]),  # beside the image
        np.array([[0.0, 0, 2], [0, 0, 2], [0, 0, 2]]),  # no area
        np.array([[np.nan, 0, 2], [1, 0, 2], [0, 1, 2]]),
        np.array([[np.inf, 0, 2], [1, 0, 2], [0, 1, 2]]),
        np.array([[-1.0, -1, 2], [1, -1, 2], [0, 1, -2]]),  # through the camera's plane
    ],
)
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_nothing_in_view_leaves_the_picture_transparent(vertices, order):
    triangles = np.array([order] if len(vertices) else np.zeros((0, 3), int))
    assert not alpha(render_mesh(vertices, triangles, CAMERA, SIZE)).any()


def test_what_is_behind_does_not_take_the_rest_with_it():
    good = facing([[-0.5, -0.5, 2], [0.5, -0.5, 2], [0, 0.5, 2]])
    bad = np.array([[0, 0, -1], [1, 0, 1], [0, 1, 1], [np.nan, 0, 1]])
    both = render_mesh(
        np.concatenate([good, bad]), np.array([[0, 1, 2], [3, 4, 5], [4, 5, 6]]), CAMERA, SIZE
    )
    alone = render_mesh(good, ONE, CAMERA, SIZE)
    np.testing.assert_array_equal(np.asarray(both), np.asarray(alone))


def test_a_triangle_much_larger_than_the_picture_fills_it():
    corners = facing([[-90.0, -90, 1], [90, -90, 1], [0, 180, 1]])
    assert (alpha(render_mesh(corners, ONE, CAMERA, SIZE)) == 255).all()


def test_the_colour_is_the_one_asked_for():
    corners = facing([[-9.0, -9, 1], [9, -9, 1], [0, 18, 1]])
    red = np.asarray(render_mesh(corners, ONE, CAMERA, SIZE, RED))[60, 80]
    green = np.asarray(render_mesh(corners, ONE, CAMERA, SIZE, GREEN))[60, 80]
    assert red[0] > 2 * red[1]
    assert green[1] > 2 * green[0]


def test_normals_point_out_of_a_ball():
    vertices, triangles = ball([1, 2, 3], 0.5)
    normals = vertex_normals(vertices, triangles)
    used = np.linalg.norm(normals, axis=1) > 0
    outward = (vertices - [1, 2, 3]) / 0.5
    assert (normals[used] * outward[used]).sum(1).min() > 0.95


# --- keypoints ----------------------------------------------------------------------------------


def two_seen(first, second, confidence=1.0):
    keypoints = np.zeros((18, 3))
    keypoints[NETWORK_KEYPOINTS.index(first)] = 40, 30, confidence
    keypoints[NETWORK_KEYPOINTS.index(second)] = 100, 90, confidence
    return keypoints


def test_left_is_blue_right_is_orange_and_limbs_join_them():
    for side, channel in (("left", 2), ("right", 0)):
        blank = Image.new("RGB", SIZE, "white")
        drawn = np.asarray(draw_keypoints(blank, two_seen(f"{side}_knee", f"{side}_ankle")))
        for x, y in ((40, 30), (70, 60), (100, 90)):
            pixel = drawn[y, x].astype(int)
            assert pixel.argmax() == channel
            assert pixel.max() > pixel.min() + 50
        assert (drawn[90, 40] == 255).all()
        assert (np.asarray(blank) == 255).all()


@pytest.mark.parametrize("confidence", [0.0, 0.05, np.nan])
def test_unseen_keypoints_are_not_drawn(confidence):
    blank = Image.new("RGB", SIZE, "white")
    drawn = draw_keypoints(blank, two_seen("left_knee", "left_ankle", confidence))
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(blank))


@pytest.mark.parametrize("x", [np.nan, np.inf, 1e30, -1e9])
def test_keypoints_that_are_nowhere_are_not_drawn(x):
    keypoints = two_seen("left_knee", "left_ankle")
    keypoints[NETWORK_KEYPOINTS.index("left_ankle"), 0] = x
    only = keypoints.copy()
    only[NETWORK_KEYPOINTS.index("left_ankle")] = 0
    blank = Image.new("RGB", SIZE, "white")
    np.testing.assert_array_equal(
        np.asarray(draw_keypoints(blank, keypoints)), np.asarray(draw_keypoints(blank, only))
    )


def test_a_limb_needs_both_its_ends():
    keypoints = two_seen("left_hip", "left_ankle")  # the knee between them is missing
    drawn = np.asarray(draw_keypoints(Image.new("RGB", SIZE, "white"), keypoints))
    assert (drawn[60, 70] == 255).all()
    assert (drawn[30, 40] != 255).any()


def test_keypoints_are_drawn_over_a_transparent_picture_too():
    layer = draw_keypoints(Image.new("RGBA", SIZE), two_seen("left_knee", "left_ankle"))
    assert layer.mode == "RGBA"
    assert layer.getpixel((70, 60))[3] == 255
    assert layer.getpixel((0, 0))[3] == 0
