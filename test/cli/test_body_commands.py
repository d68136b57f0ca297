# SPDX-License-Identifier: Apache-2.0
"""`key2mesh body ...` as a user runs it."""

import os

import numpy as np
import pytest
from helpers_smplx import python2_pickle, smpl_arrays
from helpers_training import small_body
from PIL import Image

from key2mesh_core.body.files import default_body, load_body
from key2mesh_core.cli.body import draw_body
from key2mesh_core.cli.main import main

PAPER = 255


@pytest.fixture
def smpl_file(tmp_path):
    body = small_body(correctives=True)
    path = tmp_path / "SMPL_FEMALE.pkl"
    path.write_bytes(python2_pickle({**smpl_arrays(body), "face_regressor": body.face_regressor}))
    return path


def test_info_tells_what_the_default_body_is(capsys):
    assert main(["body", "info"]) == 0
    table = dict(
        line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if line[0] > " "
    )
    assert table["vertices"].strip() == "6,890"
    assert table["triangles"].strip() == "13,776"
    assert table["identifier"].strip() == default_body().identifier
    assert table["pose correctives"].strip() == "none"
    assert 1.6 < float(table["height"].split()[0]) < 1.8


def test_info_of_a_file(capsys, smpl_file):
    assert main(["body", "info", str(smpl_file)]) == 0
    shown = capsys.readouterr().out
    assert load_body(smpl_file).identifier in shown
    assert "female" in shown
    assert "207" in shown


def test_convert_keeps_the_body(capsys, smpl_file, tmp_path):
    assert main(["body", "convert", str(smpl_file), str(tmp_path / "new.npz")]) == 0
    assert load_body(tmp_path / "new.npz").identifier == load_body(smpl_file).identifier
    assert load_body(smpl_file).identifier in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["info", "missing.npz"], "missing.npz: no such body file"),
        (["convert", "default", "body.pkl"], "body.pkl"),
        (["render", "default", "body.jpg"], "body.jpg"),
        (["render", "default", "body.png", "--betas", *["1"] * 11], "at most 10"),
    ],
)
def test_mistakes_end_in_a_sentence_and_status_2(capsys, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    assert main(["body", *words]) == 2
    assert says in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_render_writes_front_and_side(tmp_path):
    path = tmp_path / "pictures" / "body.png"
    assert main(["body", "render", "default", str(path), "--betas", "1", "-1"]) == 0
    assert os.listdir(path.parent) == ["body.png"]
    picture = np.asarray(Image.open(path).convert("L"))
    front, side = np.split(picture < PAPER, 2, axis=1)
    assert np.ptp(np.flatnonzero(front.any(1))) == pytest.approx(
        np.ptp(np.flatnonzero(side.any(1))), rel=0.05
    )
    # Arms out in the front view only.
    assert np.ptp(np.flatnonzero(front.any(0))) > 2 * np.ptp(np.flatnonzero(side.any(0)))
    # Symmetric in front; from its left the body looks to the picture's left: its feet too.
    assert (front == front[:, ::-1]).mean() > 0.99
    rows = np.flatnonzero(side.any(1))
    feet, legs = side[rows[-1] - 20 :].any(0), side[rows[-1] - 120 : rows[-1] - 80].any(0)
    assert np.flatnonzero(feet).min() < np.flatnonzero(legs).min() - 20


def test_taller_bodies_fill_the_picture_as_well():
    for value in (-3.0, 3.0):
        drawn = np.asarray(draw_body(default_body(), np.array([value]))) < PAPER
        assert not drawn[[0, -1]].any()
        assert not drawn[:, [0, -1]].any()
        assert drawn.any()
