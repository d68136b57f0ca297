# SPDX-License-Identifier: Apache-2.0
"""Selection on labelled data, as the paper's authors select: PA-MPJPE on 3DPW's validation split.

A robot has no labels; `validation` then decides without them. This is for reproducing the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.folder import load_smpl
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.body.transfer import Transfer, transfer_between
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import TrainingError
from key2mesh_core.evaluation.benchmarks import protocols
from key2mesh_core.evaluation.benchmarks.joint_regressor import load_regressor
from key2mesh_core.evaluation.benchmarks.scores import Judge, Meshes
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.network.graphs import PoseGraph
from key2mesh_core.network.key2mesh import Key2Mesh
from key2mesh_core.recordings import threedpw
from key2mesh_core.recordings.labelled import LabelledPerson

SPLIT = "validation"


@dataclass(frozen=True, eq=False)
class LabelledSelection:
    """Measures networks on the `people` of 3DPW's validation split; `body` is the networks' body,
    `neutral` the user's SMPL, and `transfer` converts the first to the second, if they differ."""

    people: tuple[LabelledPerson, ...]
    judge: Judge
    body: BodyModel
    neutral: BodyData
    transfer: Transfer | None
    centre_view: bool

    @torch.no_grad()
    def pa_mpjpe_mm(self, network: Key2Mesh) -> float:
        """Mean PA-MPJPE [mm] over all images that count."""
        graph = PoseGraph(network, self.body, self.centre_view).eval()
        keypoints = network.sizes["keypoints"]
        device = next(network.parameters()).device

        def predict(people: NDArray[np.float32], intrinsics: Intrinsics) -> Meshes:
            points = torch.as_tensor(people[:, :keypoints], device=device)
            camera = torch.as_tensor(intrinsics.as_array(), device=device).expand(len(people), 4)
            betas, rotations, place, *_ = (part.cpu().numpy() for part in graph(points, camera))
            if self.transfer is not None:
                betas, rotations, _ = self.transfer.convert(betas, rotations, place)
            return Meshes.of(self.neutral, betas, rotations)

        errors = [self.judge.measure(person, predict).pa_mpjpe_mm for person in self.people]
        return float(np.concatenate(errors).mean())


def labelled_selection(
    config: AdaptConfig, data: BodyData, body: BodyModel, centre_view: bool
) -> LabelledSelection:
    """Reads 3DPW's validation split, thinned evenly to about `config.select_images` images.

    Raises:
        EvaluationError, BodyFileError: a file of the data set, the regressor or a body is missing
            or damaged.
        TrainingError: no image counts.
    """
    sequences = threedpw.sequences(config.select_root, SPLIT)
    everyone = [person for read in sequences.values() for person in read()]
    every = max(1, sum(map(len, everyone)) // config.select_images)
    people = tuple(person.select(np.arange(0, len(person), every)) for person in everyone)
    if not any(map(len, people)):
        raise TrainingError(f"{config.select_root}: no image of 3DPW's {SPLIT} split counts")
    neutral = load_smpl(config.select_body_folder, "neutral")
    regressor = load_regressor(config.select_regressor, neutral.template)
    protocol = protocols.threedpw(SPLIT, "neutral", "hips", threedpw.SPLITS[SPLIT])
    judge = Judge(protocol, {"neutral": neutral}, regressor)
    transfer = None if neutral.matches(data.identifier) else transfer_between(data, neutral)
    return LabelledSelection(people, judge, body, neutral, transfer, centre_view)
