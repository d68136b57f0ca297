# SPDX-License-Identifier: Apache-2.0
"""One exported model for all tests of this folder: exporting takes half a minute."""

import json

import pytest
from helpers_adapt import save_model

from key2mesh_core.learning.export import export
from key2mesh_core.learning.export_config import ExportConfig
from key2mesh_core.model.bundle import load_bundle


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A checkpoint of an untrained network, its body's file `body.npz` beside it."""
    return save_model(tmp_path_factory.mktemp("run"), features=256, correctives=True)[0]


@pytest.fixture(scope="session")
def exported(checkpoint, tmp_path_factory):
    """The bundle of that checkpoint, alone in its folder. Do not alter it."""
    output = tmp_path_factory.mktemp("models") / "mine"
    card = checkpoint.parent / "card.json"
    card.write_text(json.dumps({"trained_on": "made-up motion"}))
    body = str(checkpoint.parent / "body.npz")
    export(ExportConfig(checkpoint, output, name="mine", body=body, card=card))
    return load_bundle(output)
