# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: what it prints, writes and draws, and the command that makes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_aistpp import CAMERAS, FRAMES, Studio
from helpers_bundle import make_bundle
from matplotlib.colors import to_hex

from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.aistpp import LIMB_JOINT_NAMES, SequenceErrors
from key2mesh_core.evaluation.config import EvaluateConfig
from key2mesh_core.evaluation.evaluate import evaluate, write_report
from key2mesh_core.evaluation.figure import BAR, DOUBTFUL, draw_report
from key2mesh_core.evaluation.report import Report, markdown_table


@pytest.fixture
def report() -> Report:
    frames = np.full((3, 4), 80.0)
    frames[1] = 200.0
    frames[2, 1:] = np.nan
    errors = SequenceErrors(
        frames_mm=frames,
        centred_mm=np.where(frames == 80.0, 90.0, np.nan),
        joints_mm=np.arange(12.0) * 10,
        truth_reprojection_px=np.array([3.0, 40.0, np.nan]),
        in_step=np.array([True, False, True]),
    )
    return Report("model", "body@0", aistpp={"ch03": errors})


def test_the_headline_counts_every_measured_frame(report: Report) -> None:
    line = next(x for x in report.to_markdown().splitlines() if "ch03" in x)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["ch03", "9", "133.3", "90.0", "2 of 3", "80.0"]  # (5 * 80 + 4 * 200) / 9


def test_json_has_no_nan_and_names_joints(report: Report) -> None:
    content = json.loads(report.to_json(), parse_constant=pytest.fail)
    sequence = content["aistpp"]["ch03"]
    assert sequence["truth_reprojection_px"] == [3.0, 40.0, None]
    assert sequence["joints_mm"] == dict(zip(LIMB_JOINT_NAMES, range(0, 120, 10), strict=True))


def test_tables_are_aligned() -> None:
    table = markdown_table(("name", "mm"), [("a long name", "1.5"), ("b", "-"), ("c", "100.0")])
    assert len({len(line) for line in table.splitlines()}) == 1
    assert table.splitlines()[2] == "| a long name |   1.5 |"
    assert table.splitlines()[1].endswith("-: |")


def test_a_bar_for_each_joint_and_camera_and_grey_ones_for_cameras_out_of_step(
    report: Report,
) -> None:
    joints, cameras = draw_report(report).axes
    errors = report.aistpp["ch03"]
    np.testing.assert_allclose([bar.get_width() for bar in joints.patches], errors.joints_mm)
    np.testing.assert_allclose([bar.get_width() for bar in cameras.patches], errors.camera_means_mm)
    colours = [to_hex(bar.get_facecolor()) for bar in cameras.patches]
    assert colours == [BAR if in_step else DOUBTFUL for in_step in errors.in_step]
    assert DOUBTFUL in colours


def test_an_empty_report_is_still_drawn(tmp_path: Path) -> None:
    draw_report(Report("model", "body@0")).savefig(tmp_path / "empty.png")


def test_the_job_measures_a_bundle_on_real_detections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio = Studio(tmp_path)
    studio.write()
    make_bundle(tmp_path / "bundle")
    report = evaluate(
        EvaluateConfig(
            model=str(tmp_path / "bundle"),
            aistpp_keypoints=studio.folder,
            aistpp_truth=studio.truth_file,
            aistpp_sequences=("ch03",),
            output=tmp_path / "out",
        )
    )
    errors = report.aistpp["ch03"]
    # The bundle knows nothing but a T-pose; the dancer is a cloud of points some 0.4 m wide.
    assert 100 < errors.mean_mm < 700
    assert errors.measured == CAMERAS * FRAMES
    assert f"{errors.mean_mm:.1f}" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/report.json").read_text())["model"] == "untrained"
    assert (tmp_path / "out/report.md").read_text() == report.to_markdown()
    assert (tmp_path / "out/report.png").stat().st_size > 1000


def test_a_report_is_written_without_matplotlib(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "key2mesh_core.evaluation.figure", None)
    monkeypatch.delitem(sys.modules, "key2mesh_core.evaluation.figure")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_report(report, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.json", "report.md"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to measure"),
        ({"aistpp_truth": Path("truth.npz")}, r"only truth\.npz"),
        ({"clips": ("a",), "frames": 0}, "got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        EvaluateConfig(**options)


def test_measuring_on_real_detections_needs_no_torch() -> None:
    code = (
        "import sys, key2mesh_core.evaluation.evaluate, key2mesh_core.evaluation.config;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
