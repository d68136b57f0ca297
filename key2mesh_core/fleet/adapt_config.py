# SPDX-License-Identifier: Apache-2.0
"""The options of `key2mesh adapt-all`. Imports no torch, so `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from tyro.conf import Suppress

from key2mesh_core.fleet.config import FleetOptions
from key2mesh_core.learning.adapt.config import ADAPT_RECIPES, AdaptConfig


@dataclass(frozen=True)
class AdaptAllConfig(FleetOptions, AdaptConfig):
    """Adapts a model to each of many robots, as `key2mesh adapt` does to one.

    Prints one JSON line per robot (adapted or not, and why) and leaves it in OUTPUT/_records; skips
    what is already done. The exit status is 1 if a robot failed. The other options apply to every
    robot; a manifest may override them for one. docs/fleet.md describes manifests.
    """

    robots: str = ""
    """A manifest (.json or .jsonl), or a folder with a folder of recordings for each robot; a path
    or a URL (s3://, gs://, file://)."""
    output: str = "adapted_models"  # type: ignore[assignment]
    """Folder of the model bundles, one for each robot: a path or a URL."""
    target: Suppress[tuple[str, ...]] = ()
    name: Suppress[str] = ""

    def __post_init__(self) -> None:
        self.check()
        super().__post_init__()

    def of_all(self) -> AdaptConfig:
        """The options of every robot."""
        values = {each.name: getattr(self, each.name) for each in fields(AdaptConfig)}
        return AdaptConfig(**(values | {"output": Path()}))


#: `key2mesh adapt-all --recipe NAME`.
ADAPT_ALL_RECIPES: dict[str, tuple[str, AdaptAllConfig]] = {
    name: (
        summary,
        AdaptAllConfig(**(vars(recipe) | {"output": AdaptAllConfig.output})),
    )
    for name, (summary, recipe) in ADAPT_RECIPES.items()
}
