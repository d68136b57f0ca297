# SPDX-License-Identifier: Apache-2.0
"""Reads measured depths from a depth image or a point cloud at pixels of another image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics, project

Lookup = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps pixels (M, 2) of the pinhole camera to measured depths (M,) along the optical axis [m]; NaN
means no measurement."""


def image_lookup(
    depth: NDArray[np.floating], to_pixels: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Lookup:
    """The lookup in a depth image.

    Args:
        depth: (H, W) [m]; zero, negative values and NaN mean no measurement.
        to_pixels: converts pixels (M, 2) of the pinhole camera to those of the depth image, which
            may have another size and a lens.
    """

    def lookup(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        places = to_pixels(pixels)
        # Pixel 0 extends from -0.5 to 0.5, as in camera calibration.
        column, row = np.floor(np.nan_to_num(places, nan=-9.0).T + 0.5).clip(-9, 1e6).astype(int)
        inside = (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0])
        result = np.full(len(pixels), np.nan)
        found = depth[row[inside], column[inside]].astype(np.float64)
        result[inside] = np.where(np.isfinite(found) & (found > 0), found, np.nan)
        return result

    return lookup


def cloud_lookup(points: NDArray[np.floating], intrinsics: Intrinsics, radius: float) -> Lookup:
    """The lookup in a point cloud: the median depth of the points within `radius` px of a pixel.

    Args:
        points: (P, 3) in the camera's optical frame [m]; non-finite points are ignored.
    """
    ahead = points[np.isfinite(points).all(axis=1) & (points[:, 2] > 0.05)]
    places = project(ahead, intrinsics)

    def lookup(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        result = np.full(len(pixels), np.nan)
        good = np.isfinite(pixels).all(axis=1)
        if not good.any():
            return result
        low, high = pixels[good].min(axis=0) - radius, pixels[good].max(axis=0) + radius
        near = ((places >= low) & (places <= high)).all(axis=1)
        near_places, near_depths = places[near], ahead[near, 2]
        for index in np.flatnonzero(good):
            distance = np.abs(near_places - pixels[index]).max(axis=1, initial=0.0)
            depths = near_depths[distance <= radius]
            if len(depths):
                result[index] = np.median(depths)
        return result

    return lookup
