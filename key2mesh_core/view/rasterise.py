# SPDX-License-Identifier: Apache-2.0
"""Which triangle each pixel shows: a z-buffer in numpy, a million candidates at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1_000_000


def pixel_boxes(pixels: NDArray, triangles: NDArray, size: NDArray) -> tuple[NDArray, ...]:
    """Per triangle the first column and row of pixels it may cover, and how many of each."""
    corner = pixels[triangles]
    first = np.clip(np.floor(corner.min(1)), 0, size).astype(np.int64)
    last = np.clip(np.ceil(corner.max(1)), 0, size).astype(np.int64)
    count = np.maximum(last - first, 0)
    return first[:, 0], first[:, 1], count[:, 0], count[:, 1]


def rasterise(
    pixels: NDArray,
    nearness: NDArray,
    triangles: NDArray,
    boxes: tuple[NDArray, ...],
    size: NDArray,
) -> tuple[NDArray, NDArray]:
    """For each pixel (H, W) the nearest triangle, -1 for none, and its corners' shares there.

    Nearness, 1/z, is linear in the image, so shares weighted by it are right in perspective.
    """
    width, height = int(size[0]), int(size[1])
    best = np.zeros(width * height, dtype=np.float32)
    owner = np.full(width * height, -1, dtype=np.int32)
    shares = np.zeros((width * height, 3), dtype=np.float32)
    column, row, columns, rows = boxes
    area = columns * rows
    order = np.flatnonzero(area)
    ends = np.cumsum(area[order])
    along_x, along_y, at_box = _share_planes(pixels[triangles], column, row)
    start = 0
    while start < len(order):
        base = ends[start] - area[order[start]]
        stop = max(start + 1, int(np.searchsorted(ends, base + _CHUNK)))
        chunk = order[start:stop]
        start = stop
        which = np.repeat(chunk, area[chunk])
        step = np.arange(len(which)) - np.repeat(np.cumsum(area[chunk]) - area[chunk], area[chunk])
        down, right = np.divmod(step, columns[which])
        part = [
            along_x[k][which] * right + along_y[k][which] * down + at_box[k][which]
            for k in range(3)
        ]
        inside = np.flatnonzero((part[0] >= 0) & (part[1] >= 0) & (part[2] >= 0))
        which = which[inside]
        weighted = np.stack([part[k][inside] for k in range(3)], axis=1)
        weighted *= nearness[triangles[which]].astype(np.float32)
        near = weighted.sum(1)
        cell = (row[which] + down[inside]) * width + column[which] + right[inside]
        # The nearest of each cell comes last and stays.
        nearest = np.argsort(near)
        nearest = nearest[near[nearest] > best[cell[nearest]]]
        best[cell[nearest]] = near[nearest]
        owner[cell[nearest]] = which[nearest]
        shares[cell[nearest]] = weighted[nearest] / near[nearest, None]
    return owner.reshape(height, width), shares.reshape(height, width, 3)


def _share_planes(
    corner: NDArray, column: NDArray, row: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """How each corner's share (3, F) grows per pixel right and down, and is at the box's first.

    The three shares of a point sum to 1 and none is negative inside the triangle.
    """
    first = np.stack([column, row], axis=1) + 0.5
    ahead, behind = np.roll(corner, -1, axis=1), np.roll(corner, -2, axis=1)
    edge = behind - ahead
    whole = _cross_2d(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, None]
    # A triangle seen exactly edge-on covers nothing: its shares become -1 everywhere.
    flat = np.abs(whole) < 1e-12
    whole = np.where(flat, 1.0, whole)
    along_x, along_y = -edge[:, :, 1] / whole, edge[:, :, 0] / whole
    offset = first[:, None] - ahead
    at_box = along_x * offset[:, :, 0] + along_y * offset[:, :, 1]
    planes = np.where(flat, 0, along_x), np.where(flat, 0, along_y), np.where(flat, -1, at_box)
    return tuple(np.ascontiguousarray(plane.T, dtype=np.float32) for plane in planes)


def _cross_2d(a: NDArray, b: NDArray) -> NDArray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
