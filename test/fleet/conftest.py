# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of fleets."""

from __future__ import annotations

import pytest
from helpers_fleet import Fleet, make_fleet
from helpers_meshing import bundle, no_waiting_for_the_disk

from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh

__all__ = ["bundle", "no_waiting_for_the_disk"]


@pytest.fixture(scope="package")
def fleet(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("fleet") / "recordings", 12, damaged_every=3)


@pytest.fixture(scope="package")
def one_by_one(fleet: Fleet, bundle, tmp_path_factory):
    """What `key2mesh mesh` makes of the good ones."""
    folder = tmp_path_factory.mktemp("one_by_one")
    for name in fleet.good:
        (path,) = fleet.folder.glob(f"{name}*")
        options = {"model": bundle, "fov": 60.0, "image_size": (640, 480)}
        assert mesh(MeshConfig(str(path), folder / f"{name}.npz", **options)) == 0
    return folder
