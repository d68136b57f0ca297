# SPDX-License-Identifier: Apache-2.0
"""How motion capture is named on the command line."""

from pathlib import Path

import pytest

from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.pretrain.sources import parse_motion


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a/b", ("a/b", 1.0)), ("a/b=0.4", ("a/b", 0.4)), ("x=y=2", ("x=y", 2.0))],
)
def test_motions_with_shares(text, expected):
    assert parse_motion(text) == (Path(expected[0]), expected[1])


@pytest.mark.parametrize("text", ["a=", "a=none", "a=0", "a=-1", "a=inf"])
def test_impossible_shares_are_refused(text):
    with pytest.raises(TrainingError, match=text):
        parse_motion(text)
