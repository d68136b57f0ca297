# SPDX-License-Identifier: Apache-2.0
"""The values that a body accepts, and its identifier."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from helpers_training import small_body

from key2mesh_core.body.data import JOINT_NAMES, PARENTS, BodyData
from key2mesh_core.errors import BodyFileError


def test_the_tree_is_made_of_sides_that_mirror_each_other():
    for joint, name in enumerate(JOINT_NAMES):
        if name.startswith("left_"):
            other = JOINT_NAMES.index(name.replace("left", "right"))
            parent, other_parent = JOINT_NAMES[PARENTS[joint]], JOINT_NAMES[PARENTS[other]]
            assert other_parent == parent.replace("left", "right")
    assert (PARENTS[1:] < np.arange(1, 24)).all()
    assert PARENTS[0] == -1


def test_arrays_are_converted_and_cannot_be_written_to():
    body = replace(small_body(), template=small_body().template.astype(np.float64).tolist())
    assert body.template.dtype == np.float32
    assert body.triangles.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        body.template[0, 0] = 1


def test_a_change_of_the_callers_array_does_not_reach_the_body():
    template = small_body().template.copy()
    body = replace(small_body(), template=template)
    template += 1
    np.testing.assert_array_equal(body.template, small_body().template)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("template", lambda a: a[:, :2]),
        ("template", lambda a: a[:0]),
        ("template", lambda a: np.where(np.arange(len(a))[:, None] == 3, np.nan, a)),
        ("template", lambda a: np.array("a body", dtype=object)),
        ("shape_directions", lambda a: a[:-1]),
        ("shape_directions", lambda a: a[:, :, :0]),
        ("pose_directions", lambda a: np.zeros((5, 3, 207))),
        ("joint_regressor", lambda a: a.T),
        ("joint_regressor", lambda a: a * 1.01),
        ("skinning_weights", lambda a: a[:, :23]),
        ("skinning_weights", lambda a: a * 0.9),
        ("skinning_weights", lambda a: a * 3 - a[:, ::-1] * 2),
        ("parents", lambda a: np.roll(a, 1)),
        ("triangles", lambda a: a + 10_000),
        ("triangles", lambda a: a - 1_000),
        ("face_regressor", lambda a: a[:4]),
        ("face_regressor", lambda a: a * 0),
    ],
)
def test_what_no_body_can_have_is_refused_by_name(field, change):
    with pytest.raises(BodyFileError, match=f"{field}|joint tree"):
        replace(small_body(), **{field: change(getattr(small_body(), field))})


@pytest.mark.parametrize("gender", ["", "diverse", "MALE"])
def test_unknown_genders_are_refused_with_the_value(gender):
    with pytest.raises(BodyFileError, match="neutral, female, male"):
        replace(small_body(), gender=gender)


@pytest.mark.parametrize("name", ["", "a@b"])
def test_names_that_would_break_the_identifier_are_refused(name):
    with pytest.raises(BodyFileError, match="name"):
        replace(small_body(), name=name)


def test_equal_bodies_have_equal_identifiers_and_any_change_another():
    body = small_body(correctives=True)
    copy = BodyData(**{key: np.copy(value) if isinstance(value, np.ndarray) else value
                       for key, value in asdict(body).items()})  # fmt: skip
    assert copy.identifier == body.identifier
    assert body.identifier.startswith("small@")
    seen = {body.identifier}
    for field in ("template", "shape_directions", "pose_directions"):
        changed = np.copy(getattr(body, field))
        changed.flat[0] = np.nextafter(changed.flat[0], np.float32(1))
        seen.add(replace(body, **{field: changed}).identifier)
    seen.add(replace(body, triangles=body.triangles[:, [1, 2, 0]]).identifier)
    seen.add(replace(body, gender="female").identifier)
    seen.add(replace(body, pose_directions=None).identifier)
    assert len(seen) == 7


def test_shape_is_linear_in_the_betas():
    body, rng = small_body(), np.random.default_rng(0)
    a, b = rng.normal(size=(2, 10))
    np.testing.assert_array_equal(body.shaped(np.zeros(0)), body.template)
    both = body.shaped(a) + body.shaped(b) - body.template
    np.testing.assert_allclose(body.shaped(a + b), both, atol=1e-6)
    np.testing.assert_allclose(body.shaped(a[:3]), body.shaped([*a[:3], *np.zeros(7)]), atol=1e-6)


def test_more_betas_than_components_are_refused():
    with pytest.raises(BodyFileError, match="at most 10"):
        small_body().shaped(np.zeros(11))
