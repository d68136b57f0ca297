# SPDX-License-Identifier: Apache-2.0
"""Renders pictures of bodies without a GPU: small triangles, painted from far to near.

Everything is in the camera's optical frame (x right, y down, z forward, metres). Surfaces are
drawn on the side from which their corners run counter-clockwise, lit softly from above.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.geometry.meshes import vertex_normals
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.table import LIMBS, NETWORK_KEYPOINTS

BODY_COLOUR = (150, 178, 222)

NEAR_M = 0.05
"""Triangles with a corner nearer than this [m], or behind the camera, are left out."""

_FINE = 3  # drawn larger and downscaled, because Pillow does not antialias
_MOST_PIXELS = 1 << 26
_FAR_OUT_PX = 1 << 24  # Pillow's coordinates are 32-bit integers

# Directions towards the lights, and their brightness.
_LIGHTS = ((np.array([-0.5, -0.75, -0.6]), 0.62), (np.array([0.8, -0.1, -0.5]), 0.20))
_SKY, _GROUND = 0.34, 0.16
_SHINE, _SHINE_POWER = 0.10, 24

_LEFT_COLOUR, _RIGHT_COLOUR, _MIDDLE_COLOUR = (38, 132, 255), (255, 122, 26), (120, 220, 130)
_OUTLINE = (20, 22, 28)


def render_mesh(
    vertices: NDArray[np.floating],
    triangles: NDArray[np.integer],
    intrinsics: Intrinsics,
    size: tuple[int, int],
    colour: tuple[int, int, int] = BODY_COLOUR,
) -> Image.Image:
    """The mesh as the camera sees it, shaded and without jagged edges: RGBA, transparent around it.

    Args:
        vertices: (V, 3) in the camera frame [m]. Parts at or behind the camera are left out.
        triangles: (F, 3) indices into vertices, counter-clockwise seen from outside.
        intrinsics: the camera, for an image of `size`.
        size: (width, height) [px].
        colour: colour of the surface, RGB 0 to 255.
    """
    fine = max(1, min(_FINE, math.isqrt(_MOST_PIXELS // (size[0] * size[1]))))
    layer = Image.new("RGBA", (size[0] * fine, size[1] * fine))
    vertices = vertices.astype(np.float64)
    visible = np.isfinite(vertices).all(1) & (vertices[:, 2] > NEAR_M)
    triangles = triangles[visible[triangles].all(1)]
    normals = vertex_normals(vertices, triangles)
    corners = vertices[triangles]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    seen = np.einsum("fc,fc->f", outward, corners[:, 0]) < 0
    triangles, corners = triangles[seen], corners[seen]
    # The centre of pixel (0, 0) is at coordinate (0, 0), so its area begins at -0.5.
    places = (project(corners, intrinsics) + 0.5) * fine - 0.5
    places = np.rint(np.clip(places, -_FAR_OUT_PX, _FAR_OUT_PX)).astype(int).reshape(-1, 6)
    shades = _shade(normals[triangles].mean(1), corners.mean(1), colour)
    draw = ImageDraw.Draw(layer)
    for index in np.argsort(-corners[..., 2].sum(1), kind="stable"):
        draw.polygon(places[index].tolist(), fill=tuple(shades[index].tolist()))
    return layer.reduce(fine)


def draw_keypoints(image: Image.Image, keypoints: NDArray[np.floating]) -> Image.Image:
    """`image` with a person's keypoints and limbs: left in blue, right in orange.

    Args:
        image: any mode; not changed.
        keypoints: (K, 3) x, y [px] and confidence; those below 0.1, or not finite, are not drawn.

    Returns:
        A new image, RGBA if `image` has transparency, else RGB.
    """
    finite = np.isfinite(keypoints).all(1) & (np.abs(keypoints[:, :2]) < 1e5).all(1)
    seen = finite & (np.nan_to_num(keypoints[:, 2]) >= SEEN_CONFIDENCE)
    layer = Image.new("RGBA", (image.width * _FINE, image.height * _FINE))
    draw = ImageDraw.Draw(layer)
    thick = max(1.0, min(image.size) / 160) * _FINE
    points = {
        int(k): tuple(((keypoints[k, :2] + 0.5) * _FINE).tolist()) for k in np.flatnonzero(seen)
    }
    for extra, outlined in ((0.8 * _FINE, True), (0.0, False)):
        for a, b in LIMBS:
            if a in points and b in points:
                colour = _OUTLINE if outlined else _side_colour(b)
                width = thick + 2 * extra
                draw.line((points[a], points[b]), fill=colour, width=max(1, round(width)))
                for end in (a, b):
                    _dot_at(draw, points[end], width / 2, colour)
        for k, point in points.items():
            colour = _OUTLINE if outlined else _side_colour(k)
            _dot_at(draw, point, 0.95 * thick + extra, colour)
    layer = layer.reduce(_FINE)
    result = Image.alpha_composite(image.convert("RGBA"), layer)
    return result if "A" in image.getbands() else result.convert("RGB")


def _side_colour(keypoint: int) -> tuple[int, int, int]:
    name = NETWORK_KEYPOINTS[keypoint]
    if name.startswith("left"):
        return _LEFT_COLOUR
    return _RIGHT_COLOUR if name.startswith("right") else _MIDDLE_COLOUR


def _dot_at(
    draw: ImageDraw.ImageDraw, point: tuple[float, ...], radius: float, colour: tuple[int, ...]
) -> None:
    x, y = point
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _shade(normals: NDArray, places: NDArray, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(F, 3) RGB of surfaces at positions (F, 3)."""
    normals, view = _unit(normals), _unit(-places)
    light = _GROUND + (_SKY - _GROUND) * (0.5 - 0.5 * normals[:, 1])
    shine = np.zeros(len(normals))
    for direction, strength in _LIGHTS:
        toward = _unit(direction)
        light += strength * np.clip(normals @ toward, 0, None)
        shine += strength * np.clip(_dot(normals, _unit(toward + view)), 0, None) ** _SHINE_POWER
    # Surfaces seen edge-on are slightly darker, which outlines the body.
    light *= 0.62 + 0.38 * np.clip(_dot(normals, view), 0, 1) ** 0.6
    linear = (np.asarray(colour) / 255) ** 2.2
    shaded = linear * light[:, None] * 1.25 + _SHINE * shine[:, None]
    return np.round(255 * np.clip(shaded, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _dot(a: NDArray, b: NDArray) -> NDArray:
    return np.einsum("nc,nc->n", a, b)


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)
