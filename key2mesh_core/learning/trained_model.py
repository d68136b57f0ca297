# SPDX-License-Identifier: Apache-2.0
"""A trained network and the facts needed to use it, from a model bundle or a checkpoint.

A bundle has no BatchNorm: its statistics are folded into the linear layers, and here they are
folded wherever the network comes from. BatchNorm therefore has no effect during adaptation, or in
further training: its statistics remain those of the motion capture, and the prediction for a person
does not depend on the rest of the batch. Only the published recipe adapts a checkpoint's unfolded
network.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from key2mesh_core.body.data import BodyData
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.runs import load_checkpoint
from key2mesh_core.model.bundle import WEIGHTS, load_bundle
from key2mesh_core.network.key2mesh import Key2Mesh, folded, unfolded
from key2mesh_core.network.weights import build, load_network


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """The starting point of adaptation, further training and export.

    Attributes:
        network: in eval mode, with BatchNorm folded.
        centre_view: whether the network expects the view turned to the person.
        detector_keypoints: whether it was trained on neck and hips as detectors report them.
        origin: the file and a digest, to distinguish two models of the same name.
        card: facts for the model card of derived models.
        with_batch_norm: the same network with BatchNorm and dropout, if it is from a checkpoint.
    """

    name: str
    network: Key2Mesh
    centre_view: bool
    detector_keypoints: bool
    origin: str
    card: dict[str, Any]
    with_batch_norm: Key2Mesh | None = None


def load_trained_model(path: str | Path, data: BodyData, dropout: float = 0.0) -> TrainedModel:
    """Reads `default`, a bundle's folder or a checkpoint of `key2mesh pretrain`; `dropout` is that
    of `with_batch_norm`.

    Raises:
        TrainingError: there is no such model, it was trained with another body, or the bundle has
            no weights.
        BundleError: the bundle is damaged.
    """
    if Path(path).is_file():
        return _of_checkpoint(Path(path), data, dropout)
    bundle = load_bundle(path)
    _check_body(path, bundle.body_model, data)
    card = dict(bundle.card)
    return TrainedModel(
        bundle.name,
        load_network(bundle),
        bool(card.get("centre_view", True)),
        bool(card.get("detector_keypoints", True)),
        f"{bundle.name}, {_digest(bundle.path / WEIGHTS)}",
        card,
    )


def _of_checkpoint(path: Path, data: BodyData, dropout: float) -> TrainedModel:
    state = load_checkpoint(path, "body", "network", "centre_view", "detector_keypoints", "step")
    _check_body(path, state["body"], data)
    network = build(state.get("architecture", {"name": "key2mesh"}), dropout)
    if not state.get("batch_norm", True):  # trained from a folded network
        network = unfolded(folded(network))
    network.load_state_dict(state["network"])
    switches = {name: bool(state[name]) for name in ("centre_view", "detector_keypoints")}
    return TrainedModel(
        "key2mesh",
        folded(network),
        **switches,
        origin=f"{path.name}, {_digest(path)}",
        card={**switches, "steps": state["step"]},
        with_batch_norm=network if state.get("batch_norm", True) else None,
    )


def _check_body(path: str | Path, identifier: str, data: BodyData) -> None:
    if identifier != data.identifier:
        raise TrainingError(
            f"{path} was trained with the body {identifier}, not with {data.identifier}: give the "
            "body file that it was trained with (--body)"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
