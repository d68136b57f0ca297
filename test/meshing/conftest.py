# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of `key2mesh mesh`."""

from __future__ import annotations

import pytest
from helpers_bundle import make_bundle
from helpers_meshing import recording

from key2mesh_core import io as io_


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Outliving a loss of power cannot be tested here, and takes seconds on a busy disk."""
    monkeypatch.setattr(io_, "sync", lambda path: None)


@pytest.fixture(scope="package")
def bundle(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("bundle") / "small").path)


@pytest.fixture(scope="package")
def source(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("source") / "bag")
