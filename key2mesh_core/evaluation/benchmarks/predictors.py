# SPDX-License-Identifier: Apache-2.0
"""A model bundle as a predictor of SMPL's meshes, converted from another body where necessary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.files import load_body
from key2mesh_core.body.transfer import sample_residual, transfer_between
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.benchmarks.config import BenchmarkConfig
from key2mesh_core.evaluation.benchmarks.scores import Meshes, Predict
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator


@dataclass(frozen=True, eq=False)
class SmplPredictor:
    """Predicts SMPL's meshes from keypoints.

    Attributes:
        predict: the function.
        name: of the model.
        description: of model and body, in words.
        identity: differs between predictors that predict differently.
    """

    predict: Predict
    name: str
    description: str
    identity: str


def smpl_predictor(config: BenchmarkConfig, neutral: BodyData) -> SmplPredictor:
    """The bundle `config.model` as a predictor of meshes of the neutral SMPL.

    Raises:
        EvaluationError: the model was trained with a body that is neither `neutral` nor
            `config.body`.
    """
    bundle = load_bundle(config.model)
    estimator = Estimator(bundle, threads=config.threads)
    description = f"{bundle.name}, trained with {bundle.body_model}"
    transfer = None
    if not neutral.matches(bundle.body_model):
        body = load_body(config.body)
        if not body.matches(bundle.body_model):
            raise EvaluationError(
                f"the model {bundle.name} was trained with the body {bundle.body_model}; neither "
                f"your neutral SMPL ({neutral.identifier}) nor --body ({body.identifier}) is that: "
                "give the body file that the model was trained with (--body)"
            )
        transfer = transfer_between(body, neutral)
        residual = 1000 * sample_residual(transfer, body, neutral)
        description += (
            f", converted to {neutral.identifier}: vertices are off by {residual:.1f} mm on average"
        )

    def predict(keypoints: NDArray[np.float32], intrinsics: Intrinsics) -> Meshes:
        found = estimator.estimate(keypoints, intrinsics, vertices=False)
        betas, rotations = found.betas, found.rotations
        if transfer is not None:
            betas, rotations, _ = transfer.convert(betas, rotations, found.translation)
        return Meshes.of(neutral, betas, rotations)

    return SmplPredictor(predict, bundle.name, description, bundle.digest)
