# SPDX-License-Identifier: Apache-2.0
"""Time against the number of persons, both on logarithmic scales. Needs Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks.names import ENGINE

_INK, _FAINT, _PAPER = (35, 38, 45), (226, 229, 234), (255, 255, 255)
_COLOURS = (
    (20, 93, 160), (214, 108, 32), (46, 139, 87), (140, 82, 165),
    (178, 48, 58), (110, 110, 110), (0, 150, 170), (150, 120, 30),
)  # fmt: skip
_WIDTH, _HEIGHT = 900, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 280, 50, 50


@dataclass(frozen=True)
class Curve:
    """Times [ms] by persons; `dashed` for what is a floor and not a measurement."""

    label: str
    points: Sequence[tuple[int, float]]
    dashed: bool = False


def curves(rows: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The curves of `table1.run`'s rows: everybody with a mesh, the engine without one as well, and
    the engine's floor."""
    found: dict[str, list[tuple[int, float]]] = {}
    floor = []
    for row in rows:
        if not row["mesh"] and row["name"] != ENGINE:
            continue
        label = row["name"] if row["mesh"] else f"{row['name']}, joints only"
        found.setdefault(label, []).append((row["persons"], row["timing"]["median_ms"]))
        if row["mesh"] and row["name"] == ENGINE:
            floor.append((row["persons"], row["floor_ms"]))
    return [*(Curve(*each) for each in found.items()), Curve("the engine's floor", floor, True)]


def draw(title: str, curves: Sequence[Curve]) -> Image.Image:
    """A picture of the curves, each labelled at its end."""
    persons = [x for curve in curves for x, _ in curve.points]
    times = [y for curve in curves for _, y in curve.points]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    across = max(1.0, math.log2(max(persons)))

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(y) - low) / max(1, high - low)
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log2(x) / across,
            _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share,
        )

    image = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((_LEFT, 14), title, _INK, _font(17))
    for power in range(low, high + 1):
        x, y = place(1, 10.0**power)
        pen.line([(x, y), (_WIDTH - _RIGHT, y)], _FAINT)
        pen.text((x - 8, y), f"{10.0**power:g} ms", _INK, _font(12), anchor="rm")
    for doubled in range(math.floor(across) + 1):
        x, y = place(2**doubled, 10.0**low)
        pen.line([(x, y), (x, _TOP)], _FAINT)
        pen.text((x, y + 8), str(2**doubled), _INK, _font(12), anchor="mt")
    pen.text(place(2 ** (across / 2), 10.0**low), "\n\npersons in a call", _INK, _font(12), "ma")
    labels = _spread([place(*curve.points[-1])[1] for curve in curves])
    for number, (curve, height) in enumerate(zip(curves, labels, strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        spots = [place(*point) for point in curve.points]
        for start, end in pairwise(spots):
            _line(pen, start, end, colour, curve.dashed)
        if not curve.dashed:
            for x, y in spots:
                pen.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
        pen.line([spots[-1], (_WIDTH - _RIGHT + 18, height)], _FAINT)
        pen.text((_WIDTH - _RIGHT + 22, height), curve.label, colour, _font(13), anchor="lm")
    return image


def _line(
    pen: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: tuple[int, int, int],
    dashed: bool,
) -> None:
    if not dashed:
        pen.line([start, end], colour, 2)
        return
    pieces = max(1, round(math.dist(start, end) / 8))
    for piece in range(pieces):
        shares = piece / pieces, (piece + 0.5) / pieces
        a, b = (
            tuple(p + share * (q - p) for p, q in zip(start, end, strict=True)) for share in shares
        )
        pen.line([a, b], colour, 1)


def _spread(heights: Sequence[float], apart: float = 18.0) -> list[float]:
    """The same heights, moved so that labels do not lie on each other."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + apart)
    over = max(placed, default=0.0) - (_HEIGHT - _BOTTOM)
    return [height - max(0.0, over) for height in placed]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
