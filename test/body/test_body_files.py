# SPDX-License-Identifier: Apache-2.0
"""Bodies are written and read back; invalid files are refused."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers_smplx import smpl_arrays
from helpers_training import small_body

from key2mesh_core.body.files import SMPL_FACE_VERTICES, load_body, save_body
from key2mesh_core.errors import BodyFileError


@pytest.fixture
def body():
    return small_body(correctives=True)


def write_npz(path, body, **changes):
    """An official-looking .npz; `changes` replace or (None) remove entries."""
    entries = {**smpl_arrays(body), "face_regressor": body.face_regressor, **changes}
    np.savez(path, **{key: value for key, value in entries.items() if value is not None})
    return path


@pytest.mark.parametrize("correctives", [False, True])
@pytest.mark.parametrize("gender", ["neutral", "female", "male"])
def test_a_saved_body_is_read_back_unchanged(tmp_path, correctives, gender):
    body = replace(small_body(correctives=correctives), gender=gender)
    save_body(tmp_path / "new" / "body.npz", body)
    assert load_body(tmp_path / "new" / "body.npz").identifier == body.identifier


def test_compact_bodies_lose_less_than_a_tenth_of_a_millimetre(tmp_path, body):
    save_body(tmp_path / "full.npz", body)
    save_body(tmp_path / "compact.npz", body, compact=True)
    compact = load_body(tmp_path / "compact.npz")
    betas = np.full(10, 2.0)
    assert np.abs(compact.shaped(betas) - body.shaped(betas)).max() < 1e-4
    assert (tmp_path / "compact.npz").stat().st_size < (tmp_path / "full.npz").stat().st_size


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, body, monkeypatch):
    path = tmp_path / "body.npz"
    save_body(path, body)

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(BodyFileError, match=r"body\.npz.*No space left"):
        save_body(path, replace(body, gender="male"))
    assert load_body(path).identifier == body.identifier
    assert os.listdir(tmp_path) == ["body.npz"]


def test_bodies_are_written_as_npz_only(tmp_path, body):
    with pytest.raises(BodyFileError, match=r"\.npz"):
        save_body(tmp_path / "body.pkl", body)


def test_official_arrays_are_understood(tmp_path, body):
    loaded = load_body(write_npz(tmp_path / "SMPL_MALE.npz", body))
    assert loaded.gender == "male"
    assert loaded.name == "SMPL_MALE"
    np.testing.assert_array_equal(loaded.parents, body.parents)
    np.testing.assert_array_equal(loaded.triangles, body.triangles)
    np.testing.assert_allclose(loaded.pose_directions, body.pose_directions)


def test_three_hundred_components_are_cut_to_ten(tmp_path, body):
    many = np.random.default_rng(0).normal(size=(len(body.template), 3, 300))
    loaded = load_body(write_npz(tmp_path / "body.npz", body, shapedirs=many))
    np.testing.assert_allclose(loaded.shape_directions, many[:, :, :10], rtol=1e-6)


@pytest.mark.parametrize("root", [-1, 4294967295])
def test_both_ways_to_say_that_the_root_has_no_parent(tmp_path, body, root):
    table = np.stack([body.parents, np.arange(24)]).astype(np.int64)
    table[0, 0] = root
    loaded = load_body(write_npz(tmp_path / "body.npz", body, kintree_table=table))
    assert loaded.parents[0] == -1


def test_correctives_of_zeros_are_left_out(tmp_path, body):
    zeros = np.zeros_like(body.pose_directions)
    assert load_body(write_npz(tmp_path / "b.npz", body, posedirs=zeros)).pose_directions is None
    assert load_body(write_npz(tmp_path / "b.npz", body)).pose_directions is not None


@pytest.mark.parametrize(
    ("file", "gender"),
    [
        ("SMPL_NEUTRAL", "neutral"),
        ("SMPL_FEMALE", "female"),
        ("basicModel_f_lbs_10_207_0_v1.0.0", "female"),
        ("basicmodel_m_lbs_10_207_0_v1.1.0", "male"),
        ("basicModel_neutral_lbs_10_207_0_v1.0.0", "neutral"),
        ("mine", "neutral"),
    ],
)
def test_gender_from_the_file_name(tmp_path, body, file, gender):
    assert load_body(write_npz(tmp_path / f"{file}.npz", body)).gender == gender


@pytest.mark.parametrize("stated", ["male", "m", b"male", "Male"])
def test_a_stated_gender_wins_over_the_file_name(tmp_path, body, stated):
    path = write_npz(tmp_path / "SMPL_FEMALE.npz", body, gender=np.array(stated))
    assert load_body(path).gender == "male"


def test_smpls_own_mesh_needs_no_face_regressor(tmp_path):
    body = small_body()
    repeat = np.arange(6890) % len(body.template)
    path = write_npz(
        tmp_path / "SMPL_NEUTRAL.npz",
        body,
        face_regressor=None,
        v_template=np.random.default_rng(0).normal(size=(6890, 3)),
        shapedirs=body.shape_directions[repeat],
        posedirs=None,
        weights=body.skinning_weights[repeat],
        J_regressor=np.full((24, 6890), 1 / 6890),
    )
    loaded = load_body(path)
    face = loaded.face_regressor @ loaded.template
    np.testing.assert_allclose(face, loaded.template[list(SMPL_FACE_VERTICES)], rtol=1e-6)


def test_other_meshes_without_a_face_are_refused_with_the_way_out(tmp_path, body):
    with pytest.raises(BodyFileError, match="needs a face_regressor"):
        load_body(write_npz(tmp_path / "body.npz", body, face_regressor=None))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weights": None}, "weights missing"),
        ({"v_template": None, "f": None}, "v_template, f missing"),
        ({"kintree_table": np.zeros((2, 52), int)}, "SMPL-H"),
        ({"kintree_table": np.zeros((2, 24), int)}, "joint tree"),
        ({"v_template": np.zeros(7)}, "v_template"),
        ({"shapedirs": np.zeros((192, 30))}, "shapedirs"),
        ({"f": np.full((5, 3), 10**6)}, "triangles"),
        ({"v_template": np.array([{"code": 1}], dtype=object)}, "Python objects"),
        ({"J_regressor": np.array({"a": 1}, dtype=object)}, "Python objects"),
        ({"gender": np.array("robot")}, "robot"),
    ],
)
def test_wrong_content_is_refused_with_the_file_and_the_reason(tmp_path, body, changes, says):
    path = write_npz(tmp_path / "body.npz", body, **changes)
    with pytest.raises(BodyFileError, match=says) as refused:
        load_body(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, body, keep):
    path = tmp_path / "body.npz"
    save_body(path, body)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BodyFileError, match=r"body\.npz: damaged"):
        load_body(path)


def test_altered_bytes_end_in_no_other_error_than_ours(tmp_path, body):
    path = tmp_path / "body.npz"
    save_body(path, body)
    good, refused = path.read_bytes(), 0
    places = np.random.default_rng(0).integers(0, len(good), 150)
    # The archive's table of contents, at its end, is where damage hurts most.
    for place in [*places, *range(len(good) - 300, len(good), 3)]:
        content = bytearray(good)
        content[place] ^= 0xFF
        path.write_bytes(content)
        try:
            load_body(path)
        except BodyFileError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("name", ["nothing.npz", "nothing.pkl", "folder.npz"])
def test_missing_files_are_named(tmp_path, name):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(BodyFileError, match=f"{name}: no such body file"):
        load_body(tmp_path / name)


def test_other_endings_are_refused(tmp_path):
    (tmp_path / "body.obj").write_text("v 0 0 0")
    with pytest.raises(BodyFileError, match=r"ends in \.pkl or \.npz"):
        load_body(tmp_path / "body.obj")


def test_reading_bodies_needs_no_torch_and_no_scipy():
    code = (
        "import key2mesh_core.body.files as f, sys; f.load_body('default');"
        "assert not {'torch', 'scipy', 'chumpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
