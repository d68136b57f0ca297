# SPDX-License-Identifier: Apache-2.0
"""Derives the intrinsics of the keypoints' image from a sensor_msgs/CameraInfo, live or recorded.

By the message's definition, width, height, K and P refer to the whole sensor at full resolution.
The image may be a part of it (roi, in pixels of the whole sensor), and smaller (binning, or a
detector's own resizing). Not every driver complies. Some give K of the binned image
(avt_vimba_camera #82), K of another resolution than width and height (ros_astra_camera #84), width
and height of the image itself, or roi in pixels of the binned image (spinnaker_sdk_camera_driver).
The principal point, which is near the centre of the image that a matrix belongs to, tells most of
these cases apart.

Only attributes are read, so any object with the message's attributes works.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics

_NEAR = np.log(1.15)
"""A principal point this near to an image's centre (as a ratio) may belong to that image."""

_FAR = np.log(4 / 3)
"""A principal point this far from the centre, in both axes and on the same side, is suspicious."""

_LOST = np.log(10)
"""A principal point this far from the centre in both axes belongs to no image: a transposed or
normalised matrix."""

_ALIKE = np.log(1.5)
"""Images of different sizes differ by factors as similar as this in x and y, even 4:3 and 16:9."""

_DIVISORS = (2, 3, 4, 6)
"""A driver's matrix may belong to images this many times smaller than width and height."""

_REMEDY = "calibrate the camera at the size of its images, or state their size, fx, fy, cx and cy"

Pair = NDArray[np.float64]
"""(2,) x and y."""


class _Region(NamedTuple):
    """The region of the sensor that the images show.

    Attributes:
        corner, size: of the region [sensor px].
        sensor: size of the whole sensor [px]; None if unknown.
        bins: sensor pixels per image pixel.
        doubt: why the region contradicts the rest of the message; empty if it does not.
    """

    corner: Pair
    size: Pair
    sensor: Pair | None
    bins: Pair
    doubt: str = ""


def image_size(info: Any) -> tuple[int, int]:
    """Width and height [px] of the images that the message describes."""
    region = _region(info, np.zeros(2))
    width, height = (region.size // region.bins).astype(int).tolist()
    return width, height


def unbinned_size(info: Any) -> tuple[int, int]:
    """Width and height [px] of the images if the message's binning has no effect."""
    whole = info.roi if info.roi.width and info.roi.height else info
    return whole.width, whole.height


def image_intrinsics(info: Any, width: int, height: int, rectified: bool) -> tuple[Intrinsics, str]:
    """Intrinsics of an image of `width` x `height` px (0 if unknown: `image_size`), and a sentence
    that says why the message is doubtful and names the sizes; empty if it is not.

    Args:
        rectified: whether the image is rectified. The topic is the same for raw and rectified
            images: K and D belong to the raw one, P to the rectified one.

    Raises:
        CameraError: the camera is not calibrated.
    """
    name, values = ("P", np.reshape(info.p, (3, 4))[:, :3]) if rectified else ("K", info.k)
    focal, centre = np.reshape(astuple(Intrinsics.from_matrix(values)), (2, 2))
    told = np.array([width, height], float)
    region = _region(info, told)
    unit, corner, doubt = _read_matrix(name, centre, region)
    scale = told / region.size if told.all() and region.size.all() else 1 / region.bins
    intrinsics = Intrinsics(*(focal / unit * scale), *((centre / unit - corner) * scale))
    return intrinsics, doubt and f"CameraInfo is doubtful: {doubt}; {_REMEDY}"


def _region(info: Any, told: Pair) -> _Region:
    """The region that images of `told` px (0 if unknown) show."""
    roi, sensor = info.roi, np.array([info.width, info.height], float)
    bins = np.maximum(1.0, [info.binning_x, info.binning_y])
    corner, size = np.array([[roi.x_offset, roi.y_offset], [roi.width, roi.height]], float)
    if not size.all():
        corner, size = np.zeros(2), sensor
    if not sensor.all():
        return _Region(corner, size, None, bins)
    text = f"its region of interest of {_text(size)} px at ({_text(corner, ', ')})"
    if (corner + size > sensor).any():  # width and height are those of the images themselves
        doubt = f"{text} is outside its width and height, {_text(sensor)} px"
        return _Region(corner * bins * sensor / size, sensor * bins, None, bins, doubt)
    if (told == size).all() and (bins > 1).any():  # the region is in image pixels
        corner, size = corner * bins, size * bins
        if (corner + size > sensor).any():  # and so are width and height
            return _Region(corner, size, sensor * bins, bins)
        doubt = f"{text} is in pixels of the binned image, not of the sensor, {_text(sensor)} px"
        return _Region(corner, size, sensor, bins, doubt)
    unclear = (bins > 1).any() and ((corner + size) * bins <= sensor).all() and not told.all()
    doubt = f"{text} may refer to {_text(sensor)} px (the sensor) or {_text(sensor // bins)} px"
    return _Region(corner, size, sensor, bins, doubt if unclear else "")


def _read_matrix(name: str, centre: Pair, region: _Region) -> tuple[Pair, Pair, str]:
    """Interprets K or P (`name`) by its principal point `centre`: its pixels per sensor pixel, the
    images' corner from its origin [sensor px], and why the message is doubtful."""
    units = (np.ones(2), 1 / region.bins)
    if region.sensor is None:
        if _misses(centre, region.size / region.bins).max() < _NEAR:
            return units[1], np.zeros(2), ""
        whole = (2.2 * centre >= region.corner + region.size).all()
        doubt = (
            region.doubt and f"{region.doubt}: {name} is interpreted as that of the whole sensor"
        )
        return units[0 if whole else 1], region.corner, doubt
    unit = min(units, key=lambda each: _misses(centre, each * region.sensor).sum())
    misses = _misses(centre, unit * region.sensor)
    doubt = (
        f"{name}'s principal point is the centre of an image of about {_text(2 * centre)} px, but "
        f"its width and height are {_text(region.sensor)} px"
    )
    if (region.size < region.sensor).any() and misses.max() > _NEAR:
        for each in units:
            if _misses(centre, each * region.size).max() < _NEAR:
                return (
                    each,
                    np.zeros(2),
                    f"{doubt}: it is interpreted as that of the region of interest",
                )
    smaller = 2 * centre < unit * region.sensor
    shifted = misses.min() < _FAR or np.ptp(misses) > _ALIKE or smaller[0] != smaller[1]
    if shifted and misses.min() < _LOST:
        return unit, region.corner, region.doubt
    for divisor in _DIVISORS:
        if _misses(centre, region.sensor / divisor).max() < _NEAR:
            return np.full(2, 1 / divisor), region.corner, f"{doubt}: {name} is scaled to them"
    return unit, region.corner, f"{doubt}: {name} is not changed"


def _misses(centre: Pair, size: Pair) -> Pair:
    """A principal point's distance from the centre of an image, as the logarithm of their ratio."""
    return np.abs(np.log(np.maximum(2 * centre, 1e-9) / np.maximum(size, 1e-9)))


def _text(pair: Pair, between: str = " x ") -> str:
    return between.join(f"{value:.0f}" for value in pair)
