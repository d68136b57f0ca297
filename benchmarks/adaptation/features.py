# SPDX-License-Identifier: Apache-2.0
"""Features of motion capture and of detections, before and after adaptation, as in the paper's
t-SNE figure.

t-SNE shows neighbourhoods, not distances, so each picture comes with a number: how often a nearest
neighbour in feature space belongs to the other domain; 0.5 if the two are indistinguishable.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from benchmarks.adaptation.cells import Row, run_row
from benchmarks.adaptation.config import ADAPTED_ON, REPORTED_ON, TablesConfig, aistpp_spec
from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import EvaluationError
from key2mesh_core.learning.detections.target_domain import target_domain
from key2mesh_core.learning.pretrain.config import PretrainConfig
from key2mesh_core.learning.pretrain.sources import load_motions
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.recordings.targets import load_targets
from key2mesh_core.synthesis.batches import synthesise
from key2mesh_core.synthesis.config import as_recorded

SAMPLES = 700


def run(config: TablesConfig) -> dict[str, Any]:
    """Adapt with each recipe and draw its features next to those of the initial model."""
    if not config.motions:
        raise EvaluationError("--motions: the picture needs motion capture for the source domain")
    torch.manual_seed(0)
    body_data = load_body("default")
    body = BodyModel(body_data)
    captured = _motion_capture(config, body)
    seen = _detections(config)
    everything = (aistpp_spec(config.aistpp_keypoints, ADAPTED_ON),)
    models: dict[str, str | Path] = {"not adapted": config.init}
    for recipe in ("paper", "default"):
        row = Row(f"{recipe} recipe", recipe, {}, everything)
        (cell,) = run_row(replace(config, seeds=config.seeds[:1]), row)
        models[row.name] = Path(cell["folder"]) / "model"
    before = load_trained_model(config.init, body_data).network.extractor
    with torch.no_grad():
        # The source domain's features come from the frozen extractor, before and after.
        source = before(captured).numpy()
        targets = {
            name: load_trained_model(str(model), body_data).network.extractor(seen).numpy()
            for name, model in models.items()
        }
    mixing = compare(source, targets, config.output / "features.png")
    return {"title": "Features before and after", "neighbours_of_the_other": mixing}


def compare(
    source: NDArray[np.floating], targets: dict[str, NDArray[np.floating]], path: Path
) -> dict[str, float]:
    """Draws the features of the target domain (T, D) of several models, each beside those of the
    source domain (S, D); returns `neighbours_of_the_other` of each."""
    panels = {
        name: TSNE(init="pca", random_state=0).fit_transform(np.concatenate([source, target]))
        for name, target in targets.items()
    }
    mixing = {name: neighbours_of_the_other(source, each) for name, each in targets.items()}
    _draw(panels, mixing, path)
    return mixing


def neighbours_of_the_other(
    source: NDArray[np.floating], target: NDArray[np.floating], count: int = 10
) -> float:
    """Share of nearest neighbours from the other domain; (S, D) and (T, D)."""
    features = np.concatenate([source, target])
    domain = np.repeat([0, 1], [len(source), len(target)])
    near = NearestNeighbors(n_neighbors=count + 1).fit(features).kneighbors(features)[1][:, 1:]
    return float((domain[near] != domain[:, None]).mean())


def _draw(panels: dict[str, NDArray[np.floating]], mixing: dict[str, float], path: Path) -> None:
    """Write scatter plots (2 SAMPLES, 2) side by side; the first half is motion capture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 5), layout="constrained"
    )
    for axis, (name, points) in zip(axes, panels.items(), strict=True):
        for label, part in zip(("motion capture", "detections"), np.split(points, 2), strict=True):
            axis.scatter(*part.T, s=8, label=label)
        axis.set(title=f"{name}\nneighbours of the other domain: {mixing[name]:.2f}")
        axis.set(xticks=[], yticks=[])
    axes[-1].legend(fontsize="small")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def to_markdown(result: dict[str, Any]) -> str:
    """The numbers under the picture."""
    lines = [f"- {k}: {v:.2f}" for k, v in result["neighbours_of_the_other"].items()]
    return (
        f"## {result['title']}\n\n![t-SNE of features](features.png)\n\nShare of the ten nearest "
        "neighbours in feature space that are of the other domain (0.5: they cannot be told "
        "apart):\n\n" + "\n".join(lines) + "\n"
    )


def _motion_capture(config: TablesConfig, body: BodyModel) -> torch.Tensor:
    bank, _ = load_motions(PretrainConfig(config.motions, Path("unused")), body)
    synthesis = as_recorded(PretrainConfig(config.motions, Path("unused")).synthesis)
    generator = torch.Generator().manual_seed(0)
    return synthesise(bank, body, synthesis, SAMPLES, generator).inputs


def _detections(config: TablesConfig) -> torch.Tensor:
    spec = aistpp_spec(config.aistpp_keypoints, REPORTED_ON)
    domain = target_domain(load_targets([spec]), True, torch.device("cpu"))
    rows = torch.linspace(0, len(domain) - 1, SAMPLES).long()
    return domain.batch.inputs[rows]
