# SPDX-License-Identifier: Apache-2.0
"""`key2mesh evaluate 3dpw` as a user calls it, with the shipped model."""

import json

import numpy as np
from helpers_benchmarks import write_3dpw

from key2mesh_core.cli.main import main


def test_the_shipped_model_is_measured_through_a_conversion(mine, tmp_path, capsys) -> None:
    write_3dpw(mine, tmp_path, "neutral")
    words = f"evaluate 3dpw --root {tmp_path} --body-folder {mine.folder} --regressor "
    words += f"{mine.regressor} --output {tmp_path / 'out'} --threads 1"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "out/report.json").read_text())
    # The miniature's neutral body is the default one, which needs no conversion.
    assert "converted" not in out
    assert 5 < report["pa_mpjpe_mm"] < 100
    assert report["pa_mpjpe_mm"] < report["mpjpe_mm"] < 200
    assert main([*words.split(), "--regressor", str(tmp_path / "absent.npy")]) == 2
    assert "absent.npy cannot be read" in capsys.readouterr().err


def test_a_model_of_another_body_is_converted_and_says_by_how_much(mine, tmp_path, capsys) -> None:
    write_3dpw(mine, tmp_path, "neutral")
    folder = tmp_path / "smpl"
    folder.mkdir()
    # The male body in the place of the neutral one: not what the shipped model was trained with.
    arrays = dict(np.load(mine.folder / "SMPL_MALE.npz"))
    arrays.pop("gender")
    np.savez(folder / "SMPL_NEUTRAL.npz", **arrays)
    words = f"evaluate 3dpw --root {tmp_path} --body-folder {folder} --regressor "
    words += f"{mine.regressor} --output {tmp_path / 'out'} --threads 1"
    assert main(words.split()) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert "converted to SMPL_MALE" in report["description"]
    assert "mm on average" in report["description"]
    assert report["pa_mpjpe_mm"] < 100
    assert main([*words.split(), "--body", str(mine.folder / "SMPL_FEMALE.npz")]) == 2
    assert "give the body file" in capsys.readouterr().err
