# SPDX-License-Identifier: Apache-2.0
"""A model bundle as a predictor of SMPL's meshes, converted from another body where necessary."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.data import BodyData
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.benchmarks.config import BenchmarkConfig
from key2mesh_core.evaluation.benchmarks.scores import Meshes, Predict, rest_pelvis
from key2mesh_core.model.bundle import MANIFEST, load_bundle
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
    manifest = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    if bundle.body_model.partition("@")[2] != neutral.identifier.partition("@")[2]:
        raise EvaluationError(
            f"the model {bundle.name} was trained with the body {bundle.body_model}, not with your "
            f"neutral SMPL {neutral.identifier}: their vertices do not correspond, so Human3.6M's "
            "regressor does not apply"
        )

    def predict(keypoints: NDArray[np.float32], intrinsics: Intrinsics) -> Meshes:
        found = estimator.estimate(keypoints, intrinsics)
        origin = found.translation - rest_pelvis(neutral, found.betas)
        return Meshes(found.vertices, found.joints, origin)

    return SmplPredictor(
        predict, bundle.name, f"{bundle.name}, trained with {bundle.body_model}", manifest
    )
