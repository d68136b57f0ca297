# SPDX-License-Identifier: Apache-2.0
"""Turning the view to the person pays off to the side, and costs nothing in the middle."""

import numpy as np
import pytest
from helpers_training import write_clip

from benchmarks.viewing_ray import ViewingRayConfig, main


def test_people_at_the_side_are_seen_as_well_as_in_the_middle(tmp_path, capsys):
    calm = np.zeros((20, 156), np.float32)
    calm[:, 0] = np.pi / 2
    calm[:, 16 * 3 + 2], calm[:, 17 * 3 + 2] = -1.2, 1.2  # arms down
    write_clip(tmp_path / "clips" / "a.npz", poses=calm)
    output = tmp_path / "rows.json"
    rows = main(ViewingRayConfig(tmp_path / "clips", angles=(0.0, 35.0), frames=256, output=output))
    middle, side = rows
    assert middle["root_degrees_with"] == pytest.approx(middle["root_degrees_without"], abs=3)
    assert side["root_degrees_with"] == pytest.approx(middle["root_degrees_with"], abs=5)
    assert side["root_degrees_without"] > side["root_degrees_with"] + 10
    assert side["mpjpe_mm_without"] > side["mpjpe_mm_with"]
    assert side["place_mm_with"] < 250  # of 3 m: the shipped network's idea of size
    assert side["place_mm_without"] > side["place_mm_with"]
    assert output.exists()
    assert "35 deg" in capsys.readouterr().out
