# SPDX-License-Identifier: Apache-2.0
"""Models to adapt, and one exported model for all tests, because exporting is slow."""

import json

import pytest
from helpers_adapt import save_model, write_aistpp
from helpers_training import write_clip

from key2mesh_core.learning.export import export
from key2mesh_core.learning.export_config import ExportConfig
from key2mesh_core.model.bundle import load_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """What adaptation needs: a checkpoint `start.pt` with its `body.npz`, `detections` of AIST++'s
    kind and motion capture in `clips`."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder)
    write_aistpp(folder / "detections" / "gBR_ch06.pkl", people=2, frames=80)
    write_clip(folder / "clips" / "one_poses.npz")
    return folder


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
