# SPDX-License-Identifier: Apache-2.0
"""The steps that make the default body, on bodies simple enough to know the answer."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from default_body.mesh import thin_symmetric_mesh
from default_body.regressors import fit_regressors
from default_body.symmetry import mirror_index, mirror_names
from default_body.weights import at_most_four, respread_spine

from key2mesh_core.body.data import FACE_NAMES, JOINT_NAMES


def symmetric_ball(level: int):
    """An octahedron's faces split `level` times, pushed onto a sphere: closed, symmetric in x."""
    vertices = [tuple(s * np.eye(3)[k]) for k in range(3) for s in (1.0, -1.0)]
    faces = [(x, y, z) for x in (0, 1) for y in (2, 3) for z in (4, 5)]
    faces = [f if (f[0] + f[1] + f[2]) % 2 == 0 else f[::-1] for f in faces]
    for _ in range(level):
        index = {v: i for i, v in enumerate(vertices)}

        def middle(a, b, index=index):
            point = tuple((np.array(vertices[a]) + vertices[b]) / 2)
            if point not in index:
                index[point] = len(vertices)
                vertices.append(point)
            return index[point]

        split = []
        for a, b, c in faces:
            ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
            split += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = split
    points = np.array(vertices)
    return points / np.linalg.norm(points, axis=1, keepdims=True), np.array(faces)


def volume(vertices, triangles):
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return np.einsum("fc,fc->", a, np.cross(b, c)) / 6


@pytest.mark.parametrize("wanted", [1600, 800])
def test_thinning_keeps_the_surface_closed_symmetric_and_in_place(wanted):
    vertices, triangles = symmetric_ball(4)
    kept, thin = thin_symmetric_mesh(vertices, triangles, wanted)
    assert thin.shape == (wanted, 3)
    assert len(kept) == wanted // 2 + 2  # Euler, for a closed surface without handles
    edges = {tuple(e) for k in ([0, 1], [1, 2], [2, 0]) for e in thin[:, k].tolist()}
    assert edges == {(b, a) for a, b in edges}
    mirror_index(vertices[kept])  # ends the program where there is no mirror image
    whole = volume(vertices, triangles)
    assert volume(vertices[kept], thin) == pytest.approx(whole, rel=0.03)


def test_a_mesh_without_symmetry_is_not_thinned():
    vertices, triangles = symmetric_ball(3)
    with pytest.raises(SystemExit, match="not symmetric"):
        thin_symmetric_mesh(vertices + [0.1, 0, 0] * (vertices[:, :1] > 0), triangles, 400)


def test_names_change_sides():
    names = ("pelvis", "left_hip", "right_hip", "nose")
    assert mirror_names(names) == [0, 2, 1, 3]


def test_four_weights_are_kept_and_sum_to_one_exactly_in_half_floats():
    weights = np.random.default_rng(0).dirichlet(np.full(24, 0.3), size=500)
    few = at_most_four(weights)
    assert ((few > 0).sum(1) <= 4).all()
    np.testing.assert_array_equal(few.astype(np.float16).sum(1, dtype=np.float64), 1)
    np.testing.assert_array_equal(few.argmax(1), weights.argmax(1))
    # The share of a kept weight among the kept stays what it was, to a step.
    kept = np.where(few > 0, weights, 0)
    assert np.abs(few - kept / kept.sum(1, keepdims=True)).max() < 2 / 1024


def test_respreading_moves_weight_among_the_trunk_only_and_upward_with_height():
    trunk = [JOINT_NAMES.index(n) for n in ("pelvis", "spine1", "spine2", "spine3")]
    joints = np.zeros((24, 3))
    joints[trunk, 1] = 0.0, 0.1, 0.23, 0.29
    rng = np.random.default_rng(0)
    vertices = np.stack([np.zeros(200), np.linspace(-0.3, 0.7, 200), np.zeros(200)], axis=1)
    weights = rng.dirichlet(np.ones(24), size=200)
    spread = respread_spine(weights, vertices, joints)
    others = np.setdiff1d(np.arange(24), trunk)
    np.testing.assert_array_equal(spread[:, others], weights[:, others])
    np.testing.assert_allclose(spread.sum(1), 1)
    assert spread.min() >= 0
    share = spread[:, trunk] / spread[:, trunk].sum(1, keepdims=True)
    assert (np.diff(share @ np.arange(4)) >= -1e-12).all()
    np.testing.assert_allclose(share[0], [1, 0, 0, 0])
    np.testing.assert_allclose(share[-1], [0, 0, 0, 1])


def test_regressors_find_points_that_are_means_of_vertices():
    template, _ = symmetric_ball(3)
    rng = np.random.default_rng(0)
    mirror = mirror_index(template)
    noise = rng.normal(size=(60, *template.shape)) * 0.05
    people = template + (noise + noise[:, mirror] * [-1, 1, 1]) / 2

    def points(names):
        rows = {}
        for name in names:
            row = np.zeros(len(template))
            if name.startswith("right_"):
                row = rows["left_" + name[6:]][mirror]
            else:
                row[rng.choice(np.argsort(-template[:, 0])[:40], 3, replace=False)] = 0.5, 0.3, 0.2
                row = row if name.startswith("left_") else (row + row[mirror]) / 2
            rows[name] = row
        return np.einsum("kv,nvc->nkc", np.stack([rows[n] for n in names]), people)

    face_names = sorted(FACE_NAMES)  # left before right, as the helper above needs it
    face = points(face_names)[:, [face_names.index(n) for n in FACE_NAMES]]
    joints = points(JOINT_NAMES)
    joint_regressor, face_regressor = fit_regressors(template, people, joints, face)
    for regressor, wanted in ((joint_regressor, joints), (face_regressor, face)):
        assert regressor.min() >= 0
        np.testing.assert_allclose(regressor.sum(1), 1)
        got = np.einsum("kv,nvc->nkc", regressor, people)
        assert np.linalg.norm(got - wanted, axis=2).max() < 2e-3
