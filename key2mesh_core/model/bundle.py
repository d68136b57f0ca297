# SPDX-License-Identifier: Apache-2.0
"""Model bundles: folders with two ONNX graphs, the mesh's topology, weights and a manifest.

    model.json            format, names, the SHA-256 of each other file, the network's
                          architecture, and the model card
    pose.onnx             keypoints and intrinsics -> shape, pose, place of each person
    mesh.onnx             shape, pose, place -> vertices
    topology.npz          triangles (F, 3) and parents (24,)
    weights.safetensors   the network again, for further training and export; a robot
                          does not read it (see network/weights.py). Bundles of format 2 lack it.

A bundle is checked before anything in it is used, so a truncated copy fails at load time and not
through strange poses. The checksums protect against accidents, not attacks: take bundles only from
sources that you trust.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.body.data import BETA_COUNT, JOINT_COUNT
from key2mesh_core.errors import BundleError
from key2mesh_core.io import read_json, standing, write_text
from key2mesh_core.keypoints.table import REQUIRED
from key2mesh_core.model.engines.protocol import Signature

FORMAT, FORMAT_WITHOUT_WEIGHTS = 3, 2
MANIFEST = "model.json"
POSE_GRAPH = "pose.onnx"
MESH_GRAPH = "mesh.onnx"
TOPOLOGY = "topology.npz"
WEIGHTS = "weights.safetensors"
FILES = (POSE_GRAPH, MESH_GRAPH, TOPOLOGY)
"""What a robot needs in addition to the manifest."""

_MANIFEST_LIMIT = 1 << 20  # a manifest has a few kB
_TOPOLOGY_LIMIT = 1 << 28
_VERTEX_LIMIT = 1_000_000
_WAY_OUT = "copy or export the whole bundle again"
_DEFAULT = Path(__file__).parent.parent / "assets" / "models" / "default"

_POSE = {"betas": (BETA_COUNT,), "rotations": (JOINT_COUNT, 3, 3), "translation": (3,)}


def pose_signature(keypoints: int) -> Signature:
    """The signature of the pose graph for a network that takes the first `keypoints` rows of the
    table."""
    return Signature(
        inputs={"keypoints": (keypoints, 3), "intrinsics": (4,)},
        outputs={
            **_POSE,
            "poses": (3 * JOINT_COUNT,),
            "joints": (JOINT_COUNT, 3),
            "reprojection_error": (),
        },
    )


POSE_SIGNATURE = pose_signature(REQUIRED)
"""Without optional keypoints: keypoints (N,K,3) px, px, confidence and intrinsics (N,4) fx fy cx
cy px; out betas (N,10), rotations (N,24,3,3) parent-relative (root in the camera frame),
translation (N,3) of the pelvis, the rotations as axis-angle poses (N,72), joints (N,24,3) in the
camera frame [m], reprojection_error (N,) px RMS over seen keypoints."""


def mesh_signature(vertex_count: int) -> Signature:
    """betas, rotations, translation as above; out vertices (N,V,3) in the camera frame [m]."""
    return Signature(inputs=_POSE, outputs={"vertices": (vertex_count, 3)})


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked bundle.

    Attributes:
        path: its folder.
        name: the model's name.
        body_model: the body's identifier, "name@<12 hex digits>".
        vertex_count: V, vertices of the mesh.
        triangles: (F, 3) int32 vertex indices, counter-clockwise seen from outside.
        parents: (24,) int32, -1 for the root.
        joint_names: 24 names.
        card: training data and measured errors; free form.
        architecture: name and sizes of the network in weights.safetensors; None for a bundle
            without that file.
    """

    path: Path
    name: str
    body_model: str
    vertex_count: int
    triangles: NDArray[np.int32]
    parents: NDArray[np.int32]
    joint_names: tuple[str, ...]
    card: Mapping[str, Any]
    architecture: Mapping[str, Any] | None = None

    @property
    def pose_path(self) -> Path:
        return self.path / POSE_GRAPH

    @property
    def mesh_path(self) -> Path:
        return self.path / MESH_GRAPH

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which lists those of the other files; identifies the model."""
        return _sha256(self.path / MANIFEST)

    @property
    def keypoints(self) -> int:
        """Number of keypoints that the network takes, the first rows of the table of keypoints."""
        return (self.architecture or {}).get("keypoints", REQUIRED)


def load_bundle(path: str | Path = "default") -> Bundle:
    """Read and check a bundle.

    Args:
        path: its folder, or "default" for the one in this package.

    Raises:
        BundleError: the bundle is invalid; names the file, the problem and what to do.
    """
    folder = _DEFAULT if str(path) == "default" else standing(Path(path))
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: no such folder; a bundle is a folder that contains {MANIFEST}, or 'default'"
        )
    manifest = _read_manifest(folder / MANIFEST)
    for name, expected in manifest["files"].items():
        if (found := _sha256(folder / name)) != expected:
            raise BundleError(
                f"{folder / name}: truncated or altered (SHA-256 {found[:12]}..., {MANIFEST} says "
                f"{expected[:12]}...); {_WAY_OUT}"
            )
    triangles, parents = _read_topology(folder / TOPOLOGY, manifest["vertices"])
    return Bundle(
        path=folder,
        name=manifest["name"],
        body_model=manifest["body_model"],
        vertex_count=manifest["vertices"],
        triangles=triangles,
        parents=parents,
        joint_names=tuple(manifest["joint_names"]),
        card=manifest["card"],
        architecture=manifest["architecture"] if manifest["format"] == FORMAT else None,
    )


def write_topology(folder: str | Path, triangles: ArrayLike, parents: ArrayLike) -> None:
    """Write topology.npz: triangles (F, 3) and parents (24,), both as int32."""
    np.savez_compressed(
        Path(folder) / TOPOLOGY,
        triangles=np.asarray(triangles, dtype=np.int32),
        parents=np.asarray(parents, dtype=np.int32),
    )


def write_manifest(
    folder: str | Path,
    *,
    name: str,
    body_model: str,
    vertex_count: int,
    joint_names: Sequence[str],
    card: Mapping[str, Any],
    architecture: Mapping[str, Any] | None = None,
) -> Bundle:
    """Complete a folder with the other files to a bundle, and read it back.

    The manifest is written last and atomically, so an interrupted export never looks like a bundle.

    Raises:
        BundleError: a file is missing, the card is not plain JSON, or the result is not valid.
    """
    folder = Path(folder)
    files = FILES if architecture is None else (*FILES, WEIGHTS)
    manifest = {
        "format": FORMAT_WITHOUT_WEIGHTS if architecture is None else FORMAT,
        "name": name,
        "body_model": body_model,
        "vertices": vertex_count,
        "joint_names": list(joint_names),
        "files": {each: _sha256(folder / each) for each in files},
        **({} if architecture is None else {"architecture": dict(architecture)}),
        "card": dict(card),
    }
    try:
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"{folder / MANIFEST}: not plain JSON: {error}") from error
    _check_manifest(folder / MANIFEST, json.loads(text))
    write_text(folder / MANIFEST, text)
    return load_bundle(folder)


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise BundleError(f"{path}: missing; {_WAY_OUT}")
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BundleError(f"{path}: missing, so this is not a bundle; see `key2mesh export --help`")
    manifest = read_json(path, _MANIFEST_LIMIT, BundleError, _WAY_OUT)
    _check_manifest(path, manifest)
    return manifest


def _check_manifest(path: Path, manifest: Any) -> None:
    """Refuse anything that is not a manifest of this format; checks values before use."""
    if not isinstance(manifest, dict):
        raise BundleError(f"{path}: must contain an object, contains a {type(manifest).__name__}")
    version = manifest.get("format")
    if type(version) is not int or version not in (FORMAT, FORMAT_WITHOUT_WEIGHTS):
        raise BundleError(
            f"{path}: bundle format {version!r:.40}, this version reads the formats "
            f"{FORMAT_WITHOUT_WEIGHTS} and {FORMAT}; export it again, or install another version"
        )
    types = {"name": str, "body_model": str, "vertices": int}
    types |= {"joint_names": list, "files": dict, "card": dict}
    known = set(FILES)
    if version == FORMAT:
        types["architecture"] = dict
        known.add(WEIGHTS)
    for key, kind in types.items():
        if type(manifest.get(key)) is not kind:
            raise BundleError(
                f"{path}: '{key}' must be of type {kind.__name__}, is {manifest.get(key)!r:.40}"
            )
    vertices, names, files = (manifest[key] for key in ("vertices", "joint_names", "files"))
    named = len(names) == JOINT_COUNT and all(isinstance(name, str) for name in names)
    for key, good, rule in (
        ("vertices", 1 <= vertices <= _VERTEX_LIMIT, f"lie within 1 and {_VERTEX_LIMIT}"),
        ("joint_names", named, f"contain {JOINT_COUNT} names"),
        # Only the known names are allowed, so no path can lead out of the folder.
        ("files", set(files) == known, f"name {sorted(known)}"),
    ):
        if not good:
            raise BundleError(f"{path}: '{key}' must {rule}, is {manifest[key]!r:.200}")
    for name, digest in files.items():
        if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise BundleError(f"{path}: SHA-256 of {name} must be 64 hex digits, is {digest!r:.80}")


def _read_topology(path: Path, vertex_count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    try:
        # A small archive can unpack to gigabytes: check the sizes first.
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _TOPOLOGY_LIMIT:
            raise BundleError(f"{path}: unpacks to {size} bytes, too many for a topology")
        with np.load(path, allow_pickle=False) as archive:
            triangles, parents = archive["triangles"], archive["parents"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{path}: not an archive of 'triangles' and 'parents' ({error}); export again"
        ) from error
    for name, array in (("triangles", triangles), ("parents", parents)):
        if array.dtype.kind not in "iu":
            raise BundleError(f"{path}: '{name}' must contain integers, contains {array.dtype}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not len(triangles):
        raise BundleError(f"{path}: 'triangles' must be (F, 3), is {triangles.shape}")
    if triangles.min() < 0 or triangles.max() >= vertex_count:
        raise BundleError(
            f"{path}: 'triangles' must lie within 0 and {vertex_count - 1}, "
            f"lie within {triangles.min()} and {triangles.max()}"
        )
    # Each parent comes before its children, as in SMPL, so that transforms are computed in one
    # pass.
    tree = parents.shape == (JOINT_COUNT,) and parents[0] == -1
    if not tree or not all(0 <= parent < child for child, parent in enumerate(parents[1:], 1)):
        raise BundleError(
            f"{path}: 'parents' must be {JOINT_COUNT} numbers, -1 first and each parent before "
            f"its children, is {parents.ravel()[:JOINT_COUNT].tolist()} of shape {parents.shape}"
        )
    return triangles.astype(np.int32), parents.astype(np.int32)
