# SPDX-License-Identifier: Apache-2.0
"""`benchmarks.adaptation`: what its tables say follows from what was measured."""

import numpy as np
import pytest
from helpers_adapt import moving_person, targets

from benchmarks.adaptation import cost, criterion, tables
from benchmarks.adaptation.cells import chosen_frames
from benchmarks.adaptation.config import TUNED_ON
from key2mesh_core.recordings.targets import load_targets


def test_a_share_of_frames_is_a_bit_of_everything():
    everything = targets(2, 100)
    chosen = chosen_frames(everything, 0.3)
    assert chosen.sum() == 60
    for number in range(2):
        frames = everything.frame[chosen & (everything.sequence == number)]
        # Three neighbours of every ten, so that there is something to smooth over.
        assert (np.diff(frames) == 1).sum() == 20
        assert np.ptp(frames) > 90
    assert chosen_frames(everything, 1.0).all()
    with pytest.raises(ValueError, match=r"share lies in 0\.\.1, got 0"):
        chosen_frames(everything, 0)


def measured(true: float, reprojection: float, mirror: float, other: float) -> dict[str, float]:
    truth = {f"true_{name}_mm": true for name in TUNED_ON}
    return {"reprojection": reprojection, "mirror_mm": mirror, "other": other, **truth}


def test_the_criterion_is_judged_by_what_it_picks():
    before = measured(80, 0.05, 30, 1.0)
    gains = [before, measured(76, 0.045, 24, 2.0), measured(78, 0.044, 27, 0.5)]
    loses = [before, measured(85, 0.048, 33, 0.9), measured(90, 0.047, 36, 0.8)]
    rows = criterion.study([gains, loses])["criteria"]
    # The choice takes the best epoch of the first run, and leaves the second model alone.
    assert rows[criterion.CHOSEN]["regret_mm"] == 0
    assert rows[criterion.CHOSEN]["worse_than_before"] == 0
    # Re-projection alone takes the last of both: 2 and 10 mm worse than the best.
    assert rows["reprojection"]["regret_mm"] == pytest.approx(6)
    assert rows["reprojection"]["worse_than_before"] == 1
    assert rows[criterion.CHOSEN]["rank_correlation"] > 0.9 > rows["other"]["rank_correlation"]


def test_a_table_tells_the_change_of_the_reported_sequences():
    def cell(ch03: float, ch04: float) -> dict:
        errors = {"ch01": 70.0, "ch02": 80.0, "ch03": ch03, "ch04": ch04}
        return {"errors_mm": errors, "in_step_mm": errors, "frames": 1000, "minutes": 1.5}

    rows = [
        {"name": "not adapted", "cells": [cell(70, 90)]},
        {"name": "adapted", "cells": [cell(66, 86), cell(68, 84)]},
    ]
    text = tables.to_markdown({"title": "Table", "rows": rows})
    (line,) = [each for each in text.splitlines() if each.startswith("| adapted")]
    assert [each.strip() for each in line.split("|")][2:-1] == [
        "1000",
        *("67.0 ± 1.0", "85.0 ± 1.0", "70.0 ± 0.0", "80.0 ± 0.0"),
        *("76.0 ± 0.0", "-5.0%", "76.0 ± 0.0", "-5.0%", "1.5"),
    ]


def test_the_cost_is_measured_on_bags_of_one_person(tmp_path):
    cost._write(tmp_path / "bag", moving_person(90)[:, :17])  # as COCO's 17
    read = load_targets((f"bag:{tmp_path / 'bag'}",))
    assert len(read) == 90
    assert len(np.unique(read.sequence)) == 1
