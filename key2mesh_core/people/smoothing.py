# SPDX-License-Identifier: Apache-2.0
"""Smooths bodies over time: one-euro filters for rotations and position, means for the shape.

A one-euro filter (Casiez, Roussel and Vogel, CHI 2012) is a low-pass filter whose cutoff grows with
speed: it is steady at rest and follows fast motion. Here the speed also predicts the next value, so
the filter follows uniform motion without lag. All people are filtered at once:

- 24 rotations, as unit quaternions. A measured quaternion gets the sign that brings it nearer to
  the filtered one; the four numbers are filtered, and the result is normalised. Rotating all
  measurements, from either side, rotates the results alike. Twice the distance of two quaternions
  is the angle between them to 1 % up to 60 degrees. There is no singular direction.
- the position, as a point of the image plane and the logarithm of the distance. A single view can
  only guess the distance, so it is smoothed most.
- the shape. Betas and bones are means over a person's whole track, weighted by quality. The
  distance follows the mean size, so that the body keeps its size in the image.

Joints are computed from the smoothed rotations and the mean bones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.geometry.kinematics import Kinematics
from key2mesh_core.geometry.rotations import (
    QUATERNION_PRODUCTS,
    matrix_to_quaternion,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
)
from key2mesh_core.people.bodies import Bodies

FloatArray = NDArray[np.float32]

NOMINAL_PERIOD_S = 1 / 30
"""Assumed time between frames whose stamps advance by less than a millisecond [s]."""

SHAPE_EVERY = 5
"""The shape is averaged every n-th frame, because adjacent frames contain the same information."""

SETTLED_WEIGHT = 60.0
"""Largest weight of the mean shape against a new frame: ten seconds of good views. The limit lets a
track recover that has switched to another person."""


@dataclass(frozen=True)
class OneEuro:
    """The parameters of a one-euro filter.

    Attributes:
        min_cutoff: cutoff at rest [Hz].
        speed_factor: increase of the cutoff with speed [Hz per unit of speed].
        speed_cutoff: cutoff of the filter on the speed [Hz].
    """

    min_cutoff: float
    speed_factor: float
    speed_cutoff: float


@dataclass(frozen=True)
class SmoothingSettings:
    """Filter settings; docs/measurements/steadiness.md has their effect.

    Attributes:
        rotation: filter of the joints' rotations; speeds in rad/s.
        image: filter of the pelvis on the image plane; speeds in focal lengths per second.
        distance: filter of the logarithm of the pelvis's distance; speeds per second.
        timeout_s: after being unseen for longer, a person starts without history [s].
    """

    rotation: OneEuro = OneEuro(1.0, 1.5, 1.0)
    image: OneEuro = OneEuro(1.0, 20.0, 1.0)
    distance: OneEuro = OneEuro(0.4, 0.7, 0.2)
    timeout_s: float = 1.0


_JOINTS, _PARTS = 24, 26
_IMAGE, _DISTANCE = 24, 25
# A person's state: 26 filtered quadruples (24 quaternions; x/z, y/z; log z), their speeds, means
# over the track (`length` is the total length of all bones) and the weight of the means.
_STATE = np.dtype("(26,4)f4, (26,4)f4, (24,3)f4, 10f4, f4, f4")
_STATE.names = ("values", "speeds", "bones", "betas", "length", "weight")
_SAME_NS = 1_000_000
_TINY = np.float32(1e-20)
#: Weight of a body of quality 0, so that a track's first body counts.
_LEAST_WEIGHT = np.float32(1e-3)
_PRODUCTS = QUATERNION_PRODUCTS[:9]


class _Gains(NamedTuple):
    """The filters' gains for a period [s]: (26, 1), or (N, 26, 1) for one period per person."""

    period: Any
    at_rest: FloatArray
    with_speed: FloatArray
    to_speed: FloatArray


