# SPDX-License-Identifier: Apache-2.0
"""Every setting of `key2mesh export`. Imports no torch, so `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportConfig:
    """Turns a checkpoint, or the weights of another bundle, into a model bundle: two ONNX graphs,
    weights.safetensors and model.json."""

    checkpoint: Path
    """A checkpoint of `key2mesh pretrain` (best.pt), or a bundle's folder or "default", whose
    graphs are exported again from its own weights."""
    output: Path
    """The bundle's folder; replaced only if the whole export succeeds."""
    name: str = ""
    """The bundle's name, shown in diagnostics; by default "key2mesh", or the name of the source
    bundle."""
    body: str = "default"
    """The body file that the checkpoint was trained with."""
    block_weights: bool = True
    """Store linear weights as blocks of 8-bit integers: a quarter of the size and a third of the
    time for one person, with a rounding error of 0.7 mm."""
    card: Path | None = None
    """A JSON file with facts for the model card: training data, measured errors."""
