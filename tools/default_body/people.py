# SPDX-License-Identifier: Apache-2.0
"""Adults sampled from Anny, at rest, in our frame: x to their left, y up, z forward, metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RIG = "game_engine"
TOPOLOGY = "notoes"
ADULT_YEARS = (18.0, 75.0)


@dataclass(frozen=True)
class People:
    """N sampled people of one topology.

    Attributes:
        vertices: (N, V, 3) rest pose [m]. triangles: (F, 3).
        bone_weights: (V, bones) skinning weights of the rig.
        bone_heads: bone name -> (N, 3) [m].
        landmarks: COCO keypoint name -> (N, 3) [m], as annotators place them.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    bone_names: tuple[str, ...]
    bone_weights: np.ndarray
    bone_heads: dict[str, np.ndarray]
    landmarks: dict[str, np.ndarray]


def sample_people(count: int, seed: int) -> People:
    """`count` adults, half of either sex, of Anny's height, weight and muscle distributions."""
    import anny
    import torch
    from anny.shape_distribution import SimpleShapeDistribution

    torch.manual_seed(seed)
    model = anny.Anny(rig=RIG, topology=TOPOLOGY, skinning_method="lbs")
    # The landmarks are defined on the complete mesh (with eyes), which we keep no more of.
    complete = anny.Anny(rig=RIG, topology="anny-full", skinning_method="lbs")
    number = {"dtype": model.dtype}
    years = torch.distributions.Uniform(*(torch.tensor(y, **number) for y in ADULT_YEARS))
    sexes = _BothSexes(count)
    _, phenotypes = SimpleShapeDistribution(model, years, sexes).sample(count)

    heads, landmarks = {}, {}
    rest = _rest(model, phenotypes)
    for index, name in enumerate(model.bone_labels):
        heads[name] = _our_frame(rest["rest_bone_heads"][:, index].numpy())
    complete_vertices = _our_frame(_rest(complete, phenotypes)["rest_vertices"].numpy())
    file = anny.paths.get_anny_root_dir() / "data" / "keypoints" / "coco.pth"
    for name, row in torch.load(file, weights_only=True).items():
        row = row[complete.base_mesh_vertex_indices].numpy().astype(np.float64)
        used = np.flatnonzero(row)
        landmarks[name] = np.einsum("v,nvc->nc", row[used], complete_vertices[:, used])

    weights = np.zeros((len(model.template_vertices), model.bone_count))
    indices = model.vertex_bone_indices.numpy()
    np.add.at(
        weights, (np.arange(len(weights))[:, None], indices), model.vertex_bone_weights.numpy()
    )
    return People(
        vertices=_our_frame(rest["rest_vertices"].numpy()),
        triangles=model.faces.numpy().astype(np.int64),
        bone_names=tuple(model.bone_labels),
        bone_weights=weights / weights.sum(1, keepdims=True),
        bone_heads=heads,
        landmarks=landmarks,
    )


class _BothSexes:
    """Half men around 0.1, half women around 0.9 on Anny's axis from 0 to 1."""

    def __init__(self, count: int) -> None:
        self.count = count

    def sample(self, shape: tuple[int, ...]):  # noqa: ANN202 - torch is imported late
        import torch

        spread = torch.distributions.Beta(2.0, 14.0).sample(shape).to(torch.float64)
        women = torch.arange(self.count) % 2 == 1
        return torch.where(women, 1 - spread, spread)


def _rest(model, phenotypes) -> dict:  # noqa: ANN001 - torch is imported late
    import torch

    columns = [phenotypes[name] for name in model.phenotype_labels]
    parameters = torch.stack(columns, dim=1).to(model.dtype)
    none = torch.zeros(len(parameters), 0, dtype=model.dtype)
    coefficients = model._get_phenotype_blendshape_coefficients(parameters, none, none)
    return model.get_rest_model(coefficients)


def _our_frame(points: np.ndarray) -> np.ndarray:
    # Anny: x to the person's left, z up, the person looks along -y.
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)
