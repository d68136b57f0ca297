# SPDX-License-Identifier: Apache-2.0
"""Steady bodies: a one-euro filter on rotations, place and shape, for all persons at once.

The one-euro filter (Casiez, Roussel and Vogel, CHI 2012) is a low-pass whose cutoff grows with
speed: what stands still is held, what moves fast is followed. Here its speed also predicts, so
that a limb which moves evenly is followed without lag. Per person it runs on

- 24 rotations, as unit quaternions. A measured one is taken from the half of the sphere where the
  filtered one lies, differences are taken of the four numbers, the result is put back on the
  sphere. Turning all measurements by a rotation, from either side, turns the results alike; twice
  a chord is its angle to 1 % up to 60 degrees; no direction is singular;
- the place, as a point of the image plane and the logarithm of the distance: that one is a guess
  from a single view and is smoothed most;
- the shape: betas and bones are means over a person's whole track, weighted by quality. They
  settle, and the distance follows the size, so that the body fills the image as it was seen.

Joints follow from the smoothed rotations along the settled bones: they are the smoothed body's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.geometry.kinematics import Kinematics
from key2mesh_core.geometry.rotations import QUATERNION_PRODUCTS
from key2mesh_core.people.bodies import Bodies

FloatArray = NDArray[np.float32]

NOMINAL_PERIOD_S = 1 / 30
"""Time between frames whose stamps do not move on by a millisecond [s]."""

SHAPE_EVERY = 5
"""Frames from one look at the shape to the next: neighbours say the same, and it takes time."""

SETTLED_WEIGHT = 60.0
"""Sum of qualities from which on a look moves the shape by 1 in so many: ten seconds of good
views. It stays then, but a track that went over to somebody else heals."""


@dataclass(frozen=True)
class OneEuro:
    """A one-euro filter's three numbers.

    Attributes:
        min_cutoff: of what stands still [Hz].
        speed_factor: growth of the cutoff [Hz per unit of speed].
        speed_cutoff: of the speed [Hz].
    """

    min_cutoff: float
    speed_factor: float
    speed_cutoff: float


@dataclass(frozen=True)
class SmoothingSettings:
    """How each part is smoothed; docs/measurements/steadiness.md has what was measured.

    Attributes:
        rotation: of joints; speeds in rad/s.
        image: of the pelvis on the image plane; speeds in focal lengths per second.
        distance: of its logarithm; speeds per second.
        timeout_s: a person unseen for longer begins anew.
    """

    rotation: OneEuro = OneEuro(1.0, 1.5, 1.0)
    image: OneEuro = OneEuro(1.0, 20.0, 1.0)
    distance: OneEuro = OneEuro(0.4, 0.7, 0.2)
    timeout_s: float = 1.0


# A person's state is a row of numbers: 26 filtered quadruples (24 quaternions; x/z, y/z; log z),
# their speeds, and the means over the track: bones, betas, the bones' length; their weight.
_JOINTS, _PARTS = 24, 26
_IMAGE, _DISTANCE = 24, 25
_VALUES, _SPEEDS = slice(0, 4 * _PARTS), slice(4 * _PARTS, 8 * _PARTS)
_IMAGE_XY, _LOG_Z = slice(4 * _IMAGE, 4 * _IMAGE + 2), 4 * _DISTANCE
_BONES = slice(8 * _PARTS, 8 * _PARTS + 3 * _JOINTS)
_BETAS = slice(_BONES.stop, _BONES.stop + 10)
_LENGTH, _WEIGHT = _BETAS.stop, _BETAS.stop + 1
_SHAPE = slice(_BONES.start, _WEIGHT)
_ROW = _WEIGHT + 1
_SAME_NS = 1_000_000
_TINY = np.float32(1e-20)
#: The weight of a body of no quality at all: the first one must count, whatever it is.
_LEAST_WEIGHT = np.float32(1e-3)


def _to_matrix() -> FloatArray:
    """(16, 9): the products of a unit quaternion's numbers times this, and the identity, are the
    rows of its matrix."""
    table = np.zeros((4, 4, 3, 3), np.float32)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        table[j + 1, j + 1, i, i] = table[k + 1, k + 1, i, i] = -2
        table[i + 1, j + 1, i, j] = table[i + 1, j + 1, j, i] = 2
        table[0, k + 1, i, j], table[0, k + 1, j, i] = -2, 2
    return table.reshape(16, 9)


_PRODUCTS = QUATERNION_PRODUCTS[:9]
_TO_MATRIX = _to_matrix()
_IDENTITY = np.eye(3, dtype=np.float32).ravel()


class _Gains(NamedTuple):
    """What a period [s] makes of the filters' numbers; (26, 1), or (N, 26, 1) for several."""

    period: Any
    at_rest: FloatArray
    with_speed: FloatArray
    to_speed: FloatArray


