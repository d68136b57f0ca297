# SPDX-License-Identifier: Apache-2.0
"""`key2mesh body info|convert|render`: describe, convert and draw body files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.files import load_body, save_body
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import BodyFileError
from key2mesh_core.io import atomic_write

if TYPE_CHECKING:
    from PIL import Image

_TILE = (520, 640)
_DISTANCE_M = 4.0
_PAPER = (255, 255, 255)


@dataclass(frozen=True)
class BodyInfoConfig:
    """Prints the size, shape components, correctives and identifier of a body file."""

    body: Positional[str] = "default"
    """An SMPL .pkl or .npz file, or 'default' for the shipped body."""


@dataclass(frozen=True)
class BodyConvertConfig:
    """Converts an SMPL download to an .npz with plain arrays, which any program can read."""

    source: str
    """An SMPL .pkl or .npz file, or 'default' for the shipped body."""
    target: Path
    """The .npz file to write; replaced atomically if it exists."""


@dataclass(frozen=True)
class BodyRenderConfig:
    """Draws a body in its T-pose, from the front and from the side."""

    body: str
    """An SMPL .pkl or .npz file, or 'default' for the shipped body."""
    target: Path
    """The .png file to write."""
    betas: tuple[float, ...] = ()
    """Shape: one number per component, in standard deviations; missing ones are zero."""


def info(config: BodyInfoConfig) -> None:
    """Prints a table on the body file."""
    print(describe(load_body(config.body)))


def convert(config: BodyConvertConfig) -> None:
    """Writes the body as .npz, atomically."""
    body = load_body(config.source)
    save_body(config.target, body)
    print(f"{config.target}: {load_body(config.target).identifier}")


def render(config: BodyRenderConfig) -> None:
    """Writes a picture of the body, atomically."""
    if config.target.suffix != ".png":
        raise BodyFileError(
            f"{config.target}: pictures are written as .png; choose a name that ends in .png"
        )
    picture = draw_body(load_body(config.body), np.asarray(config.betas, dtype=np.float32))
    try:
        with atomic_write(config.target) as unfinished:
            picture.save(unfinished)
    except OSError as error:
        raise BodyFileError(f"{config.target}: cannot be written ({error})") from error
    print(config.target)


def describe(body: BodyData) -> str:
    """The table that `key2mesh body info` prints."""
    components = body.shape_directions.shape[2]
    rows = [
        ("identifier", body.identifier),
        ("gender", body.gender),
        ("vertices", f"{len(body.template):,}"),
        ("triangles", f"{len(body.triangles):,}"),
        ("joints", str(len(body.parents))),
        ("shape components", str(components)),
        ("pose correctives", "none" if body.pose_directions is None else "207"),
        ("joints per vertex", f"at most {int((body.skinning_weights > 0).sum(1).max())}"),
        ("height", f"{_height(body, np.zeros(1)):.3f} m"),
    ]
    for component in range(min(components, 3)):
        beta = np.eye(components)[component]
        heights = ", ".join(f"{_height(body, value * beta):.3f} m" for value in (-2, 2))
        rows.append((f"  beta {component} = -2, +2", heights))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def draw_body(body: BodyData, betas: NDArray[np.floating]) -> Image.Image:
    """The T-posed body with `betas` (K,), seen from the front and from its left, side by side."""
    from PIL import Image

    from key2mesh_core.view.render import render_mesh

    vertices = body.shaped(betas)
    middle = (vertices.max(0) + vertices.min(0)) / 2
    extent = max(np.ptp(vertices[:, 1]) / _TILE[1], np.ptp(vertices[:, 0]) / _TILE[0])
    focal = 0.9 * (_DISTANCE_M - np.ptp(vertices[:, 2]) / 2) / float(extent)
    camera = Intrinsics(focal, focal, _TILE[0] / 2, _TILE[1] / 2)
    # From the body's frame (y up, facing us) to the camera's (y down, z away from us).
    front = np.diag([1.0, -1.0, -1.0])
    from_left = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
    sheet = Image.new("RGB", (2 * _TILE[0], _TILE[1]), _PAPER)
    for column, view in enumerate((front, from_left)):
        seen = (vertices - middle) @ view.T + [0, 0, _DISTANCE_M]
        tile = render_mesh(seen, body.triangles, camera, _TILE)
        sheet.paste(tile, (column * _TILE[0], 0), tile)
    return sheet


def _height(body: BodyData, betas: NDArray[np.floating]) -> float:
    return float(np.ptp(body.shaped(betas)[:, 1]))
