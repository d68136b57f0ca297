# SPDX-License-Identifier: Apache-2.0
"""SMPL's genders in a folder of downloads, under the names of the releases."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_smplx import write_official_pickle
from helpers_training import small_body

from key2mesh_core.body.files import default_body, save_body
from key2mesh_core.body.folder import load_smpl
from key2mesh_core.errors import BodyFileError

OFFICIAL = {
    "neutral": "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl",
    "female": "basicModel_f_lbs_10_207_0_v1.0.0.pkl",
    "male": "basicmodel_m_lbs_10_207_0_v1.1.0.pkl",
}


def test_the_releases_are_found_by_gender(tmp_path) -> None:
    body = default_body()
    for size, name in enumerate(OFFICIAL.values(), 1):
        write_official_pickle(tmp_path / name, replace(body, template=size * body.template))
    for size, gender in enumerate(OFFICIAL, 1):
        found = load_smpl(tmp_path, gender)
        assert found.gender == gender
        np.testing.assert_allclose(found.template, size * body.template, rtol=1e-6)


def test_two_files_of_one_gender_must_agree(tmp_path) -> None:
    body = default_body()
    save_body(tmp_path / "SMPL_NEUTRAL.npz", body)
    save_body(tmp_path / "basicmodel_neutral_lbs.npz", body)
    assert load_smpl(tmp_path, "neutral").identifier == body.identifier
    save_body(tmp_path / "basicmodel_neutral_lbs.npz", replace(body, template=2 * body.template))
    with pytest.raises(BodyFileError, match="several neutral bodies"):
        load_smpl(tmp_path, "neutral")


def test_another_mesh_than_smpls_is_refused(tmp_path) -> None:
    save_body(tmp_path / "SMPL_NEUTRAL.npz", small_body())
    with pytest.raises(BodyFileError, match="SMPL has 6890"):
        load_smpl(tmp_path, "neutral")
