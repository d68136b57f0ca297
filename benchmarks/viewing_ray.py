# SPDX-License-Identifier: Apache-2.0
"""What turning the view to the person is worth, by how far from the optical axis they stand.

    python -m benchmarks.viewing_ray --clips path/to/held_out_clips

A network that sees a cropped person as if they stood on the optical axis answers for a camera
turned towards them. The pose graph turns its answer back by the ray through the box's centre. Here
the same bundle is measured with that and without: without, the keypoints are moved to the middle
of the image and the root rotation is taken as it comes, as the paper does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics, fit_translation, project
from key2mesh_core.evaluation.metrics import mpjpe
from key2mesh_core.evaluation.tables import markdown_table
from key2mesh_core.keypoints.arrays import bounding_boxes
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.recordings.amass import find_clips, load_clips
from key2mesh_core.synthesis.batches import synthesise
from key2mesh_core.synthesis.config import SynthesisConfig, without_augmentation
from key2mesh_core.synthesis.motions import MotionBank

CAMERA = Intrinsics(600, 600, 0, 0)

LIMB_JOINTS = (
    *((1, 11), (2, 8), (4, 12), (5, 9), (7, 13), (8, 10)),
    *((16, 5), (17, 2), (18, 6), (19, 3), (20, 7), (21, 4)),
)
"""SMPL joints that network keypoints are: (joint, keypoint) of hips, knees, ankles, shoulders,
elbows, wrists."""


@dataclass(frozen=True)
class ViewingRayConfig:
    """Measures root orientation, pose and place with and without turning the view to the person."""

    clips: Path
    """Folder of motion capture in AMASS layout."""
    model: str = "default"
    """The bundle."""
    body: str = "default"
    """The body file it was trained with."""
    angles: tuple[float, ...] = (0.0, 10.0, 20.0, 30.0, 40.0)
    """How far the person stands to the side of the optical axis [degrees]."""
    distance: float = 3.0
    """Camera to pelvis [m]."""
    frames: int = 1024
    """Frames drawn from the clips."""
    output: Path = Path(__file__).parent / "out" / "viewing_ray.json"
    """Where the numbers go."""


def main(config: ViewingRayConfig) -> list[dict[str, float]]:
    """Prints the table, writes the numbers and returns them, one row an angle."""
    estimator = Estimator(load_bundle(config.model))
    body = BodyModel(load_body(config.body))
    bank = MotionBank([(load_clips(find_clips(config.clips)), 1.0)])
    upright = SynthesisConfig(
        distance=(config.distance, config.distance),
        tilt_degrees=0.0,
        roll_degrees=0.0,
        centre_view=False,
    )
    generator = torch.Generator().manual_seed(0)
    batch = synthesise(bank, body, without_augmentation(upright), config.frames, generator)
    rows = []
    for angle in config.angles:
        turned = np.radians(angle)
        place = config.distance * np.array([np.sin(turned), 0, np.cos(turned)])
        pixels = project(batch.keypoints_3d.numpy() + place, CAMERA)
        keypoints = np.concatenate([pixels, np.ones_like(pixels[..., :1])], 2).astype(np.float32)
        row = {"angle_degrees": angle}
        for name, shown in (("with", keypoints), ("without", centred(keypoints))):
            found = estimator.estimate(shown, CAMERA, vertices=False)
            values = errors(found, batch) | {"place_mm": misplaced(found, keypoints, place)}
            row |= {f"{key}_{name}": value for key, value in values.items()}
        rows.append(row)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))
    return rows


def centred(keypoints: np.ndarray) -> np.ndarray:
    """The same keypoints, each person's box moved to the principal point."""
    boxes = bounding_boxes(keypoints)
    moved = keypoints.copy()
    moved[..., :2] -= ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
    return moved


def errors(found: Bodies, batch: object) -> dict[str, float]:
    """Median root error [degrees] and mean pelvis-centred joint error [mm], camera's axes."""
    product = np.einsum("nab,nab->n", found.rotations[:, 0], batch.rotations[:, 0].numpy())
    root = np.degrees(np.arccos(np.clip((product - 1) / 2, -1, 1)))
    joints = found.joints - found.joints[:, :1]
    return {
        "root_degrees": float(np.median(root)),
        "mpjpe_mm": float(mpjpe(joints, batch.joints.numpy()).mean()),
    }


def misplaced(found: Bodies, keypoints: np.ndarray, place: np.ndarray) -> float:
    """Median distance [mm] of the pelvis from where it is, when the body as it was found is put
    over the keypoints where they were seen (the limbs' joints, which keypoints are)."""
    joints, points = (list(each) for each in zip(*LIMB_JOINTS, strict=True))
    relative = found.joints[:, joints] - found.joints[:, :1]
    fitted = fit_translation(relative, keypoints[:, points], CAMERA)
    return float(1000 * np.median(np.linalg.norm(fitted - place, axis=1)))


def table(rows: list[dict[str, float]]) -> str:
    """The rows as Markdown."""
    header = (
        "off axis",
        *(
            f"{what}, {how}"
            for what in ("root", "MPJPE", "place")
            for how in ("turned", "not turned")
        ),
    )
    cells = [
        (
            f"{row['angle_degrees']:.0f} deg",
            *(f"{row[f'root_degrees_{name}']:.1f} deg" for name in ("with", "without")),
            *(f"{row[f'mpjpe_mm_{name}']:.1f} mm" for name in ("with", "without")),
            *(f"{row[f'place_mm_{name}']:.0f} mm" for name in ("with", "without")),
        )
        for row in rows
    ]
    return markdown_table(header, cells)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(ViewingRayConfig))