class Smoother:
    """Smooths the bodies of one stream. Not for several threads at once.

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
        self._gains: dict[float, _Gains] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everybody: the clock jumped back, or another stream begins."""
        self._ids: tuple[str, ...] = ()
        self._rows = np.zeros((0, _ROW), np.float32)
        self._last_ns = 0  # when those in the rows were seen
        self._absent: dict[str, tuple[FloatArray, int]] = {}
        self._until_shape = 0

    def smooth(self, ids: Sequence[str], bodies: Bodies, stamp_ns: int) -> Bodies:
        """The same persons, steady.

        Args:
            ids: N different names; a name stands for one person from frame to frame.
            bodies: N bodies without vertices: those would be the unsteady ones'.
            stamp_ns: when the image was taken [ns]; one that does not move on counts as a
                thirtieth of a second after the last.

        Returns:
            Bodies with smoothed rotations, poses, translation, joints and betas; reprojection
            error and quality as they were. The arrays are the caller's to keep.
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
        rotations = _rotations(quaternions)
        place = np.empty((len(rows), 3), np.float32)
        place[:, 2] = np.exp(rows[:, _LOG_Z])
        place[:, :2] = rows[:, _IMAGE_XY] * place[:, 2:]
        bones = rows[:, _BONES].reshape(-1, _JOINTS, 3)
        return Bodies(
            betas=rows[:, _BETAS].copy(),
            rotations=rotations,
            translation=place,
            poses=_axis_angles(quaternions).reshape(-1, 3 * _JOINTS),
            joints=self._kinematics.joints(bones, rotations) + place[:, None],
            reprojection_error=bodies.reprojection_error,
            quality=bodies.quality,
            position_covariance=bodies.position_covariance,
        )

    def _average(self, bodies: Bodies, steps: FloatArray, length: FloatArray) -> None:
        """One step of the means over the track."""
        rows, count = self._rows, len(self._rows)
        bones = self._kinematics.bones(steps, bodies.rotations)
        sure = bodies.quality + _LEAST_WEIGHT
        rows[:, _WEIGHT] = weight = np.minimum(rows[:, _WEIGHT] + sure, SETTLED_WEIGHT)
        measured = np.empty((count, _SHAPE.stop - _SHAPE.start), np.float32)
        measured[:, :72] = bones.reshape(count, 72)
        measured[:, 72:82] = bodies.betas
        measured[:, 82] = length
        means = rows[:, _SHAPE]
        means += (sure / weight)[:, None] * (measured - means)

    def _filter(self, bodies: Bodies, length: FloatArray, gains: _Gains) -> FloatArray:
        """One step of all filters in `_rows`; the quaternions (N, 24, 4) there."""
        values = self._rows[:, _VALUES].reshape(-1, _PARTS, 4)
        speeds = self._rows[:, _SPEEDS].reshape(-1, _PARTS, 4)
        values += speeds * gains.period
        quaternions = values[:, :_JOINTS]
        error = np.zeros(values.shape, np.float32)
        error[:, :_JOINTS] = _quaternions_near(quaternions, bodies.rotations)
        depth = bodies.translation[:, 2]
        error[:, _IMAGE, :2] = bodies.translation[:, :2] / depth[:, None]
        # As far away as the track's mean body would be.
        error[:, _DISTANCE, 0] = np.log(depth * (self._rows[:, _LENGTH] / length))
        error -= values
        speeds += gains.to_speed * error
        # 2 pi cutoff period; the share of the error that is taken over follows from it.
        rate = np.sqrt(np.einsum("npc,npc->np", speeds, speeds))[..., None]
        rate = rate * gains.with_speed + gains.at_rest
        values += rate / (rate + 1) * error
        quaternions /= np.sqrt(np.einsum("npc,npc->np", quaternions, quaternions))[..., None]
        return quaternions

    def _take_up(
        self, ids: tuple[str, ...], bodies: Bodies, length: FloatArray, stamp_ns: int
    ) -> _Gains:
        """Lays these persons' state into `_rows`; the gains for the time since they were seen."""
        gap, timeout_ns = stamp_ns - self._last_ns, 1e9 * self.settings.timeout_s
        last_ns, self._last_ns = self._last_ns, stamp_ns
        if ids == self._ids and gap <= timeout_ns:
            return self._gains_for(gap)
        known = {name: (row, last_ns) for name, row in zip(self._ids, self._rows, strict=True)}
        known = {n: k for n, k in (self._absent | known).items() if stamp_ns - k[1] <= timeout_ns}
        begun = self._begin(bodies, length)
        found = [known.pop(each, (row, stamp_ns)) for each, row in zip(ids, begun, strict=True)]
        self._absent = {name: (row.copy(), last) for name, (row, last) in known.items()}
        self._rows = np.array([row for row, _ in found], np.float32).reshape(-1, _ROW)
        self._ids = ids
        self._until_shape = 0  # whoever is new needs one
        gains = [self._gains_for(stamp_ns - last) for _, last in found]
        if len(set(map(id, gains))) <= 1:
            return gains[0] if gains else self._gains_for(0)
        period, *others = (np.stack(part) for part in zip(*gains, strict=True))
        return _Gains(period[:, None, None], *others)

    def _begin(self, bodies: Bodies, length: FloatArray) -> FloatArray:
        """(N, row) state of persons of whom nothing is known: the filters stand at the measured.

        Bones and betas stay zero: their first mean is the first measurement."""
        rows = np.zeros((len(bodies), _ROW), np.float32)
        values = rows[:, _VALUES].reshape(-1, _PARTS, 4)
        values[:, :_JOINTS] = _quaternions(bodies.poses)
        values[:, _IMAGE, :2] = bodies.translation[:, :2] / bodies.translation[:, 2:]
        values[:, _DISTANCE, 0] = np.log(bodies.translation[:, 2])
        rows[:, _LENGTH] = length
        return rows

    def _gains_for(self, gap_ns: int) -> _Gains:
        period = round(gap_ns / 1e9, 4) if gap_ns > _SAME_NS else NOMINAL_PERIOD_S
        gains = self._gains.get(period)
        if gains is None:
            if len(self._gains) > 64:  # irregular stamps must not fill the memory
                self._gains.clear()
            at_rest, with_speed, speed = self._filters * np.float32(2 * math.pi * period)
            to_speed = speed / (1 + speed) / np.float32(period)
            gains = _Gains(np.float32(period), at_rest, with_speed, to_speed)
            self._gains[period] = gains
        return gains


