# SPDX-License-Identifier: Apache-2.0
"""The demo's picture: some people's keypoints, with the meshes over them, and the meshes from the
side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.keypoints.arrays import bounding_boxes
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.view.render import draw_keypoints, render_mesh

TILE = (300, 400)
"""Width and height of one view [px]."""

GAP = 6
PAPER = (250, 250, 251)
INK = (40, 44, 52)
COLOURS = ((110, 168, 220), (236, 156, 92), (128, 190, 132))


@dataclass(frozen=True)
class Shot:
    """One person in one frame: the frame's time and the person's index in it."""

    stamp_ns: int
    seconds: float
    name: str
    keypoints: NDArray[np.float32]  # (K, 3), sanitised


@dataclass(frozen=True)
class Drawn:
    """A shot with its result: vertices (V, 3) [m] and reprojection error [px]."""

    shot: Shot
    vertices: NDArray[np.float32]
    error: float


def choose_shots(frames: Sequence[PersonFrame], count: int) -> list[Shot]:
    """Persons worth a picture: one from each of `count` equal parts of a recording, in poses as
    different from those before as there are, among the fifth that was detected most surely."""
    parts: list[list[Shot]] = [[] for _ in range(count)]
    for place, frame in enumerate(frames):
        seconds = (frame.stamp_ns - frames[0].stamp_ns) / 1e9
        parts[place * count // len(frames)] += [
            Shot(frame.stamp_ns, seconds, name, person)
            for name, person in zip(frame.ids, frame.keypoints, strict=True)
        ]
    chosen: list[Shot] = []
    for part in filter(None, parts):
        surest = sorted(part, key=lambda shot: -shot.keypoints[:, 2].sum())
        surest = surest[: -(-len(surest) // 5)]
        chosen.append(
            max(surest, key=lambda shot: min((_unlike(shot, c) for c in chosen), default=0.0))
        )
    return chosen


def _unlike(a: Shot, b: Shot) -> float:
    """The difference of two poses in the image, independent of size and position."""
    both = (a.keypoints[:, 2] > 0) & (b.keypoints[:, 2] > 0)
    if not both.any():
        return 1.0
    shapes = []
    for shot in (a, b):
        points = shot.keypoints[both, :2] - shot.keypoints[both, :2].mean(axis=0)
        shapes.append(points / max(float(np.linalg.norm(points)), 1e-6))
    return float(np.linalg.norm(shapes[0] - shapes[1]))


def draw(
    shots: Sequence[Drawn], triangles: NDArray[np.int32], intrinsics: Intrinsics
) -> Image.Image:
    """A column per shot: keypoints, mesh over keypoints, mesh from the side."""
    width, height = TILE
    left, top = 34, 46
    size = (left + len(shots) * (width + GAP), top + 3 * (height + GAP))
    sheet = Image.new("RGB", size, PAPER)
    names = sorted({drawn.shot.name for drawn in shots})
    for column, drawn in enumerate(shots):
        x = left + column * (width + GAP)
        colour = COLOURS[names.index(drawn.shot.name) % len(COLOURS)]
        for row, view in enumerate(_views(drawn, triangles, intrinsics, colour)):
            sheet.paste(view, (x, top + row * (height + GAP)))
        text = f"{drawn.shot.seconds:.1f} s   {drawn.error:.1f} px"
        _write(sheet, (x + width // 2, top // 2), text)
    for row, text in enumerate(("keypoints in", "mesh out", "from the side")):
        _write_upwards(sheet, (left // 2, top + row * (height + GAP) + height // 2), text)
    return sheet


def _views(
    drawn: Drawn, triangles: NDArray[np.int32], intrinsics: Intrinsics, colour: tuple[int, ...]
) -> tuple[Image.Image, Image.Image, Image.Image]:
    camera, keypoints = _closer(drawn.shot.keypoints, intrinsics)
    blank = Image.new("RGB", TILE, (255, 255, 255))
    seen = draw_keypoints(blank, keypoints)
    mesh, side = blank.copy(), blank.copy()
    views = (drawn.vertices, camera), _from_the_side(drawn.vertices, camera)
    for picture, (vertices, pinhole) in zip((mesh, side), views, strict=True):
        layer = render_mesh(vertices, triangles, pinhole, TILE, colour)
        picture.paste(layer, (0, 0), layer)
    return seen, draw_keypoints(mesh, keypoints), side


def _closer(
    keypoints: NDArray[np.float32], intrinsics: Intrinsics
) -> tuple[Intrinsics, NDArray[np.float32]]:
    """Cuts a person's surroundings out of the image and scales them to a tile."""
    width, height = TILE
    box = bounding_boxes(keypoints[None])[0]
    middle = (box[:2] + box[2:]) / 2
    span = np.maximum(box[2:] - box[:2], 1.0)
    scale = float(min(0.72 * width / span[0], 0.72 * height / span[1]))
    corner = middle - np.array([width, height]) / 2 / scale
    camera = Intrinsics(
        intrinsics.fx * scale,
        intrinsics.fy * scale,
        (intrinsics.cx - float(corner[0])) * scale,
        (intrinsics.cy - float(corner[1])) * scale,
    )
    moved = keypoints.copy()
    moved[:, :2] = (moved[:, :2] - corner) * scale
    moved[keypoints[:, 2] <= 0] = 0.0
    return camera, moved


def _from_the_side(
    vertices: NDArray[np.float32], camera: Intrinsics
) -> tuple[NDArray[np.float32], Intrinsics]:
    """The mesh turned by 90 degrees about its vertical axis, and a camera that shows it."""
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    distance = float(np.linalg.norm(middle))
    quarter = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=np.float32)
    turned = (vertices - middle) @ quarter.T + np.array([0, 0, distance], dtype=np.float32)
    width, height = TILE
    span = np.ptp(turned, axis=0)[:2] / distance
    focal = min(camera.fx, 0.85 * width / float(span[0]), 0.85 * height / float(span[1]))
    return turned.astype(np.float32), Intrinsics(focal, focal, width / 2, height / 2)


def _write(sheet: Image.Image, place: tuple[int, int], text: str) -> None:
    font = ImageFont.load_default(size=18)
    ImageDraw.Draw(sheet).text(place, text, fill=INK, font=font, anchor="mm")


def _write_upwards(sheet: Image.Image, place: tuple[int, int], text: str) -> None:
    label = Image.new("RGB", (240, 24), PAPER)
    _write(label, (120, 12), text)
    label = label.rotate(90, expand=True)
    sheet.paste(label, (place[0] - 12, place[1] - 120))