class Smoother:
    """Smooths the bodies of one stream. Not thread-safe.

    Args:
        parents: (24,) each joint's parent, -1 for the root.
        settings: the filters.
    """

    def __init__(self, parents: ArrayLike, settings: SmoothingSettings | None = None) -> None:
        self.settings = settings or SmoothingSettings()
        self._kinematics = Kinematics(parents)
        filters = [self.settings.rotation] * _JOINTS
        filters += [self.settings.image, self.settings.distance]
        numbers = [(f.min_cutoff, f.speed_factor, f.speed_cutoff) for f in filters]
        self._filters = np.array(numbers, np.float32).T[..., None]
        self._filters[1, :_JOINTS] *= 2  # an angle is twice the quaternions' chord
        self._gains = lru_cache(64)(self._gains_of)
        self.reset()

    def reset(self) -> None:
        """Forget everybody, because the clock jumped back or another stream begins."""
        self._ids: tuple[str, ...] = ()
        self._rows = np.zeros(0, _STATE)
        self._last_ns = 0  # when the people in the rows were last seen
        self._absent: dict[str, tuple[np.void, int]] = {}
        self._until_shape = 0

    def smooth(self, ids: Sequence[str], bodies: Bodies, stamp_ns: int) -> Bodies:
        """Smooth a frame's bodies.

        Args:
            ids: N different names; a name denotes the same person in every frame.
            bodies: N bodies without vertices.
            stamp_ns: when the image was taken [ns]; a stamp that does not advance counts as 1/30 s
                after the last one.

        Returns:
            N bodies with smoothed rotations, poses, translation, joints and betas; later frames do
            not modify these arrays.
        """
        steps = self._kinematics.steps(bodies.joints)
        length = np.sqrt(np.einsum("njc,njc->n", steps, steps)) + _TINY
        gains = self._take_up(tuple(ids), bodies, length, stamp_ns)
        if not self._ids:
            return bodies
        self._until_shape -= 1
        if self._until_shape <= 0:
            self._until_shape = SHAPE_EVERY
            self._average(bodies, steps, length)
        rows = self._rows
        quaternions = self._filter(bodies, length, gains)
        rotations = quaternion_to_matrix(quaternions)
        place = np.empty((len(rows), 3), np.float32)
        place[:, 2] = np.exp(rows["values"][:, _DISTANCE, 0])
        place[:, :2] = rows["values"][:, _IMAGE, :2] * place[:, 2:]
        return Bodies(
            betas=rows["betas"].copy(),
            rotations=rotations,
            translation=place,
            poses=quaternion_to_axis_angle(quaternions).reshape(-1, 3 * _JOINTS),
            joints=self._kinematics.joints(rows["bones"], rotations) + place[:, None],
            reprojection_error=bodies.reprojection_error,
            quality=bodies.quality,
            position_covariance=bodies.position_covariance,
        )

    def _average(self, bodies: Bodies, steps: FloatArray, length: FloatArray) -> None:
        """Update the means over the tracks."""
        rows, sure = self._rows, bodies.quality + _LEAST_WEIGHT
        rows["weight"] = weight = np.minimum(rows["weight"] + sure, SETTLED_WEIGHT)
        share = sure / weight
        bones = self._kinematics.bones(steps, bodies.rotations)
        rows["bones"] += share[:, None, None] * (bones - rows["bones"])
        rows["betas"] += share[:, None] * (bodies.betas - rows["betas"])
        rows["length"] += share * (length - rows["length"])

    def _filter(self, bodies: Bodies, length: FloatArray, gains: _Gains) -> FloatArray:
        """Update all filters in `_rows`; returns a view of their quaternions (N, 24, 4)."""
        values, speeds = self._rows["values"], self._rows["speeds"]
        values += speeds * gains.period
        quaternions = values[:, :_JOINTS]
        error = np.zeros(values.shape, np.float32)
        error[:, :_JOINTS] = _quaternions_near(quaternions, bodies.rotations)
        depth = bodies.translation[:, 2]
        error[:, _IMAGE, :2] = bodies.translation[:, :2] / depth[:, None]
        # The distance at which the track's mean body appears as large as the measured body.
        error[:, _DISTANCE, 0] = np.log(depth * (self._rows["length"] / length))
        error -= values
        speeds += gains.to_speed * error
        # 2 pi * cutoff * period, which determines the filter gain.
        rate = np.sqrt(np.einsum("npc,npc->np", speeds, speeds))[..., None]
        rate = rate * gains.with_speed + gains.at_rest
        values += rate / (rate + 1) * error
        quaternions /= np.sqrt(np.einsum("npc,npc->np", quaternions, quaternions))[..., None]
        return quaternions

    def _take_up(
        self, ids: tuple[str, ...], bodies: Bodies, length: FloatArray, stamp_ns: int
    ) -> _Gains:
        """Arrange these people's states in `_rows`; return the gains for the time since they were
        last seen."""
        gap, timeout_ns = stamp_ns - self._last_ns, 1e9 * self.settings.timeout_s
        last_ns, self._last_ns = self._last_ns, stamp_ns
        if ids == self._ids and gap <= timeout_ns:
            return self._gains_for(gap)
        known = {name: (row, last_ns) for name, row in zip(self._ids, self._rows, strict=True)}
        known = {n: k for n, k in (self._absent | known).items() if stamp_ns - k[1] <= timeout_ns}
        begun = self._begin(bodies, length)
        found = [known.pop(each, (row, stamp_ns)) for each, row in zip(ids, begun, strict=True)]
        self._absent = {name: (row.copy(), last) for name, (row, last) in known.items()}
        self._rows = np.array([row for row, _ in found], _STATE)
        self._ids = ids
        self._until_shape = 0  # new people have no shape yet
        gains = [self._gains_for(stamp_ns - last) for _, last in found]
        if len(set(map(id, gains))) <= 1:
            return gains[0] if gains else self._gains_for(0)
        period, *others = (np.stack(part) for part in zip(*gains, strict=True))
        return _Gains(period[:, None, None], *others)

    def _begin(self, bodies: Bodies, length: FloatArray) -> NDArray[np.void]:
        """(N,) states of new people: the filters start at the measurement, bones and betas at 0
        with weight 0, so that their first mean is the first measurement."""
        rows = np.zeros(len(bodies), _STATE)
        values = rows["values"]
        values[:, :_JOINTS] = matrix_to_quaternion(bodies.rotations)
        values[:, _IMAGE, :2] = bodies.translation[:, :2] / bodies.translation[:, 2:]
        values[:, _DISTANCE, 0] = np.log(bodies.translation[:, 2])
        rows["length"] = length
        return rows

    def _gains_for(self, gap_ns: int) -> _Gains:
        return self._gains(round(gap_ns / 1e9, 4) if gap_ns > _SAME_NS else NOMINAL_PERIOD_S)

    def _gains_of(self, period: float) -> _Gains:
        at_rest, with_speed, speed = self._filters * np.float32(2 * math.pi * period)
        to_speed = speed / (1 + speed) / np.float32(period)
        return _Gains(np.float32(period), at_rest, with_speed, to_speed)


def _quaternions_near(near: FloatArray, rotations: FloatArray) -> FloatArray:
    """(N, 24, 4) unit quaternions of rotations (N, 24, 3, 3), with the signs nearer to `near`."""
    flat = rotations.reshape(-1, _JOINTS, 9)
    products = (flat @ _PRODUCTS).reshape(-1, _JOINTS, 4, 4)
    # The matrix 4 q q^T times a vector p is 4 (q . p) q, which points along q with the sign nearer
    # to p. The table's last row adds p itself.
    turned = (products @ near[..., None])[..., 0] + near
    return turned / (np.sqrt(np.einsum("njc,njc->nj", turned, turned)) + _TINY)[..., None]