def _quaternions(poses: FloatArray) -> FloatArray:
    """(N, 24, 4) w, x, y, z of axis-angle poses (N, 72)."""
    vectors = poses.reshape(-1, _JOINTS, 3)
    half = np.linalg.norm(vectors, axis=2, keepdims=True) / 2
    # numpy's sinc has a pi in it; it is 1 at 0.
    return np.concatenate([np.cos(half), np.sinc(half / np.pi) * vectors / 2], axis=2)


def _quaternions_near(near: FloatArray, rotations: FloatArray) -> FloatArray:
    """(N, 24, 4) unit quaternions of rotations, on the half of the sphere of `near`."""
    flat = rotations.reshape(-1, _JOINTS, 9)
    products = (flat @ _PRODUCTS).reshape(-1, _JOINTS, 4, 4)
    # The matrix of 4 q_i q_j times any p is 4 (q . p) q: q itself but for its length, which is
    # known, and its sign, which is wanted so. What is constant in it is the identity.
    turned = (products @ near[..., None])[..., 0] + near
    return turned / (np.sqrt(np.einsum("njc,njc->nj", turned, turned)) + _TINY)[..., None]


def _rotations(quaternions: FloatArray) -> FloatArray:
    """(N, 24, 3, 3) of unit quaternions (N, 24, 4)."""
    products = quaternions[..., None] * quaternions[..., None, :]
    flat = products.reshape(-1, _JOINTS, 16) @ _TO_MATRIX
    return (flat + _IDENTITY).reshape(-1, _JOINTS, 3, 3)


def _axis_angles(quaternions: FloatArray) -> FloatArray:
    """(N, 24, 3) [rad], angles in 0..pi, of unit quaternions (N, 24, 4)."""
    w, vectors = quaternions[..., 0], quaternions[..., 1:]
    norm = np.sqrt(np.einsum("njc,njc->nj", vectors, vectors)) + _TINY
    angle = np.copysign(2 * np.arctan2(norm, np.abs(w)), w)
    return (angle / norm)[..., None] * vectors
