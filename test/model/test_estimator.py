# SPDX-License-Identifier: Apache-2.0
"""The run-time interface: shapes, batches, refusals, and no NaN for any input."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import FakeEngine, estimator_on, make_bundle, mesh_template, standing_person
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.errors import CameraError, EngineError, KeypointError
from key2mesh_core.keypoints.arrays import person_sizes, sanitise, usable
from key2mesh_core.model import estimator as estimator_module
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.model.engines.onnx import MESH_CHUNK, POSE_CHUNK, OnnxEngine
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies

CAMERA = Intrinsics(600, 600, 320, 240)
ARRAYS = ("betas", "rotations", "translation", "joints", "reprojection_error", "quality")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def estimator(bundle: Bundle) -> Estimator:
    return Estimator(bundle)


def _crowd(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    people = [
        standing_person(tuple(rng.uniform(100, 500, 2)), rng.uniform(60, 400)) for _ in range(50)
    ]
    return np.concatenate(people)[rng.integers(0, 50, count)]


def test_importing_the_estimator_leaves_torch_and_ros_out():
    code = (
        "import sys, key2mesh_core.model.estimator\n"
        "heavy = {'torch', 'rclpy', 'scipy', 'PIL', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr


def test_using_the_estimator_leaves_torch_out(bundle):
    code = (
        "import sys, numpy as np\n"
        "from key2mesh_core.model.bundle import load_bundle\n"
        "from key2mesh_core.camera.pinhole import Intrinsics\n"
        "from key2mesh_core.model.estimator import Estimator\n"
        "estimator = Estimator(load_bundle(sys.argv[1]))\n"
        "estimator.warm_up()\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle.path)],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_person_stands_where_the_pixels_say(estimator, bundle):
    keypoints = standing_person((400, 200), 300)
    bodies = estimator.estimate(keypoints, CAMERA)
    assert len(bodies) == 1
    assert bodies.translation[0, 2] == pytest.approx(3.0, abs=0.01)  # 1.5 m on 300 px, f = 600
    assert bodies.translation[0, 0] == pytest.approx(0.4, abs=0.01)
    pixels = project(bodies.joints[0], CAMERA)
    wrists = dict(zip(bundle.joint_names, pixels, strict=True))
    # Facing the camera: the person's right is at the image's left.
    assert wrists["right_wrist"][0] < 400 < wrists["left_wrist"][0]
    np.testing.assert_allclose(wrists["left_wrist"], keypoints[0, 7, :2], atol=5)
    assert 0 < bodies.reprojection_error[0] < 5
    assert 0.7 < bodies.quality[0] < 0.8
    middle = bodies.vertices[0].mean(axis=0)
    np.testing.assert_allclose(middle, bodies.joints[0].mean(axis=0), atol=0.2)


@pytest.mark.parametrize("count", [0, 1, 2, MESH_CHUNK + 1, POSE_CHUNK, POSE_CHUNK + 1, 10_000])
def test_any_number_of_persons(estimator, count):
    crowd = _crowd(count)
    with_meshes = count <= 2000
    bodies = estimator.estimate(crowd, CAMERA, vertices=with_meshes)
    assert len(bodies) == count
    shapes = [(10,), (24, 3, 3), (3,), (24, 3), (), ()]
    for name, shape in zip(ARRAYS, shapes, strict=True):
        values = getattr(bodies, name)
        assert values.shape == (count, *shape), name
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all(), name
    if with_meshes:
        assert bodies.vertices.shape == (count, len(mesh_template()[0]), 3)
    else:
        assert bodies.vertices is None
    if count:
        last = estimator.estimate(crowd[-1:], CAMERA, vertices=False)
        np.testing.assert_allclose(bodies.joints[-1], last.joints[0], rtol=1e-5, atol=1e-5)


def test_large_crowds_go_through_in_chunks(bundle):
    real = OnnxEngine(bundle.pose_path), OnnxEngine(bundle.mesh_path)
    pose, mesh = FakeEngine(real[0].run), FakeEngine(real[1].run, most=MESH_CHUNK)
    estimator = estimator_on(bundle, pose, mesh)
    estimator.estimate(_crowd(2 * POSE_CHUNK + 3), CAMERA, vertices=False)
    assert pose.batches == [POSE_CHUNK, POSE_CHUNK, 3]
    assert mesh.batches == []  # nobody asked for vertices
    estimator.estimate(_crowd(0), CAMERA)
    assert (len(pose.batches), len(mesh.batches)) == (3, 0)  # nobody there
    estimator.estimate(_crowd(MESH_CHUNK + 1), CAMERA)
    assert mesh.batches == [MESH_CHUNK, 1]
    estimator.close()
    assert pose.closed
    assert mesh.closed


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_types_and_strides_do_not_matter(estimator, dtype):
    keypoints = np.round(_crowd(3))  # whole numbers: the same in every type
    expected = estimator.estimate(keypoints, CAMERA)
    wide = np.zeros((6, 18, 6), dtype)
    wide[::2, :, ::2] = keypoints
    for variant in (keypoints.astype(dtype), wide[::2, :, ::2], keypoints.astype(dtype).tolist()):
        bodies = estimator.estimate(variant, CAMERA)
        np.testing.assert_array_equal(bodies.vertices, expected.vertices)
    np.testing.assert_array_equal(np.asfortranarray(keypoints), keypoints)
    bodies = estimator.estimate(np.asfortranarray(keypoints), CAMERA)
    np.testing.assert_array_equal(bodies.vertices, expected.vertices)


@pytest.mark.parametrize("shape", [(18, 3), (1, 17, 3), (1, 18, 2), (1, 1, 18, 3), (3,)])
def test_other_shapes_are_refused_naming_both(estimator, shape):
    with pytest.raises(KeypointError) as caught:
        estimator.estimate(np.ones(shape), CAMERA)
    assert "(N, 18, 3)" in str(caught.value)
    assert str(shape) in str(caught.value)


def test_unusable_persons_are_refused_and_usable_selects(estimator):
    crowd = _crowd(4)
    crowd[1, 5:, 2] = 0.0
    crowd[3, :, 0] = np.nan
    with pytest.raises(KeypointError, match=r"2 of 4 persons .*number 1 with 5 usable.*usable\(\)"):
        estimator.estimate(crowd, CAMERA)
    np.testing.assert_array_equal(usable(crowd), [True, False, True, False])
    assert len(estimator.estimate(crowd[usable(crowd)], CAMERA)) == 2


def test_bad_keypoints_count_as_unseen(estimator):
    good, bad = _crowd(1), _crowd(1)
    good[0, [4, 9]] = 0.0
    bad[0, 4] = [np.nan, 5, 1]
    bad[0, 9] = [1e30, 5, 1]
    expected, found = estimator.estimate(good, CAMERA), estimator.estimate(bad, CAMERA)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@given(
    hnp.arrays(np.float64, (3, 18, 3), elements=st.floats(allow_nan=True, allow_infinity=True)),
    hnp.arrays(np.float64, (2, 18, 3), elements=st.floats(0.05, 1)),
    st.floats(1, 1e6),
    st.floats(-1e6, 1e6),
)
def test_whatever_comes_in_only_finite_numbers_leave(estimator, wild, tame, focal, centre):
    tame[..., :2] *= 2e5
    people = np.concatenate([wild, tame])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        people = people[usable(people)]
        bodies = estimator.estimate(people, Intrinsics(focal, focal, centre, -centre))
    for name in (*ARRAYS, "vertices"):
        assert np.isfinite(getattr(bodies, name)).all(), name
    assert ((bodies.quality >= 0) & (bodies.quality <= 1)).all()


def test_two_steps_make_one(estimator):
    crowd = _crowd(3)
    poses = estimator.estimate_poses(crowd, CAMERA)
    assert poses.vertices is None
    both = estimator.add_vertices(poses)
    np.testing.assert_array_equal(both.vertices, estimator.estimate(crowd, CAMERA).vertices)
    # What a smoother changes arrives in the mesh, in any float type.
    shift = np.array([0.5, -0.25, 1.0])
    moved = replace(poses, translation=poses.translation.astype(np.float64) + shift)
    np.testing.assert_allclose(
        estimator.add_vertices(moved).vertices, both.vertices + shift.astype(np.float32), atol=1e-5
    )


def test_what_was_checked_before_is_not_checked_again(estimator, monkeypatch):
    crowd = sanitise(_crowd(3))
    expected = estimator.estimate_poses(crowd, CAMERA)
    monkeypatch.setattr(estimator_module.arrays, "sanitise", lambda _: pytest.fail("cleaned again"))
    found = estimator.estimate_poses(crowd, CAMERA, person_sizes(crowd))
    np.testing.assert_array_equal(found.joints, expected.joints)
    np.testing.assert_array_equal(found.quality, expected.quality)


def test_bodies_are_selected_by_mask_and_by_number(estimator):
    bodies = estimator.estimate(_crowd(4), CAMERA)
    some = bodies.select([True, False, False, True])
    assert len(some) == 2
    np.testing.assert_array_equal(some.vertices, bodies.vertices[[0, 3]])
    np.testing.assert_array_equal(bodies.select([2]).joints, bodies.joints[2:3])
    assert estimator.estimate_poses(_crowd(2), CAMERA).select([0]).vertices is None


def test_intrinsics_of_another_type_are_refused(estimator):
    with pytest.raises(CameraError, match="got tuple"):
        estimator.estimate(_crowd(1), (600, 600, 320, 240))


def test_unknown_backends_list_the_known(bundle):
    with pytest.raises(EngineError, match="'cuda'; known: auto, onnx"):
        Estimator(bundle, backend="cuda")
    assert Estimator(bundle, backend="onnx", threads=1).device.endswith("threads=1")


def test_the_first_or_the_second_call_may_fail_and_the_next_works(bundle):
    pose, mesh = OnnxEngine(bundle.pose_path), OnnxEngine(bundle.mesh_path)
    crowd = _crowd(POSE_CHUNK + MESH_CHUNK)
    for call in (1, 2):
        for failing in (0, 1):
            engines = [FakeEngine(pose.run), FakeEngine(mesh.run, most=MESH_CHUNK)]
            engines[failing].fails_at = call
            estimator = estimator_on(bundle, *engines)
            with pytest.raises(EngineError, match=f"fails at call {call}"):
                estimator.estimate(crowd, CAMERA)
            engines[failing].fails_at = None
            assert len(estimator.estimate(crowd[:2], CAMERA)) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_never_leave(bundle, value):
    pose, mesh = OnnxEngine(bundle.pose_path), OnnxEngine(bundle.mesh_path)

    def spoil(run, name):
        def spoiled(inputs):
            outputs = run(inputs)
            outputs[name].reshape(len(outputs[name]), -1)[1, -1] = value
            return outputs

        return FakeEngine(spoiled)

    for name in ("translation", "reprojection_error"):
        estimator = estimator_on(bundle, spoil(pose.run, name), mesh)
        with pytest.raises(EngineError, match=rf"pose\.onnx: '{name}' of person 1 is not finite"):
            estimator.estimate(_crowd(3), CAMERA)
    estimator = estimator_on(bundle, pose, spoil(mesh.run, "vertices"))
    with pytest.raises(EngineError, match=r"mesh\.onnx: 'vertices' of person 1 is not finite"):
        estimator.estimate(_crowd(3), CAMERA)


def test_outputs_of_another_shape_never_leave(bundle):
    pose = OnnxEngine(bundle.pose_path)
    for change, words in (
        ({"betas": np.zeros((2, 11), np.float32)}, r"'betas' must be \(2, 10\), .*\(2, 11\)"),
        ({"joints": None}, "'joints' must be .*nothing"),
    ):
        fake = FakeEngine(lambda inputs, change=change: pose.run(inputs) | change)
        estimator = estimator_on(bundle, fake, fake)
        with pytest.raises(EngineError, match=words):
            estimator.estimate(_crowd(2), CAMERA)


def test_it_says_what_it_runs(estimator, bundle):
    assert estimator.bundle is bundle
    assert estimator.body_model == bundle.body_model
    assert estimator.device.startswith("CPU, ONNX Runtime")
    estimator.warm_up()


def test_bodies_compare_by_identity_not_by_ambiguous_arrays(estimator):
    bodies = estimator.estimate(_crowd(2), CAMERA)
    assert bodies == bodies  # == of its arrays would raise
    assert isinstance(bodies, Bodies)
