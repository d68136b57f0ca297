# SPDX-License-Identifier: Apache-2.0
"""What a depth camera or a lidar measured at the pixels of another image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics, project

Lookup = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Measured depths (M,) along the optical axis [m] at pixels (M, 2) of the pinhole camera; NaN
where nothing was measured."""


def image_lookup(
    depth: NDArray[np.floating], to_pixels: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Lookup:
    """Reads a depth image.

    Args:
        depth: (H, W) [m]; zero, negative and NaN are no measurement.
        to_pixels: from pixels of the pinhole camera to the depth image's (M, 2): size, distortion.
    """

    def lookup(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        places = to_pixels(pixels)
        # Pixel 0 reaches from -0.5 to 0.5, as camera calibration has it.
        column, row = np.floor(np.nan_to_num(places, nan=-9.0).T + 0.5).clip(-9, 1e6).astype(int)
        inside = (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0])
        result = np.full(len(pixels), np.nan)
        found = depth[row[inside], column[inside]].astype(np.float64)
        result[inside] = np.where(np.isfinite(found) & (found > 0), found, np.nan)
        return result

    return lookup


def cloud_lookup(points: NDArray[np.floating], intrinsics: Intrinsics, radius: float) -> Lookup:
    """Reads a point cloud: the median depth of the points seen within `radius` px of a pixel.

    Args:
        points: (P, 3) in the camera's optical frame [m]; those not finite are passed over.
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
