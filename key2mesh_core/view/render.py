# SPDX-License-Identifier: Apache-2.0
"""Pictures of bodies without a graphics card: small triangles, painted from far to near.

Everything is in the camera's optical frame (x right, y down, z forward, metres). Surfaces are
drawn on the side from which their corners run counter-clockwise, lit softly from above.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.errors import RenderError
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.table import LIMBS, NETWORK_KEYPOINTS

BODY_COLOUR = (150, 178, 222)

NEAR_M = 0.05
"""Triangles with a corner nearer than this (or behind the camera) are left out [m]."""

_FINE = 3  # drawn larger and shrunk: Pillow's edges are jagged
_MOST_PIXELS = 1 << 26
_FAR_OUT_PX = 1 << 24  # Pillow's coordinates are whole numbers of 32 bits

# Directions toward the lights, and how bright they are.
_LIGHTS = ((np.array([-0.5, -0.75, -0.6]), 0.62), (np.array([0.8, -0.1, -0.5]), 0.20))
_SKY, _GROUND = 0.34, 0.16
_SHINE, _SHINE_POWER = 0.10, 24

_LEFT_COLOUR, _RIGHT_COLOUR, _MIDDLE_COLOUR = (38, 132, 255), (255, 122, 26), (120, 220, 130)
_OUTLINE = (20, 22, 28)


def render_mesh(
    vertices: ArrayLike,
    triangles: ArrayLike,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    *,
    colour: tuple[int, int, int] = BODY_COLOUR,
    background: Image.Image | None = None,
    opacity: float = 1.0,
) -> Image.Image:
    """The mesh as the camera sees it, smoothly shaded and without jagged edges.

    Args:
        vertices: (V, 3) in the camera frame [m]. Parts at or behind the camera are left out.
        triangles: (F, 3) indices into vertices, counter-clockwise seen from outside.
        intrinsics: the camera, for an image of `size`.
        size: (width, height) [px].
        colour: of the surface, RGB 0 to 255.
        background: image of `size` to draw on (not changed); None leaves the rest transparent.
        opacity: 0 to 1, of the mesh over the background.

    Returns:
        RGB on a background, else RGBA.

    Raises:
        RenderError: shapes that do not fit one another.
    """
    vertices, triangles = _checked(vertices, triangles)
    _check_size(size, background)
    if not 0 <= opacity <= 1:
        raise RenderError(f"opacity must lie between 0 and 1, got {opacity}")
    layer = _draw(vertices, triangles, intrinsics, size, colour)
    if opacity < 1:
        layer.putalpha(layer.getchannel("A").point(lambda value: round(value * opacity)))
    if background is None:
        return layer
    return Image.alpha_composite(background.convert("RGBA"), layer).convert("RGB")


def draw_keypoints(image: Image.Image, keypoints: ArrayLike, *, scale: float = 1.0) -> Image.Image:
    """`image` with a person's keypoints and limbs: their left blue, their right orange.

    Args:
        image: any mode; not changed.
        keypoints: (K, 3) x, y [px] and confidence; below 0.1 (or not finite) is not drawn.
        scale: of lines and dots; 1 suits the image's size.

    Returns:
        A new image, RGBA if `image` has transparency, else RGB.
    """
    keypoints = np.asarray(keypoints, dtype=np.float64)
    if keypoints.shape != (len(NETWORK_KEYPOINTS), 3):
        raise RenderError(
            f"keypoints to draw must be ({len(NETWORK_KEYPOINTS)}, 3), got {keypoints.shape}"
        )
    finite = np.isfinite(keypoints).all(1) & (np.abs(keypoints[:, :2]) < 1e5).all(1)
    seen = finite & (np.nan_to_num(keypoints[:, 2]) >= SEEN_CONFIDENCE)
    layer = Image.new("RGBA", (image.width * _FINE, image.height * _FINE))
    draw = ImageDraw.Draw(layer)
    thick = max(1.0, scale * min(image.size) / 160) * _FINE
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


def _checked(vertices: ArrayLike, triangles: ArrayLike) -> tuple[NDArray, NDArray]:
    vertices = np.asarray(vertices, dtype=np.float64)
    triangles = np.asarray(triangles)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise RenderError(f"vertices must be (V, 3), got {vertices.shape}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype.kind not in "iu":
        found = f"{triangles.shape} {triangles.dtype}"
        raise RenderError(f"triangles must be (F, 3) integers, got {found}")
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise RenderError(f"triangles name vertices beyond the {len(vertices)} given")
    return vertices, triangles.astype(np.int64)


def _check_size(size: tuple[int, int], background: Image.Image | None) -> None:
    width, height = size
    if not (0 < width <= 16384 and 0 < height <= 16384):
        raise RenderError(f"image size must lie within 1 to 16384 px, got {width} x {height}")
    if background is not None and background.size != (width, height):
        raise RenderError(
            f"the background is {background.width} x {background.height} px, "
            f"the picture {width} x {height}: resize one"
        )


def _draw(
    vertices: NDArray,
    triangles: NDArray,
    intrinsics: Intrinsics,
    size: tuple[int, int],
    colour: tuple[int, int, int],
) -> Image.Image:
    """The mesh alone as RGBA, transparent around it."""
    fine = max(1, min(_FINE, math.isqrt(_MOST_PIXELS // (size[0] * size[1]))))
    layer = Image.new("RGBA", (size[0] * fine, size[1] * fine))
    visible = np.isfinite(vertices).all(1) & (vertices[:, 2] > NEAR_M)
    triangles = triangles[visible[triangles].all(1)]
    normals = vertex_normals(vertices, triangles)
    corners = vertices[triangles]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    seen = np.einsum("fc,fc->f", outward, corners[:, 0]) < 0
    triangles, corners = triangles[seen], corners[seen]
    # Pixel (0, 0) has its middle at coordinate (0, 0), so its area begins at -0.5.
    places = (project(corners, intrinsics) + 0.5) * fine - 0.5
    places = np.rint(np.clip(places, -_FAR_OUT_PX, _FAR_OUT_PX)).astype(int).reshape(-1, 6)
    shades = _shade(normals[triangles].mean(1), corners.mean(1), colour)
    draw = ImageDraw.Draw(layer)
    for index in np.argsort(-corners[..., 2].sum(1), kind="stable"):
        draw.polygon(places[index].tolist(), fill=tuple(shades[index].tolist()))
    return layer.reduce(fine) if fine > 1 else layer


def vertex_normals(vertices: NDArray, triangles: NDArray) -> NDArray[np.float64]:
    """(V, 3) outward unit normals, triangles weighted by area; zero where there are none."""
    corner = vertices[triangles]
    faces = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.zeros((len(vertices), 3))
    for k in range(3):
        np.add.at(normals, triangles[:, k], faces)
    return _unit(normals)


def _shade(normals: NDArray, places: NDArray, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(F, 3) RGB of surfaces at places (F, 3)."""
    normals, view = _unit(normals), _unit(-places)
    light = _GROUND + (_SKY - _GROUND) * (0.5 - 0.5 * normals[:, 1])
    shine = np.zeros(len(normals))
    for direction, strength in _LIGHTS:
        toward = _unit(direction)
        light += strength * np.clip(normals @ toward, 0, None)
        shine += strength * np.clip(_dot(normals, _unit(toward + view)), 0, None) ** _SHINE_POWER
    # Surfaces seen edge-on darken a little, which draws the body's outline.
    light *= 0.62 + 0.38 * np.clip(_dot(normals, view), 0, 1) ** 0.6
    linear = (np.asarray(colour) / 255) ** 2.2
    shaded = linear * light[:, None] * 1.25 + _SHINE * shine[:, None]
    return np.round(255 * np.clip(shaded, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _dot(a: NDArray, b: NDArray) -> NDArray:
    return np.einsum("nc,nc->n", a, b)


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)
