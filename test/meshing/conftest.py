# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of `key2mesh mesh`."""

from __future__ import annotations

import pytest
from helpers_meshing import bundle, no_waiting_for_the_disk, recording

__all__ = ["bundle", "no_waiting_for_the_disk"]


@pytest.fixture(scope="package")
def source(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("source") / "bag")
